// Whether a target still has the shape of the disk that the kernel keeps.

import type { DevInfo } from "../control/commands/dev-info.ts";
import { getParams } from "../control/commands/index.ts";
import type { Control } from "../control/control.ts";
import { UblkError } from "../errors.ts";
import type { Geometry } from "../target.ts";
import { toParams } from "./params.ts";

/** What a target must not change while its disk waits, in people's words. */
const SHAPE_FIELDS = [
  ["basic_dev_sectors", "size in sectors"],
  ["basic_logical_bs_shift", "logical block size (log2)"],
  ["basic_attrs", "set of attributes"],
  ["basic_max_sectors", "largest request in sectors"],
] as const;

/** A backing that has grown still holds all of the disk, and larger requests need not come. */
const MAY_GROW: readonly string[] = ["basic_dev_sectors", "basic_max_sectors"];

/** A target that has changed its shape would read and write in the wrong places: throws then. */
export async function assertSameShape(
  control: Control,
  { id, ioBufBytes }: DevInfo,
  geometry: Geometry,
): Promise<void> {
  const wanted = toParams(geometry, ioBufBytes);
  const params = await control.run(getParams, id, undefined);
  for (const [field, what] of SHAPE_FIELDS) {
    if (params[field] === wanted[field]) continue;
    if (MAY_GROW.includes(field) && wanted[field]! > params[field]!) continue;
    throw new UblkError(
      `The target of device ${id} has changed: ` +
        `its ${what} is ${wanted[field]}, the kernel's disk has ${params[field]}`,
      { hint: "bring the target back to what it was, then recover again; nothing was changed" },
    );
  }
}
