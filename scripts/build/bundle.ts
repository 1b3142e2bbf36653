/** Joins the emitted modules of a package into few files: a command that starts in tens of milliseconds cannot look up a hundred modules.
 *  Entries, and what several of them share, stay files of their own, so that a class is one class however it is reached. */
import fs from 'node:fs'
import { readdir, rm, writeFile } from 'node:fs/promises'
import { isBuiltin } from 'node:module'
import { join } from 'node:path'
import { type Plugin, rolldown } from 'rolldown'
import { librariesOf, licencesOf } from './licences.ts'
import type { WorkspacePackage } from './workspace.ts'

const engine = ['@moraine/engine', '@moraine/engine/node', '#platform', '#libc']

/** What of the workspace a package takes in, besides its own modules. The command has the engine in it: finding the engine's files took a
 *  fifth of its start. What is imported when it is first needed (verbs, what a format does) stays in files of its own. */
const takenIn: Record<string, readonly string[]> = {
  moraine: engine,
  '@moraine/server': engine,
}

/** Modules that are found by their place in the package, because they run in threads of their own. */
const threads: Record<string, readonly string[]> = {
  '@moraine/server': ['catalog/sqlite/worker.js', 'store/hash-worker.js'],
}

/** Replaces the modules in `dist` by bundles of the package's entries: what its `exports`, `imports` and `bin` name there, and its threads. Types stay as
 *  they are. Libraries that the manifest names among its `devDependencies` are taken in; other packages and `#…` imports are left to be resolved where the package is used. */
export async function bundlePackage({ folder, manifest }: WorkspacePackage): Promise<void> {
  const dist = join(folder, 'dist')
  const entries = [...entriesOf(manifest), ...(threads[manifest.name] ?? [])]
  if (entries.length === 0) return
  const external = isExternal(manifest)
  const bundle = await rolldown({
    input: Object.fromEntries(entries.map((entry) => [entry.replace(/\.js$/, ''), join(dist, entry)])),
    external,
    platform: 'node',
    logLevel: 'warn',
    // What is loaded late by one module and at once by another that is itself loaded late is no fault.
    onLog(level, log, report) {
      if (log.code !== 'INEFFECTIVE_DYNAMIC_IMPORT') report(level, log)
    },
    preserveEntrySignatures: 'allow-extension',
    // What is taken in comes from its sources: what is built of it is joined already.
    resolve: { conditionNames: ['source', 'node', 'import'] },
    plugins: [plainFs, plainText, ...(manifest.name in takenIn ? [] : [atOnce])],
  })
  const before = (await readdir(dist, { recursive: true })).filter((path) => /\.js(\.map)?$/.test(path))
  const { output } = await bundle.write({
    format: 'esm',
    dir: dist,
    entryFileNames: '[name].js',
    // Beside the entries: a module that looks for a file of its package from `import.meta.url` finds it as from the sources.
    chunkFileNames: '[name]-[hash].js',
    sourcemap: true,
    // The sources are in the package and have them.
    comments: { legal: true, annotation: false, jsdoc: false },
  })
  await bundle.close()
  const libraries = librariesOf(output.flatMap((item) => (item.type === 'chunk' ? item.moduleIds : [])))
  if (libraries.length > 0) await writeFile(join(dist, 'LICENCES.txt'), await licencesOf(libraries))
  const written = new Set(output.map(({ fileName }) => fileName))
  for (const path of before) if (!written.has(path)) await rm(join(dist, path))
}

/** What is left to be resolved where the package is used. A package that takes in libraries leaves only what it depends on when it is installed, as native code is. */
function isExternal({
  name,
  dependencies,
  optionalDependencies,
}: WorkspacePackage['manifest']): (id: string) => boolean {
  const workspace = takenIn[name] ?? []
  const left = Object.keys({ ...dependencies, ...optionalDependencies })
  const isLeft = (id: string) => isBuiltin(id) || left.some((one) => id === one || id.startsWith(`${one}/`))
  const takesLibraries = name in threads
  return (id) => {
    if (/^[./\0]/.test(id) || id === plainFsName || workspace.includes(id)) return false
    return !takesLibraries || id.startsWith('#') || isLeft(id)
  }
}

const plainFsName = 'node:fs'

/** node:fs without the namespace that an `import` of it makes, which reads every property of it and so loads the streams and promises that nobody
 *  asked for: 7 ms of each start. */
const plainFs: Plugin = {
  name: 'plain-fs',
  resolveId(id) {
    return id === plainFsName ? `\0${id}` : undefined
  },
  load(id) {
    if (id !== `\0${plainFsName}`) return undefined
    const names = Object.entries(Object.getOwnPropertyDescriptors(fs)).filter(([, { get }]) => get === undefined)
    return [
      `const fs = process.getBuiltinModule('${plainFsName}')`,
      'export default fs',
      `export const { ${names.map(([name]) => name).join(', ')} } = fs`,
    ].join('\n')
  },
}

/** Imports at once what a library's modules import late. Joined, they are loaded at once anyhow; and a bundler that takes some of the library would keep all that
 *  any of it imports late. */
const atOnce: Plugin = {
  name: 'at-once',
  transform(code) {
    const imports: string[] = []
    const take = (name: string, path: string): string => {
      const own = `late${imports.length}`
      imports.push(`import { ${name} as ${own} } from ${path}\n`)
      return own
    }
    const eager = code
      .replace(/\(await import\(('\.[^']+')\)\)\.(\w+)/g, (_, path: string, name: string) => take(name, path))
      .replace(/const \{ (\w+) \} = await import\(('\.[^']+')\)/g, (_, name: string, path: string) => {
        return `const ${name} = ${take(name, path)}`
      })
    return imports.length === 0 ? undefined : { code: imports.join('') + eager, map: null }
  },
}

/** Text that is all ASCII: one other character in a file has all of it decoded to two bytes a character. */
const plainText: Plugin = {
  name: 'plain-text',
  renderChunk(code) {
    const escaped = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
    // biome-ignore lint/suspicious/noControlCharactersInRegex: it is the end of the range.
    return { code: code.replace(/[^\u0000-\u007f]/g, escaped), map: null }
  },
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
