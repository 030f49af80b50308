// Which changes of a target a waiting disk can do with.

import { expect, test } from "bun:test";

import type { DevInfo } from "../../src/control/commands/dev-info.ts";
import type { Control } from "../../src/control/control.ts";
import { toParams } from "../../src/device/params.ts";
import { assertSameShape } from "../../src/device/shape.ts";
import type { Geometry } from "../../src/target.ts";

const IO_BUF_BYTES = 512 * 1024;
const before: Geometry = {
  sizeBytes: 1024 ** 2,
  logicalBlockBytes: 512,
  physicalBlockBytes: 4096,
  readOnly: false,
  rotational: false,
  volatileCache: false,
  fua: false,
  maxIoBytes: 65_536,
};
const control = { run: async () => toParams(before, IO_BUF_BYTES) } as unknown as Control;
const info = { id: 3, ioBufBytes: IO_BUF_BYTES } as DevInfo;
const become = (change: Partial<Geometry>) =>
  assertSameShape(control, info, { ...before, ...change });

test.each([{}, { sizeBytes: 2 * 1024 ** 2 }, { maxIoBytes: 131_072 }, { physicalBlockBytes: 512 }])(
  "%j is no other disk",
  (change) => become(change),
);

test.each([
  [{ sizeBytes: 512 * 1024 }, "its size in sectors is 1024, the kernel's disk has 2048"],
  [{ logicalBlockBytes: 4096 }, "its logical block size (log2) is 12"],
  [{ readOnly: true }, "its set of attributes is"],
  [{ volatileCache: true }, "its set of attributes is"],
  [{ maxIoBytes: 4096 }, "its largest request in sectors is 8, the kernel's disk has 128"],
] as const)("%j is another disk", (change, said) =>
  expect(become(change)).rejects.toThrow(`The target of device 3 has changed: ${said}`),
);
