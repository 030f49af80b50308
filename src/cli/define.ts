// citty's declarations of commands, without its code: that would load node:util into every start, a seventh of it.

import type { defineCommand as CittysDefineCommand } from "citty";

/** A command as citty declares it; its types follow from its options. */
export const defineCommand: typeof CittysDefineCommand = (definition) => definition;
