// Beside load.main.ts, where the compiled program looks for the thread that watches.

// oxlint-disable-next-line no-unassigned-import
import "../../src/load-watch.ts";
