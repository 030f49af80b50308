// A null that writes down when its fence and its open are called, in a file; the fence fails, or does not
// end, as long as another file is there.

import { appendFileSync, existsSync } from "node:fs";

import { defineTarget } from "../../../../src/target.ts";
import { nullGeometry, nullTarget, openNothing } from "../../../../src/targets/null.ts";

const SIZE_BYTES = 2 ** 30;
const ROUND_MS = 20;

type FencedSpec = { readonly calls: string };

export const fenced = defineTarget({
  name: "fenced",
  summary: "a null with a fence, which tells what is called",
  data: "none",
  args: { calls: { type: "string", required: true } },
  parse: ({ calls }): FencedSpec => ({ calls }),
  async open({ calls }: FencedSpec, { isNew }) {
    appendFileSync(calls, isNew ? "open new\n" : "open\n");
    return openNothing(nullGeometry(SIZE_BYTES));
  },
  serve: (spec, context) => nullTarget.serve(spec, context),
  async fence({ calls }) {
    appendFileSync(calls, "fence\n");
    if (existsSync(`${calls}.broken`)) throw new Error("the backing does not answer");
    while (existsSync(`${calls}.stuck`)) await Bun.sleep(ROUND_MS);
  },
});
