// Loads the files that it is given, in the main thread and in a Worker: compiled by load.test.ts.

import { messageOf } from "../../src/errors.ts";
import { loadDefinition } from "../../src/script/load.ts";

for (const file of process.argv.slice(2)) {
  try {
    const { kind, options } = await loadDefinition(file);
    console.log(`main: ${kind} ${options.summary}`);
  } catch (error) {
    console.log(`main: ${messageOf(error)}`);
  }
  const worker = new Worker(new URL("./load.worker.ts", import.meta.url).href);
  const answer = new Promise<string>((resolve) => {
    worker.onmessage = ({ data }) => resolve(data as string);
  });
  worker.postMessage(file);
  console.log(`worker: ${await answer}`);
}
process.exit();
