// The module that a target's file imports as "ublk-bun"; its types are in ublk-bun.d.ts.

import type * as Api from "ublk-bun";

import { ERRNO } from "../ffi/errno.ts";
import { UBLK_IO_F, UBLK_IO_OP } from "../ffi/ublk.ts";
import { IOSQE } from "../ffi/uring.ts";
import { addFlags, prepFallocate, prepFsync, prepNop } from "../ring/ops.ts";

/** What made a definition is known by it: a look-alike is no definition. */
const defined = new WeakSet<object>();

function define(kind: Api.Definition["kind"], options: Api.Definition["options"]): Api.Definition {
  const definition = { kind, options };
  defined.add(definition);
  return definition;
}

/** True of what one of the `define…` functions has returned. */
export function isDefinition(value: unknown): value is Api.Definition {
  return typeof value === "object" && value !== null && defined.has(value);
}

export class BlockError extends Error {
  override readonly name = "BlockError";
  readonly code: string;
  readonly errno: number;

  constructor(code: string, message?: string) {
    super(message === undefined ? code : `${code}: ${message}`);
    const errno = (ERRNO as Readonly<Record<string, number>>)[code];
    if (errno === undefined) throw new TypeError(`BlockError: there is no errno "${code}"`);
    this.code = code;
    this.errno = errno;
  }
}

/** All that the module exports. */
export const api: typeof Api = {
  defineTarget: (options) => define("target", options as unknown as Api.Definition["options"]),
  defineFilter: (options) => define("filter", options as unknown as Api.Definition["options"]),
  defineRingTarget: (options) => define("ring", options as unknown as Api.Definition["options"]),
  BlockError,
  IO_OP: UBLK_IO_OP,
  IO_F: UBLK_IO_F,
  IOSQE,
  ERRNO,
  prepNop,
  prepFsync,
  prepFallocate,
  addFlags,
};
