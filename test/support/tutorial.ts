// The commands and the files that docs/writing-a-target.md has its reader type.

import { readFileSync } from "node:fs";
import { resolve } from "node:path";

const text = readFileSync(resolve(import.meta.dir, "../../docs/writing-a-target.md"), "utf8");

function blocks(language: string): string[] {
  const found = text.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, "gms"));
  return [...found].map(([, block]) => block!);
}

/** Each block of commands, in order. */
export const [init, checkHello, checkRam, checkTemplate, makeDisk, pullThePlug, checkUpper] =
  blocks("sh") as [string, string, string, string, string, string, string];

/** The files to write. */
export const [hello, ram, upper] = blocks("ts") as [string, string, string];
