// The last step from words to values: what citty's parser makes of the words that `strictWords` returns.

import type { ArgsDef } from "citty";

export type Values = Record<string, string | boolean | string[] | undefined>;

/** A value for every option and place that is given or has a default; `_` holds the places' words. */
export function valuesOf(words: readonly string[], args: ArgsDef): Values {
  const values: Values = {};
  for (const [name, def] of Object.entries(args)) {
    if ("default" in def && def.default !== undefined) values[name] = def.default;
  }
  const end = words.indexOf("--");
  const options = end < 0 ? words : words.slice(0, end);
  const places = end < 0 ? [] : words.slice(end + 1);
  for (const option of options) {
    const [, name = "", value] = /^--([^=]+)(?:=(.*))?$/s.exec(option) ?? [];
    if (value !== undefined) values[name] = value;
    else if (args[name] === undefined) values[name.slice("no-".length)] = false;
    else values[name] = true;
  }
  const positionals = Object.entries(args).filter(([, { type }]) => type === "positional");
  positionals.forEach(([name], i) => (values[name] = places[i] ?? values[name]));
  values["_"] = [...places];
  return values;
}
