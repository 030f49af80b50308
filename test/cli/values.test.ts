// What the words of a command line mean is what citty would make of them, for every option of every command.

import { expect, test } from "bun:test";

import { type ArgsDef, parseArgs } from "citty";

import { subcommands } from "../../src/cli/commands/index.ts";
import { strictWords } from "../../src/cli/strict.ts";
import { valuesOf } from "../../src/cli/values.ts";

/** The command's options, with those of each target where it has some. */
async function optionsOf(name: string): Promise<ArgsDef[]> {
  const subcommand = subcommands.find((each) => each.name === name)!;
  const lines = [[], ["--target", "null"], ["--target", "loop"], ["--target", "stripe"]];
  return Promise.all(
    lines.map(async (line) => {
      const { args } = await subcommand.load(line);
      return ((typeof args === "function" ? await args() : await args) ?? {}) as ArgsDef;
    }),
  );
}

/** Nothing at all, each option by itself in every way, all of them at once. */
function linesOf(args: ArgsDef): string[][] {
  const ways = Object.entries(args).map(([name, { type }]) => {
    if (type === "positional") return [["some-word"]];
    if (type === "boolean") return [[`--${name}`], [`--no-${name}`]];
    return [[`--${name}=a=b c`], [`--${name}`, "5"], [`--${name.replaceAll("-", "_")}=--x`]];
  });
  return [[], ...ways.flat(), ways.flatMap(([first]) => first!)];
}

test.each(subcommands.map(({ name }) => name))("%s", async (name) => {
  for (const args of await optionsOf(name)) {
    for (const line of linesOf(args)) {
      const words = strictWords(line, args);
      const [ours, cittys] = [valuesOf(words, args), parseArgs(words, args)];
      for (const option of [...Object.keys(args), "_"]) {
        expect([line, option, ours[option]]).toEqual([line, option, cittys[option] as never]);
      }
    }
  }
});
