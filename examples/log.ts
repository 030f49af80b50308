// A filter that writes down what a disk is asked for.
//
//   ublk-bun add --target null --filter ./log.ts,path=/tmp/requests
import { appendFileSync } from "node:fs";

import { defineFilter } from "ublk-bun";

export default defineFilter({
  params: {
    path: { type: "path", required: true, help: "file that a line a request is added to" },
  },
  open(below, { path }) {
    const note = (what: string, offset: number, length: number) =>
      appendFileSync(path, `${what} ${offset} ${length}\n`);
    return {
      read(offset, into) {
        note("read", offset, into.length);
        return below.read(offset, into);
      },
      write(offset, from, options) {
        note(options.fua ? "write fua" : "write", offset, from.length);
        return below.write(offset, from, options);
      },
      discard(offset, length) {
        note("discard", offset, length);
        return below.discard(offset, length);
      },
    };
  },
});
