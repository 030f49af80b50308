import { describe, expect, test } from "bun:test";

import { layout, member } from "../../src/ffi/layout.ts";
import { UBLK_CMD, ublk_params, ublksrv_ctrl_cmd } from "../../src/ffi/ublk.ts";

const point = layout(24, {
  tag: ["u8", 0],
  kind: ["u16", 2],
  size: ["u32", 4],
  result: ["s32", 8],
  flags: ["u64", 16],
});

function viewOf(lengthBytes: number): DataView {
  return new DataView(new ArrayBuffer(lengthBytes));
}

describe("layout", () => {
  test("reads what it wrote, little endian, at a base", () => {
    const view = viewOf(32);
    const values = { tag: 255, kind: 0x1234, size: 0xffff_ffff, result: -19, flags: 1n << 63n };
    point.write(view, values, 8);
    expect(point.read(view, 8)).toEqual(values);
    expect([view.getUint8(10), view.getUint8(11)]).toEqual([0x34, 0x12]);
    expect(view.getBigUint64(0)).toBe(0n);
  });

  test("leaves the fields alone that are not given", () => {
    const view = viewOf(24);
    point.write(view, { size: 7 });
    point.write(view, { kind: 1 });
    expect(point.read(view)).toEqual({ tag: 0, kind: 1, size: 7, result: 0, flags: 0n });
  });

  test("takes a safe number for a 64-bit field", () => {
    const view = viewOf(24);
    point.write(view, { flags: Number.MAX_SAFE_INTEGER });
    expect(point.read(view).flags).toBe(BigInt(Number.MAX_SAFE_INTEGER));
  });

  test("knows offsets and size", () => {
    expect(point.sizeBytes).toBe(24);
    expect(point.at.result satisfies 8).toBe(8);
  });

  test.each([
    ["tag", 256],
    ["tag", -1],
    ["kind", 0x1_0000],
    ["size", 2 ** 32],
    ["size", 1.5],
    ["size", Number.NaN],
    ["result", 0x8000_0000],
    ["flags", -1n],
    ["flags", 1n << 64n],
    ["flags", 2 ** 60],
  ])("refuses %s = %p and names both", (field, value) => {
    const write = () => point.write(viewOf(24), { [field]: value });
    expect(write).toThrow(RangeError);
    expect(write).toThrow(`"${field}"`);
    expect(write).toThrow(String(value));
  });

  test("refuses a bigint for a narrow field, a field it does not have, a view too short", () => {
    const wide = { size: 1n as unknown as number };
    expect(() => point.write(viewOf(24), wide)).toThrow(RangeError);
    const unknown: object = { sise: 1 };
    expect(() => point.write(viewOf(24), unknown)).toThrow('No field "sise"');
    expect(() => point.write(viewOf(8), { flags: 1n })).toThrow(RangeError);
  });
});

test("a member's fields carry its name once", () => {
  const inner = layout(8, { a: ["u32", 0], seg_b: ["u32", 4] });
  const outer = layout(16, { len: ["u32", 0], ...member("seg", 8, inner) });
  expect(Object.keys(outer.at)).toEqual(["len", "seg_a", "seg_b"]);
  expect(outer.at.seg_a).toBe(8);
  expect(outer.at.seg_b).toBe(12);
});

test("the kernel's tables read as their users write them", () => {
  expect(UBLK_CMD.ADD_DEV).toBe(0xc020_7504);
  expect(ublksrv_ctrl_cmd.at.data satisfies 16).toBe(16);
  const view = viewOf(ublk_params.sizeBytes);
  ublk_params.write(view, {
    len: 152,
    types: 1,
    basic_dev_sectors: 1n << 53n,
    seg_max_segments: 1,
  });
  expect(view.getBigUint64(24, true)).toBe(1n << 53n);
  expect(ublk_params.read(view).seg_max_segments).toBe(1);
});
