// What a run of `bun test` has passed, failed and skipped, read from what it printed.

export interface Count {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

export function sum(counts: readonly Count[]): Count {
  const total = (key: keyof Count) => counts.reduce((all, part) => all + part[key], 0);
  return { passed: total("passed"), failed: total("failed"), skipped: total("skipped") };
}

/** Of one run; one that broke off counts as a failure more. */
export function count(output: string, exitCode: number): Count {
  const number = (word: string) =>
    Number(output.match(new RegExp(`^\\s*(\\d+) ${word}\\s*$`, "m"))?.[1] ?? 0);
  const found = { passed: number("pass"), failed: number("fail"), skipped: number("skip") };
  const brokeOff = (exitCode !== 0 && found.failed === 0) || found.passed + found.failed === 0;
  return brokeOff ? { ...found, failed: found.failed + 1 } : found;
}

/** What was printed before each "(fail)" of a run, and that line. */
export function failures(output: string): string[] {
  const texts: string[] = [];
  let text: string[] = [];
  for (const line of output.split("\n")) {
    text.push(line);
    if (line.startsWith("(fail)")) texts.push(text.join("\n").trim());
    if (/^\((pass|skip|todo|fail)\)/.test(line)) text = [];
  }
  return texts;
}
