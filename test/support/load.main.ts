// Loads the files that it is given, in the main thread and in a Worker: compiled by load.test.ts. LOAD_MS:
// how long that may take.

import { messageOf } from "../../src/errors.ts";
import { loadDefinition } from "../../src/script/load.ts";
import { output, writeAll } from "../../src/write.ts";

const print = (text: string) => writeAll(output.fd, `${text}\n`);
const exit = process.exit.bind(process);
const limitMs = process.env["LOAD_MS"];

for (const file of process.argv.slice(2)) {
  try {
    const limit = limitMs === undefined ? undefined : Number(limitMs);
    const { kind, options } = await loadDefinition(file, limit);
    print(`main: ${kind} ${options.summary}`);
  } catch (error) {
    print(`main: ${messageOf(error)}`);
  }
  const worker = new Worker(new URL("./load.worker.ts", import.meta.url).href);
  const answer = new Promise<string>((resolve) => {
    worker.onmessage = ({ data }) => resolve(data as string);
  });
  worker.postMessage(file);
  print(`worker: ${await answer}`);
}
exit();
