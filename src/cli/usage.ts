// Help texts, made from the same definitions that the words are checked against.

import type { ArgDef, ArgsDef } from "citty";

/** Columns of the left side: an option with its value. */
const OPTION_COLUMNS = 34;
const TEXT_COLUMNS = 100 - OPTION_COLUMNS - 4;

/** "  -q, --queues N                    how many …", one line an option, wrapped. */
export function optionLines(args: ArgsDef, indent = "  "): string[] {
  return Object.entries(args).flatMap(([name, def]) => {
    const left = def.type === "positional" ? name.toUpperCase() : spelled(name, def);
    const [first = "", ...rest] = wrap(describe(def));
    const head = `${indent}${left}`;
    const lines =
      head.length < OPTION_COLUMNS + indent.length
        ? [head.padEnd(OPTION_COLUMNS + indent.length) + first]
        : [head, " ".repeat(OPTION_COLUMNS + indent.length) + first];
    return [...lines, ...rest.map((line) => " ".repeat(OPTION_COLUMNS + indent.length) + line)];
  });
}

function spelled(name: string, def: ArgDef): string {
  const alias = "alias" in def && def.alias !== undefined ? [def.alias].flat() : [];
  const names = [name, ...alias].toSorted((a, b) => a.length - b.length);
  const dashed = names.map((word) => (word.length === 1 ? `-${word}` : `--${word}`)).join(", ");
  if (def.type === "boolean") return dashed;
  return `${dashed} ${("valueHint" in def && def.valueHint) || "N"}`;
}

function describe(def: ArgDef): string {
  const fallback = def.type === "string" && def.default !== undefined ? def.default : undefined;
  return `${def.description ?? ""}${fallback === undefined ? "" : ` (default: ${fallback})`}`;
}

function wrap(text: string): string[] {
  const lines: string[] = [""];
  for (const word of text.split(" ")) {
    const line = lines.at(-1)!;
    if (line !== "" && line.length + 1 + word.length > TEXT_COLUMNS) lines.push(word);
    else lines[lines.length - 1] = line === "" ? word : `${line} ${word}`;
  }
  return lines;
}
