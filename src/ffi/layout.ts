// A C struct as a table of [type, byte offset]: sizes, offsets, reading and writing follow from it.

/** A C integer type. 64-bit ones are read as `bigint`, the others as `number`. */
export type FieldType = "u8" | "u16" | "u32" | "s32" | "u64" | "s64";

/** A struct's members: name to type and byte offset. Members of a union share an offset. */
export type Fields = { readonly [name: string]: readonly [type: FieldType, offsetBytes: number] };

type Read<T extends FieldType> = T extends "u64" | "s64" ? bigint : number;
type Write<T extends FieldType> = T extends "u64" | "s64" ? bigint | number : number;

type Values = { [name: string]: number | bigint };

/** A struct's layout; all of it little endian, as every machine that ublk-bun runs on. */
export interface Layout<F extends Fields> {
  /** What `sizeof` says. */
  readonly sizeBytes: number;
  /** The table itself. */
  readonly fields: F;
  /** Byte offset of each field: what the data path indexes typed arrays with. */
  readonly at: { readonly [K in keyof F]: F[K][1] };
  /**
   * Writes the given fields of the struct at `baseBytes`, in the order given; all other bytes stay
   * as they are.
   * @throws RangeError if a value does not fit its field, or the struct not in the view.
   */
  write(
    view: DataView,
    values: { readonly [K in keyof F]?: Write<F[K][0]> },
    baseBytes?: number,
  ): void;
  /** Reads every field of the struct at `baseBytes`. Allocates: not for the data path. */
  read(view: DataView, baseBytes?: number): { [K in keyof F]: Read<F[K][0]> };
}

/** Declares a struct: `layout(16, { tag: ["u16", 2], addr: ["u64", 8] })`. */
export function layout<const F extends Fields>(sizeBytes: number, fields: F): Layout<F> {
  let at: Layout<F>["at"] | undefined;
  return {
    sizeBytes,
    fields,
    // Made when it is first asked for: of most structs nobody does, and a thread's start would pay for all.
    get at() {
      return (at ??= Object.fromEntries(
        Object.entries(fields).map(([name, [, offset]]) => [name, offset]),
      ) as Layout<F>["at"]);
    },
    write(view, values, baseBytes = 0) {
      for (const [name, value] of Object.entries(values as Values)) {
        const field = fields[name];
        if (field === undefined) throw new RangeError(`No field "${name}" in this struct`);
        const [type, offsetBytes] = field;
        if (!fits(type, value)) {
          throw new RangeError(`Field "${name}" (${type}) cannot hold ${String(value)}`);
        }
        CODECS[type].write(view, baseBytes + offsetBytes, value);
      }
    },
    read(view, baseBytes = 0) {
      const values: Values = {};
      for (const [name, [type, offsetBytes]] of Object.entries(fields)) {
        values[name] = CODECS[type].read(view, baseBytes + offsetBytes);
      }
      return values as { [K in keyof F]: Read<F[K][0]> };
    },
  };
}

type Member<P extends string, F extends Fields> = {
  readonly [K in keyof F & string as K extends `${P}_${string}` ? K : `${P}_${K}`]: readonly [
    F[K][0],
    number,
  ];
};

/**
 * The fields of a struct that is a member of another one, to be spread into its table: member
 * `basic` at 8 with field `attrs` at 0 gives `basic_attrs` at 8. A field that carries the member's
 * name already keeps its own (`seg_boundary_mask` in `seg`).
 */
export function member<const P extends string, F extends Fields>(
  name: P,
  offsetBytes: number,
  struct: Layout<F>,
): Member<P, F> {
  const fields = Object.entries(struct.fields).map(([field, [type, offset]]) => [
    field.startsWith(`${name}_`) ? field : `${name}_${field}`,
    [type, offsetBytes + offset],
  ]);
  return Object.fromEntries(fields) as Member<P, F>;
}

function fits(type: FieldType, value: number | bigint): boolean {
  const { min, max } = CODECS[type];
  // A number above 2^53 has lost bits before it came here, so 64-bit fields take only safe ones.
  const whole = typeof value === "bigint" ? typeof max === "bigint" : Number.isSafeInteger(value);
  return whole && value >= min && value <= max;
}

interface Codec {
  readonly min: number | bigint;
  readonly max: number | bigint;
  read(view: DataView, offset: number): number | bigint;
  write(view: DataView, offset: number, value: number | bigint): void;
}

const CODECS: { readonly [T in FieldType]: Codec } = {
  u8: {
    min: 0,
    max: 0xff,
    read: (view, offset) => view.getUint8(offset),
    write: (view, offset, value) => view.setUint8(offset, Number(value)),
  },
  u16: {
    min: 0,
    max: 0xffff,
    read: (view, offset) => view.getUint16(offset, true),
    write: (view, offset, value) => view.setUint16(offset, Number(value), true),
  },
  u32: {
    min: 0,
    max: 0xffff_ffff,
    read: (view, offset) => view.getUint32(offset, true),
    write: (view, offset, value) => view.setUint32(offset, Number(value), true),
  },
  s32: {
    min: -0x8000_0000,
    max: 0x7fff_ffff,
    read: (view, offset) => view.getInt32(offset, true),
    write: (view, offset, value) => view.setInt32(offset, Number(value), true),
  },
  u64: {
    min: 0n,
    max: 0xffff_ffff_ffff_ffffn,
    read: (view, offset) => view.getBigUint64(offset, true),
    write: (view, offset, value) => view.setBigUint64(offset, BigInt(value), true),
  },
  s64: {
    min: -0x8000_0000_0000_0000n,
    max: 0x7fff_ffff_ffff_ffffn,
    read: (view, offset) => view.getBigInt64(offset, true),
    write: (view, offset, value) => view.setBigInt64(offset, BigInt(value), true),
  },
};
