// Which paths lead to the same place.

import { expect, test } from "bun:test";
import { linkSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { overlap, type Place, placeOf } from "../../src/targets/place.ts";

test("a file is the same by every name; what is not there is no place", () => {
  const folder = mkdtempSync(join(tmpdir(), "ublk-bun-place-"));
  const at = (name: string) => join(folder, name);
  writeFileSync(at("one"), "");
  writeFileSync(at("other"), "");
  symlinkSync(at("one"), at("symlink"));
  linkSync(at("one"), at("hardlink"));
  const one = placeOf(at("one")) as Place;
  for (const name of ["one", "symlink", "hardlink"]) {
    expect(overlap(one, placeOf(at(name)) as Place)).toBe(true);
  }
  expect(overlap(one, placeOf(at("other")) as Place)).toBe(false);
  expect(placeOf(at("missing"))).toBeUndefined();
  expect(placeOf(at("one/below"))).toBeUndefined();
  rmSync(folder, { recursive: true });
});

test("a partition lies on its disk, and on no other partition", () => {
  const disk = { path: "sda", key: "block 8:0" };
  const first = { path: "sda1", key: "block 8:1", diskKey: "block 8:0" };
  const second = { path: "sda2", key: "block 8:2", diskKey: "block 8:0" };
  expect([overlap(disk, first), overlap(first, disk)]).toEqual([true, true]);
  expect(overlap(first, second)).toBe(false);
  expect(overlap({ path: "sdb", key: "block 8:16" }, first)).toBe(false);
});
