// Imported first, it keeps a thread from loading modules of Node's later than at its start.

process.getBuiltinModule = ((name: string) => {
  throw new Error(`${name} is loaded while a queue gets ready`);
}) as typeof process.getBuiltinModule;
