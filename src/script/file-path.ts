// Which word of a command line means a file.

/** True of a target word that names a file, and not one of our own targets. */
export const isFilePath = (target: string) =>
  target.includes("/") || /\.[cm]?[jt]sx?$/.test(target);
