// A disk that does nothing, by a function that returns a promise. `answer=sync`: by one that returns.
import { defineTarget } from "ublk-bun";

export default defineTarget({
  params: { answer: { type: "string", oneOf: ["promise", "sync"], default: "promise" } },
  open: ({ answer }) => ({
    sizeBytes: 1024 ** 3,
    read: answer === "promise" ? async () => {} : () => {},
  }),
});
