// A queue's thread that has to do without Node's modules.

/* oxlint-disable no-unassigned-import -- what they do is what counts, in this order */
import "./no-builtins.ts";
import "../../src/worker.ts";
