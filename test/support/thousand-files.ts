// A thousand files of up to 16 KiB on a mounted disk; what each must hold follows from its number.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";

const NUMBERS = Array.from({ length: 1000 }, (_, i) => i);

const content = (i: number) => Buffer.alloc(1 + ((i * 7919) % 16384), `${i} `);
const place = (folder: string, i: number) => `${folder}/files/${i % 10}/${i}`;

/** Writes them below FOLDER/files. */
export function writeThousandFiles(folder: string): void {
  for (let i = 0; i < 10; i++) mkdirSync(`${folder}/files/${i}`, { recursive: true });
  for (const i of NUMBERS) writeFileSync(place(folder, i), content(i));
}

/** The numbers of those that do not hold what they must. */
export function wrongFiles(folder: string): number[] {
  return NUMBERS.filter((i) => Buffer.compare(readFileSync(place(folder, i)), content(i)) !== 0);
}
