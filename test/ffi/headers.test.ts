// gcc judges src/ffi/ublk.ts, uring.ts and block.ts against Linux 7.3's own headers: every size, offset,
// type and number that is there, and for ublk also that nothing of the header is missing.

import { beforeAll, expect, test } from "bun:test";

import * as block from "../../src/ffi/block.ts";
import type { Fields, Layout } from "../../src/ffi/layout.ts";
import * as ublk from "../../src/ffi/ublk.ts";
import * as uring from "../../src/ffi/uring.ts";
import { kernelHeaders73 } from "../support/debian.ts";
import { Gcc } from "./gcc.ts";

const HEADERS = [
  "linux/io_uring.h",
  "linux/time_types.h",
  "linux/fs.h",
  "linux/stat.h",
  "linux/falloc.h",
  "linux/blkdev.h",
  "linux/errno.h",
  "linux/ioctl.h",
  "linux/ublk_cmd.h",
];

// Tables whose name is not the prefix of the C names.
const PREFIXES: { readonly [table: string]: string } = {
  UBLK_CMD: "UBLK_U_CMD",
  UBLK_IO: "UBLK_U_IO",
  UBLK_CMD_LEGACY: "UBLK_CMD",
  UBLK_IO_LEGACY: "UBLK_IO",
};

// Structs within structs, whose fields our tables have flat.
const MEMBERS: { readonly [struct: string]: { readonly [member: string]: Layout<Fields> } } = {
  ublk_params: {
    basic: ublk.ublk_param_basic,
    discard: ublk.ublk_param_discard,
    devt: ublk.ublk_param_devt,
    zoned: ublk.ublk_param_zoned,
    dma: ublk.ublk_param_dma_align,
    seg: ublk.ublk_param_segment,
    integrity: ublk.ublk_param_integrity,
  },
  io_uring_params: { sq_off: uring.io_sqring_offsets, cq_off: uring.io_cqring_offsets },
};

const TYPES = {
  u8: { sizeBytes: 1n, signed: 0n },
  u16: { sizeBytes: 2n, signed: 0n },
  u32: { sizeBytes: 4n, signed: 0n },
  s32: { sizeBytes: 4n, signed: 1n },
  u64: { sizeBytes: 8n, signed: 0n },
  s64: { sizeBytes: 8n, signed: 1n },
} as const;

type Table = { readonly [name: string]: number | bigint };

const modules: [string, unknown][] = Object.entries({ ...ublk, ...uring, ...block });
const structs = modules.filter((entry): entry is [string, Layout<Fields>] => isLayout(entry[1]));
const numbers = modules.flatMap(([name, value]) => (isLayout(value) ? [] : flatten(name, value)));

let gcc: Gcc;
let text: string;

beforeAll(async () => {
  gcc = await Gcc.open(await kernelHeaders73(), HEADERS);
  text = await gcc.preprocess();
}, 300_000);

test("every number is what gcc says", async () => {
  await expectFromGcc(numbers);
});

test("every struct has gcc's size, and every field its offset, size and sign", async () => {
  const expected = structs.flatMap(([struct, { sizeBytes, fields }]) => [
    [`sizeof(struct ${struct})`, BigInt(sizeBytes)] as const,
    ...Object.entries(fields).flatMap(([name, [type, offsetBytes]]) => {
      const path = pathInC(struct, name);
      const value = `((struct ${struct} *)0)->${path}`;
      return [
        [`offsetof(struct ${struct}, ${path})`, BigInt(offsetBytes)] as const,
        [`sizeof(${value})`, TYPES[type].sizeBytes] as const,
        [`(__typeof__(${value}))-1 < 0`, TYPES[type].signed] as const,
      ];
    }),
  ]);
  await expectFromGcc(expected);
});

test("no macro or enumerator of ublk_cmd.h is missing", async () => {
  const macros = [...(await gcc.macros()).keys()];
  const enumerators = [...text.matchAll(/enum\s*\w*\s*\{([^}]*)\}/g)].flatMap(([, body = ""]) =>
    body.split(",").map((item) => item.trim().split(/\W/)[0] ?? ""),
  );
  const header = [...macros, ...enumerators].filter((name) => name.startsWith("UBLK"));
  const ours = new Set(numbers.map(([name]) => name));
  expect(header.length).toBeGreaterThan(120);
  expect(header.filter((name) => !ours.has(name))).toEqual([]);
});

test("no struct or member of ublk_cmd.h is missing", () => {
  const header = [...text.matchAll(/^struct (ublk\w*) \{/gm)].map(([, struct = ""]) => struct);
  const ours = new Map(structs);
  expect(header.length).toBeGreaterThan(15);
  expect(header.filter((struct) => !ours.has(struct))).toEqual([]);
  for (const struct of header) {
    const names = Object.keys(ours.get(struct)?.fields ?? {});
    const paths = new Set(names.map((name) => pathInC(struct, name).split(/[.[]/)[0]));
    // Padding that is an array has no field: nothing reads or writes it.
    const wanted = membersInC(struct).filter(({ name, array }) => !(array && isPadding(name)));
    expect(wanted.map(({ name }) => name).filter((name) => !paths.has(name))).toEqual([]);
  }
});

/** Evaluates all expressions in one program and compares: the difference shows only wrong ones. */
async function expectFromGcc(wanted: readonly (readonly [string, bigint])[]): Promise<void> {
  expect(wanted.length).toBeGreaterThan(0);
  const values = await gcc.evaluate(wanted.map(([expression]) => expression));
  const wrong = wanted.filter(([expression, value]) => values.get(expression) !== value);
  const lines = wrong.map(([it, value]) => `${it} is ${values.get(it)}, our table says ${value}`);
  expect(lines).toEqual([]);
}

/** `basic_attrs` of ublk_params is `basic.attrs` in C, an array is asked for its first element. */
function pathInC(struct: string, field: string): string {
  for (const [member, { fields }] of Object.entries(MEMBERS[struct] ?? {})) {
    const rest = field.slice(member.length + 1);
    if (!field.startsWith(`${member}_`)) continue;
    if (field in fields) return `${member}.${field}`;
    if (rest in fields) return `${member}.${rest}`;
  }
  const inC = membersInC(struct).find(({ name }) => name === field);
  return inC?.array ? `${field}[0]` : field;
}

/** The members of a struct as the header declares them, those of unnamed unions included. */
function membersInC(struct: string): { name: string; array: boolean }[] {
  const [, body = ""] = new RegExp(`^struct ${struct} \\{\\n(.*?)^\\}`, "ms").exec(text) ?? [];
  const declarations = [...body.matchAll(/(\w+)\s*(\[\w*\])?;/g)];
  return declarations.map(([, name = "", array]) => ({ name, array: array !== undefined }));
}

function isPadding(name: string): boolean {
  return /^(pad|reserved)\d*$/.test(name);
}

function isLayout(value: unknown): value is Layout<Fields> {
  return typeof value === "object" && value !== null && "sizeBytes" in value;
}

/** A table as pairs of C name and value, a plain constant as one pair. */
function flatten(name: string, value: unknown): (readonly [string, bigint])[] {
  if (typeof value === "function") return [];
  const prefix = PREFIXES[name] ?? name;
  const entries: [string, number | bigint][] =
    typeof value === "object"
      ? Object.entries(value as Table).map(([key, number]) => [`${prefix}_${key}`, number])
      : [[name, value as number]];
  return entries.map(([key, number]) => [key, BigInt.asUintN(64, BigInt(number))]);
}
