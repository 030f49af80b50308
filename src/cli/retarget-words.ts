// What `recover --target` takes, and what it says a disk shall do from now on.

import { diskShape } from "../device/disk.ts";
import type { Retarget } from "../device/retarget.ts";
import { parseFilters } from "../filters/index.ts";
import { targetOf } from "../filters/stack.ts";
import { type Spec, type Target, valuesOf } from "../target.ts";

export { targetByOption } from "./target-words.ts";

/** The target's options; the size of a disk that is there need not be said. */
export function optionsFor(target: Target | undefined): Target["args"] {
  const { size, ...rest } = target?.args ?? {};
  if (size?.type !== "string") return target?.args ?? {};
  const { default: _default, required: _required, ...unsaid } = size;
  return { size: unsaid, ...rest };
}

/** Throws UsageError where the target cannot be made of these values. */
export async function retargetOf(
  target: Target,
  id: number,
  args: { readonly filter?: string | undefined },
): Promise<Retarget> {
  await target.load?.();
  const word = args.filter;
  // Undefined: nothing was said.
  const filters =
    word === undefined ? word : await parseFilters(word === "none" ? [] : valuesOf(word));
  const made = { target: target.name, spec: parseFor(target, id, args) };
  const whole = targetOf({ ...made, ...(filters && { filters }) });
  return { ...made, filters, isRepeatable: whole.repeatable?.(made.spec) !== false };
}

/** A target without files has no other place to take its size from than the disk. */
function parseFor(target: Target, id: number, args: object): Spec {
  const { size: option } = target.args;
  const fallback = option?.type === "string" ? option.default : undefined;
  const shape = target.files === undefined ? diskShape(id) : undefined;
  const size = shape === undefined ? fallback : String(shape.sizeBytes);
  return target.parse({ size, ...defined(args) } as never);
}

const defined = (args: object) =>
  Object.fromEntries(Object.entries(args).filter(([, value]) => value !== undefined));
