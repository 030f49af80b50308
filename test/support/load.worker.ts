// A thread that loads a target's file, for load.test.ts: like those of queues, it has its own modules.

import { messageOf } from "../../src/errors.ts";
import { loadDefinition } from "../../src/script/load.ts";

declare const self: Worker & { onmessage: ((event: MessageEvent<string>) => void) | null };

self.onmessage = async ({ data }) => {
  try {
    const { kind, options } = await loadDefinition(data);
    self.postMessage(`${kind} ${options.summary}`);
  } catch (error) {
    self.postMessage(messageOf(error));
  }
};
