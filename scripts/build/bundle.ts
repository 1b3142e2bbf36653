/** Joins the emitted modules of a package into few files: a command that starts in tens of milliseconds cannot look up a hundred modules.
 *  Entries, and what several of them share, stay files of their own, so that a class is one class however it is reached. */
import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { rolldown } from 'rolldown'
import type { WorkspacePackage } from './workspace.ts'

/** Replaces the modules in `dist` by bundles of the package's entries: what its `exports`, `imports` and `bin` name there. Types stay as
 *  they are. Packages and `#…` imports are left to be resolved where the package is used. */
export async function bundlePackage({ folder, manifest }: WorkspacePackage): Promise<void> {
  const dist = join(folder, 'dist')
  const entries = entriesOf(manifest)
  if (entries.length === 0) return
  const bundle = await rolldown({
    input: Object.fromEntries(entries.map((entry) => [entry.replace(/\.js$/, ''), join(dist, entry)])),
    external: (id) => !id.startsWith('.') && !id.startsWith('/'),
    platform: 'node',
    logLevel: 'warn',
  })
  const before = (await readdir(dist, { recursive: true })).filter((path) => /\.js(\.map)?$/.test(path))
  const { output } = await bundle.write({
    format: 'esm',
    dir: dist,
    entryFileNames: '[name].js',
    // Beside the entries: a module that looks for a file of its package from `import.meta.url` finds it as from the sources.
    chunkFileNames: '[name]-[hash].js',
    sourcemap: true,
  })
  await bundle.close()
  const written = new Set(output.map(({ fileName }) => fileName))
  for (const path of before) if (!written.has(path)) await rm(join(dist, path))
}

/** Every `./dist/….js` that a manifest names, relative to `dist`. */
export function entriesOf(manifest: WorkspacePackage['manifest']): string[] {
  const found = new Set<string>()
  const visit = (value: unknown): void => {
    if (typeof value === 'string') {
      const match = /^(?:\.\/)?dist\/(.+\.js)$/.exec(value)
      if (match?.[1] !== undefined) found.add(match[1])
    } else if (typeof value === 'object' && value !== null) {
      for (const inner of Object.values(value)) visit(inner)
    }
  }
  visit([manifest.exports, manifest.imports, manifest.bin])
  return [...found].sort()
}
