// The published types, as text inside the executable.

// @ts-expect-error It is text here, whatever its name says.
import text from "../api/ublk-bun.d.ts" with { type: "text" };

export const apiTypes = text as unknown as string;
