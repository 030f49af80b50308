// Runs one command line: finds the subcommand, checks its words, runs it.

import { UsageError } from "../errors.ts";
import { subcommands } from "./commands/index.ts";
import { exitCodeOf } from "./outcome.ts";
import { print } from "./output.ts";
import { closest, strictWords } from "./strict.ts";
import { valuesOf } from "./values.ts";

/** `words` are those after the program's name; the exit code. */
export function runToExitCode(words: readonly string[]): Promise<number> {
  return exitCodeOf(() => run(words));
}

/** Throws UblkError, whose exit code is the program's. */
async function run(words: readonly string[]): Promise<void> {
  const [first, ...rest] = words;
  if (first === undefined) throw new UsageError("Which command?", "see: ublk-bun help");
  if (first === "--help" || first === "-h") return print(await help());
  const name = first.replaceAll("_", "-");
  const subcommand = subcommands.find((known) => known.name === first || known.name === name);
  if (!subcommand) throw unknownCommand(first);
  if (rest.some((word) => word === "--help" || word === "-h")) {
    return print(await help(subcommand.name));
  }
  const command = await subcommand.load(rest);
  const defs = await (typeof command.args === "function" ? command.args() : command.args);
  const rawArgs = strictWords(rest, defs ?? {}, subcommand.bare);
  const args = valuesOf(rawArgs, defs ?? {}) as never;
  await command.run?.({ rawArgs, args, cmd: command });
}

function unknownCommand(word: string): UsageError {
  const names = subcommands.map(({ name }) => name);
  const near = closest(word, names);
  const what = word.startsWith("-") ? "option" : "command";
  return new UsageError(
    `Unknown ${what} "${word}"`,
    near ? `did you mean ${near}?` : `there are: ${names.join(", ")}`,
  );
}

/** Loaded when asked for: the targets that it shows need what not every host allows (bun:ffi). */
async function help(command?: string): Promise<string> {
  return (await import("./commands/help.ts")).helpText(command);
}
