// Every subcommand: one line each, loaded when it is asked for.

import type { CommandDef } from "citty";

import type { Bare } from "../strict.ts";

export interface Subcommand {
  readonly name: string;
  readonly summary: string;
  /** Options that may stand without a value. */
  readonly bare?: Bare;
  /** `words` are those after the subcommand: what `add` takes depends on its target. */
  load(words: readonly string[]): Promise<CommandDef>;
}

/** citty's definitions differ in their arguments' types only. */
const command = (module: { readonly default: unknown }) => module.default as CommandDef;

export const subcommands: readonly Subcommand[] = [
  {
    name: "add",
    summary: "make a disk and serve it in the background",
    bare: {
      recovery: { alone: "reissue", value: /^(\d+|reissue|queue|fail|none)$/ },
      r: { alone: "1", value: /^\d+$/ },
      i: { alone: "1", value: /^\d+$/ },
      e: { alone: "1", value: /^\d+$/ },
    },
    load: async (words) => (await import("./add.ts")).addCommand(words),
  },
  {
    name: "recover",
    summary: "serve a disk again whose server has died",
    load: async (words) => (await import("./recover.ts")).recoverCommand(words),
  },
  {
    name: "upgrade",
    summary: "let a newer program take over a disk in use",
    load: async () => command(await import("./upgrade.ts")),
  },
  {
    name: "list",
    summary: "show the disks, or one of them",
    load: async () => command(await import("./list.ts")),
  },
  {
    name: "info",
    summary: "show everything that is known of one disk",
    load: async () => command(await import("./info.ts")),
  },
  {
    name: "stop",
    summary: "remove a disk, but keep its device",
    load: async () => command(await import("./stop.ts")),
  },
  {
    name: "del",
    summary: "remove a disk and its device",
    load: async () => command(await import("./del.ts")),
  },
  {
    name: "quiesce",
    summary: "end a disk's server; its I/O waits for recover",
    load: async () => command(await import("./quiesce.ts")),
  },
  {
    name: "update-size",
    summary: "give a live disk another size",
    load: async () => command(await import("./update-size.ts")),
  },
  {
    name: "watch",
    summary: "recover disks whenever their servers die",
    load: async () => command(await import("./watch.ts")),
  },
  {
    name: "systemd",
    summary: "print or install a systemd unit for watch",
    load: async () => command(await import("./systemd.ts")),
  },
  {
    name: "events",
    summary: "print what has happened to disks, as JSON lines",
    load: async () => command(await import("./events.ts")),
  },
  {
    name: "wait",
    summary: "wait until a disk has a state",
    load: async () => command(await import("./wait.ts")),
  },
  {
    name: "doctor",
    summary: "look for what is wrong, and say what to do",
    load: async () => command(await import("./doctor.ts")),
  },
  {
    name: "check",
    summary: "try whether a target of yours does what a disk must",
    load: async (words) => (await import("./check.ts")).checkCommand(words),
  },
  {
    name: "init",
    summary: "write a folder with a target to start from",
    load: async () => command(await import("./init.ts")),
  },
  {
    name: "types",
    summary: "print the types of the module that a target imports",
    load: async () => command(await import("./types.ts")),
  },
  {
    name: "features",
    summary: "show what this kernel's driver can do",
    load: async () => command(await import("./features.ts")),
  },
  {
    name: "help",
    summary: "explain a command",
    load: async () => command(await import("./help.ts")),
  },
];
