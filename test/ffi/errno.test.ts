import { beforeAll, expect, test } from "bun:test";

import { ERRNO, errnoName, errnoText } from "../../src/ffi/errno.ts";
import { kernelHeaders73 } from "../support/debian.ts";
import { Gcc } from "./gcc.ts";

let gcc: Gcc;

beforeAll(async () => {
  gcc = await Gcc.open(await kernelHeaders73(), ["linux/errno.h"]);
}, 300_000);

test("every number is what gcc says", async () => {
  const values = await gcc.evaluate(Object.keys(ERRNO));
  expect(Object.fromEntries(values)).toEqual(
    Object.fromEntries(Object.entries(ERRNO).map(([name, errno]) => [name, BigInt(errno)])),
  );
});

test("no errno of the kernel's header is missing", async () => {
  // A macro that stands for another errno (EWOULDBLOCK) is not a name of its own.
  const header = [...(await gcc.macros())].filter(([name, body]) => /^E.*\d/.test(name + body));
  const numbered = header.filter(([name, body]) => /^E[A-Z0-9]+$/.test(name) && /^\d+$/.test(body));
  expect(numbered.length).toBeGreaterThan(130);
  expect(numbered.map(([name]) => name).filter((name) => !(name in ERRNO))).toEqual([]);
});

test("names and words for numbers", () => {
  expect(errnoName(16)).toBe("EBUSY");
  expect(errnoName(9999)).toBe("errno 9999");
  expect(errnoText(16)).toBe("EBUSY (device or resource busy)");
  expect(errnoText(ERRNO.EXFULL)).toBe("EXFULL");
  expect(errnoText(9999)).toBe("errno 9999");
});
