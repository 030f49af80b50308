// A file as a target like any other: its name is its path, its spec says what code it was made with.

import type { ParsedArgs } from "citty";
import type { RingTargetOptions, TargetOptions } from "ublk-bun";

import { api } from "../api/index.ts";
import { assert, placeOf, UsageError } from "../errors.ts";
import {
  type Backing,
  type OpenContext,
  type RingHandler,
  type ServeContext,
  type Target,
  valuesOf as wordsOf,
} from "../target.ts";
import { parseMilliseconds } from "../units.ts";
import { ringDiskProblem, ringGeometryOf } from "./disk.ts";
import { said } from "./instance.ts";
import { assertSources, definitionError, loadTarget, type TargetDefinition } from "./load.ts";
import { checkWords, claimedFiles, valuesOf } from "./params.ts";
import { placeOfCall } from "./places.ts";
import { differences, sourcesOf } from "./sources.ts";

export type ScriptSpec = {
  readonly kind: TargetDefinition["kind"];
  readonly data: Target["data"];
  readonly perQueue: boolean;
  readonly fanOut: number;
  /** It has a fence: its file is loaded for that before anything else in a recovery. */
  readonly hasFence?: true;
  /** "key=value", paths absolute. */
  readonly params: readonly string[];
  /** Variables that its server is given, by name. */
  readonly env: readonly string[];
  /** 0: a request may take for ever. */
  readonly ioTimeoutMs: number;
  /** The code: "sha256  path" of each file. */
  readonly sources: readonly string[];
  /** Files that no second disk may use. */
  readonly claims: readonly string[];
};

/** The function that is called for an operation. */
const CALLS = new Map([
  [api.IO_OP.READ, "read"],
  [api.IO_OP.WRITE, "write"],
  [api.IO_OP.FLUSH, "flush"],
  [api.IO_OP.DISCARD, "discard"],
  [api.IO_OP.WRITE_ZEROES, "writeZeroes"],
]);

type Open = (values: never, context: object) => unknown;

/** These change what a program is, before it runs. */
const DANGEROUS = /^(LD_|BUN_|NODE_|GLIBC_|MALLOC_|MIMALLOC_)/;

const scriptArgs = {
  param: {
    type: "string",
    alias: "p",
    description: "a parameter that the file declares; may be repeated",
    valueHint: "KEY=VALUE",
    repeats: true,
  },
  env: {
    type: "string",
    description: "a variable of this environment that its server is given; may be repeated",
    valueHint: "NAME",
    repeats: true,
  },
  "io-timeout": {
    type: "string",
    description: "a request that is not answered by then fails; 0: never",
    valueHint: "TIME",
    default: "30s",
  },
} as const;

type ScriptArgs = ParsedArgs<typeof scriptArgs>;

const known = new Map<string, Target>();

/** The target of a file, an absolute path; the same one each time. */
export function scriptTarget(file: string): Target {
  const target = known.get(file) ?? (new Script(file) as unknown as Target);
  known.set(file, target);
  return target;
}

class Script implements Target<ScriptSpec, typeof scriptArgs> {
  readonly name: string;
  readonly summary = "a disk whose code is a file of your own";
  readonly args = scriptArgs;
  readonly data = "address";
  #definition: TargetDefinition | undefined;

  constructor(file: string) {
    this.name = file;
  }

  async load(): Promise<void> {
    this.#definition ??= await loadTarget(this.name);
  }

  parse(args: ScriptArgs): ScriptSpec {
    const env = wordsOf(args.env);
    for (const name of env) checkName(name);
    return this.#spec(wordsOf(args.param), {
      env,
      ioTimeoutMs: parseMilliseconds(args["io-timeout"], "--io-timeout"),
    });
  }

  /** The spec of the same words with the code as it is now. */
  async renew({ params, env, ioTimeoutMs }: ScriptSpec): Promise<ScriptSpec> {
    await this.load();
    return this.#spec(params, { env, ioTimeoutMs });
  }

  changed({ sources }: ScriptSpec): readonly string[] {
    return differences(sources, sourcesOf(this.name));
  }

  dataOf({ data }: ScriptSpec): Target["data"] {
    return data;
  }

  hosting({ kind, perQueue }: ScriptSpec): "one" | "each" | undefined {
    if (kind === "ring") return undefined;
    return perQueue ? "each" : "one";
  }

  describeCall(op: number): string {
    const call = CALLS.get(op) ?? "read";
    return `${placeOfCall(this.name, call)}: ${call} does not return`;
  }

  env({ env }: ScriptSpec): readonly string[] {
    return env;
  }

  files({ claims }: ScriptSpec): readonly string[] {
    return claims;
  }

  repeatable(): boolean {
    return this.#definition?.options.repeatable !== false;
  }

  fanOut({ fanOut }: ScriptSpec): number {
    return fanOut;
  }

  hasFence(spec: ScriptSpec): boolean {
    return spec.hasFence === true;
  }

  async fence(spec: ScriptSpec, { identity }: Pick<OpenContext, "identity">): Promise<void> {
    await this.load();
    assertSources("target", this.name, spec.sources);
    const { params = {}, fence } = this.#definition!.options;
    const values = valuesOf(params, spec.params);
    try {
      await fence?.(values as never, { identity });
    } catch (error) {
      throw said(`${placeOf(error) ?? placeOfCall(this.name, "fence")}: fence failed`, error);
    }
  }

  /** Of a ring target; any other is opened in the thread that serves it. */
  async open(spec: ScriptSpec, context: OpenContext): Promise<Backing> {
    const options = await this.#ringOptions();
    assertSources("target", this.name, spec.sources);
    const values = valuesOf(options.params ?? {}, spec.params);
    const { deviceId, identity, isNew, queues = 1 } = context;
    const open = options.open as Open;
    const disk = await open(values as never, { deviceId, identity, isNew, queues });
    const problem = ringDiskProblem(disk);
    if (problem !== undefined) throw definitionError(this.name, problem);
    const checked = disk as Awaited<ReturnType<RingTargetOptions<{}>["open"]>>;
    return {
      geometry: ringGeometryOf(checked),
      fds: checked.fds,
      facts: checked.facts ?? {},
      [Symbol.asyncDispose]: async () => void (await checked.close?.()),
    };
  }

  serve(spec: ScriptSpec, { facts, fds, queue }: ServeContext): RingHandler {
    const options = this.#definition?.options as RingTargetOptions<{}> | undefined;
    assert(options !== undefined, "a target's file is loaded before it serves");
    const values = valuesOf(options.params ?? {}, spec.params);
    const serve = options.serve as (context: object) => RingHandler;
    const handler = serve({ params: values, facts: facts as never, fds, queue });
    const isHandler = typeof handler?.start === "function" && typeof handler.finish === "function";
    if (isHandler) return handler;
    throw definitionError(this.name, "serve returned no handler: start and finish are functions");
  }

  async #ringOptions(): Promise<RingTargetOptions<{}>> {
    await this.load();
    return this.#definition!.options as RingTargetOptions<{}>;
  }

  #spec(params: readonly string[], rest: Pick<ScriptSpec, "env" | "ioTimeoutMs">): ScriptSpec {
    const definition = this.#definition;
    assert(definition !== undefined, "a target's file is loaded before its words are read");
    const { kind, options } = definition;
    const declared = options.params ?? {};
    const words = checkWords(declared, params);
    const ring = kind === "ring" ? (options as RingTargetOptions<{}>) : undefined;
    return {
      kind,
      data: ring?.data ?? "address",
      perQueue: ring === undefined && (options as TargetOptions<{}>).perQueue === true,
      fanOut: ring?.sqesPerRequest ?? 1,
      ...(options.fence && { hasFence: true }),
      params: words,
      ...rest,
      sources: sourcesOf(this.name),
      claims: claimedFiles(declared, words),
    };
  }
}

/** Whether a variable of this name may reach a server. Throws UsageError. */
export function checkName(name: string): void {
  if (!/^[A-Za-z_]\w*$/.test(name)) {
    throw new UsageError(`--env "${name}" is not the name of a variable`, "its value is not given");
  }
  if (DANGEROUS.test(name))
    throw new UsageError(`--env ${name} is not possible`, "it would change the server itself");
}
