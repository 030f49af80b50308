// Lets TypeScript know that a shared library is imported as the path of a file.

declare module "*.so.2" {
  const path: string;
  export default path;
}
