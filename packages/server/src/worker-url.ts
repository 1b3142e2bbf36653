/** Finds the file of a worker beside the module that starts it, in the sources (`.ts`) and in the built package (`.js`). */

/** @param base `import.meta.url` of the caller. @param name The file's path from there, without its extension. */
export function workerUrl(base: string, name: string): URL {
  return new URL(`${name}${base.endsWith('.ts') ? '.ts' : '.js'}`, base)
}
