/** The TypeScript sources as the checks see them: text, syntax tree and imports, read with oxc-parser. */
import { type Dirent, readdirSync, readFileSync } from 'node:fs'
import { join, relative, sep } from 'node:path'
import { type ParseResult, parseSync } from 'oxc-parser'

/** How one module names another: by `import` or `export … from`, by `import()`, or by `new URL('./x.ts', import.meta.url)`, which is how
 *  a worker's file is named. */
export interface Import {
  specifier: string
  line: number
  kind: 'static' | 'dynamic' | 'url'
  /** Erased when the types are stripped. */
  typeOnly: boolean
}

/** A parsed source file; `path` is relative to the root, with forward slashes. */
export interface SourceFile {
  path: string
  text: string
  parsed: ParseResult
  imports: Import[]
  /** Line of an offset, from 1. */
  lineAt(offset: number): number
}

const skippedFolders = new Set(['node_modules', 'dist', '.git', 'coverage'])

/** Every file under `folder` whose name ends in `.ts`, as paths relative to `root`. A folder that is absent holds nothing. */
export function listSources(root: string, folder: string): string[] {
  const found: string[] = []
  const visit = (at: string) => {
    for (const entry of entriesOf(at)) {
      const path = join(at, entry.name)
      if (entry.isDirectory() && !skippedFolders.has(entry.name)) visit(path)
      else if (entry.isFile() && entry.name.endsWith('.ts')) found.push(relative(root, path).split(sep).join('/'))
    }
  }
  visit(join(root, folder))
  return found.sort()
}

function entriesOf(folder: string): Dirent[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** Reads and parses one file. Throws on a syntax error: no other check can say anything about such a file. */
export function readSource(root: string, path: string): SourceFile {
  return parseSource(path, readFileSync(join(root, path), 'utf8'))
}

/** Parses one text. */
export function parseSource(path: string, text: string): SourceFile {
  const parsed = parseSync(path, text)
  const lineAt = lineFinder(text)
  const [syntaxError] = parsed.errors
  if (syntaxError !== undefined) {
    throw new Error(`${path}:${lineAt(syntaxError.labels[0]?.start ?? 0)} syntax: ${syntaxError.message}`)
  }
  return { path, text, parsed, imports: importsOf(parsed, text, lineAt), lineAt }
}

function importsOf(parsed: ParseResult, text: string, lineAt: (offset: number) => number): Import[] {
  const imports: Import[] = []
  const { staticImports, staticExports, dynamicImports } = parsed.module
  for (const { start, moduleRequest, entries } of staticImports) {
    const typeOnly = entries.length > 0 && entries.every(({ isType }) => isType)
    imports.push({ specifier: moduleRequest.value, line: lineAt(start), kind: 'static', typeOnly })
  }
  for (const { start, entries } of staticExports) {
    const [first] = entries
    if (first === undefined || first.moduleRequest === null) continue
    const typeOnly = entries.every(({ isType }) => isType)
    imports.push({ specifier: first.moduleRequest.value, line: lineAt(start), kind: 'static', typeOnly })
  }
  for (const { start, moduleRequest } of dynamicImports) {
    // What is not a plain string cannot be followed; it stays in the list as written, so that a rule can refuse it.
    const written = text.slice(moduleRequest.start, moduleRequest.end)
    const literal = /^(['"`])([^'"`$]*)\1$/.exec(written)
    imports.push({ specifier: literal?.[2] ?? written, line: lineAt(start), kind: 'dynamic', typeOnly: false })
  }
  for (const match of text.matchAll(/new URL\(\s*(['"])(\.{1,2}\/[^'"]+)\1\s*,\s*import\.meta\.url/g)) {
    imports.push({ specifier: match[2] as string, line: lineAt(match.index), kind: 'url', typeOnly: false })
  }
  return imports
}

function lineFinder(text: string): (offset: number) => number {
  const starts = [0]
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) starts.push(at + 1)
  return (offset) => {
    let low = 0
    let high = starts.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if ((starts[middle] as number) <= offset) low = middle
      else high = middle - 1
    }
    return low + 1
  }
}
