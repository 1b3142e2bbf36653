/** Finds the module of a worker thread: among the sources (`.ts`), in the built package (`.js`), and in the standalone executable, which keeps modules
 *  by their place under `packages`. */

const embedded = 'file:///$bunfs/root/'

/** @param path The module from this package's `src`, without its extension. */
export function workerUrl(path: string): URL {
  if (import.meta.url.startsWith(embedded)) return new URL(`server/src/${path}.js`, embedded)
  return new URL(`./${path}${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url)
}
