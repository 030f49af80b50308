// A read-only disk that fetches every request from a web server.
import { defineTarget } from "ublk-bun";

export default defineTarget({
  params: { url: { type: "string", required: true } },
  open: ({ url }) => ({
    sizeBytes: 1024 ** 3,
    async read(_offset, into) {
      into.set(await (await fetch(url)).bytes());
    },
  }),
});
