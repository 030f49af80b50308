// gcc judges our table of liburing's struct io_uring, and the library loads from memory.

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { UblkError } from "../../src/errors.ts";
import { io_uring, liburingPath, loadLiburing } from "../../src/ffi/liburing.ts";
import { kernelHeaders73, liburingDev } from "../support/debian.ts";

test("struct io_uring is where liburing.h says", async () => {
  const { include } = await liburingDev();
  const kernel = await kernelHeaders73();
  const folder = mkdtempSync(join(tmpdir(), "ublk-bun-liburing-"));
  const asserts = Object.entries(io_uring.at).map(([field, offset]) => {
    const member = field.replace(/^([sc]q)_/, "$1.");
    return `_Static_assert(offsetof(struct io_uring, ${member}) == ${offset}, "${field}");`;
  });
  const source = join(folder, "offsets.c");
  writeFileSync(
    source,
    `#include <liburing.h>\n#include <stddef.h>\n${asserts.join("\n")}
_Static_assert(sizeof(struct io_uring) == ${io_uring.sizeBytes}, "size");\n`,
  );
  const paths = [include, kernel, join(kernel, "x86_64-linux-gnu")];
  const flags = paths.flatMap((path) => ["-isystem", path]);
  const { exitCode, stderr } = Bun.spawnSync(["gcc", "-fsyntax-only", ...flags, source]);
  rmSync(folder, { recursive: true });
  expect(stderr.toString()).toBe("");
  expect(exitCode).toBe(0);
}, 120_000);

test("the built-in library loads from memory; a wrong path says what to do", () => {
  const path = liburingPath();
  expect(path).toMatch(/^\/proc\/self\/fd\/\d+$/);
  expect(loadLiburing(path).io_uring_enter).toBeDefined();
  expect(liburingPath("/lib/other.so")).toBe("/lib/other.so");
  expect(() => loadLiburing("/nowhere/liburing.so.2")).toThrow(UblkError);
  expect(() => loadLiburing("/nowhere/liburing.so.2")).toThrow('"/nowhere/liburing.so.2"');
});
