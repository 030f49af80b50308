// Tests of the ordinary mode that run once more with --batch: the same files, their disks with that word.

/** UBLK_TEST_BATCH=1: `npm run test:kernel -- --batch FILE…`. */
export const isBatch = process.env["UBLK_TEST_BATCH"] === "1";

/** For an `add` that does not go through `withBatch`. */
export const batchWords: readonly string[] = isBatch ? ["--batch"] : [];

/** There already, or not to be had together with it. */
const WITHOUT = /^(?:-b|--batch|-g|--get[-_]data|--filter(?:=.*)?)$/;

/** The words of a command; those of an `add` get `--batch` in such a run. */
export function withBatch(words: readonly string[]): readonly string[] {
  if (words[0] !== "add" || words.some((word) => WITHOUT.test(word))) return words;
  return [...words, ...batchWords];
}

/** The kernel of them all that has it. */
export const BATCH_KERNEL = "7.3";

const names = (text: string) => text.split(/\s+/).map((name) => `test/kernel/${name}.test.ts`);

/** Of those, what `npm test` runs. */
export const BATCH_FILES_SHORT = names("verified");

/** Everything about data and recovery. */
export const BATCH_FILES = [
  ...BATCH_FILES_SHORT,
  ...names(
    "fault-inject recovery-modes life loop loop-faults mem stripe layers many mounted update-size",
  ),
  ...names(
    "recovery recovery-held recovery-interrupted faults quiesce upgrade watch standby torture",
  ),
];
