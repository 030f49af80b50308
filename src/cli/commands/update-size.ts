// update-size: gives a live disk another size.

import { diskPath } from "../../device/disk.ts";
import { resizeDevice } from "../../device/resize.ts";
import { UsageError } from "../../errors.ts";
import { formatBytes, parseBytes } from "../../units.ts";
import { commonArgs, idArgs, jsonArg, requiredId } from "../args.ts";
import { defineCommand } from "../define.ts";
import { print, printJson } from "../output.ts";
import { openSession } from "../session.ts";

interface Words {
  readonly id?: string | undefined;
  readonly number?: string | undefined;
  readonly new_size?: string | undefined;
  readonly size?: string | undefined;
}

export default defineCommand({
  meta: { name: "update-size", description: "Give a live disk another size." },
  args: {
    id: idArgs.id,
    new_size: { type: "positional", required: false, description: "the size, without --size" },
    number: idArgs.number,
    size: {
      type: "string",
      alias: "s",
      description: "the new size, with suffix (KiB, MiB, GiB, TiB)",
      valueHint: "SIZE",
    },
    force: { type: "boolean", description: "shrink it even while it is open" },
    ...jsonArg,
    ...commonArgs,
  },
  run: async ({ args }) => {
    const { id, sizeBytes } = readSizeWords(args);
    using session = await openSession(args);
    const resized = await resizeDevice(id, sizeBytes, { ...session, force: args.force === true });
    if (args.json) return printJson(resized);
    const { previousSizeBytes: before } = resized;
    const was = before === sizeBytes ? "as before" : `it had ${formatBytes(before)}`;
    print(`${diskPath(id)} has ${formatBytes(sizeBytes)} (${sizeBytes} bytes), ${was}`);
  },
});

/** `ID SIZE`, `ID --size SIZE`, `-n ID SIZE` or `-n ID --size SIZE`. */
export function readSizeWords(words: Words): { id: number; sizeBytes: number } {
  const [first, second] = [words.id, words.new_size];
  // With the device named by -n, the first word is free for the size.
  const isFirstSize =
    words.number !== undefined && second === undefined && words.size === undefined;
  const id = requiredId({ ...words, id: isFirstSize ? undefined : first });
  const byWord = isFirstSize ? first : second;
  if (byWord !== undefined && words.size !== undefined) {
    throw new UsageError(`Two sizes are given: ${byWord} and ${words.size}`, "give one");
  }
  const text = byWord ?? words.size;
  if (text === undefined) throw new UsageError("Which size?", "such as --size 64GiB");
  const sizeBytes = parseBytes(text, "--size");
  if (sizeBytes > 0) return { id, sizeBytes };
  throw new UsageError("A disk of 0 bytes is none", "to remove it: ublk-bun del");
}
