/** ISO images in tests: trees as files, as moraine reads them, and as other programs made them. */
import { createHash } from 'node:crypto'
import { chmodSync, mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { type ByteSource, type IsoEntry, type IsoFileSystem, MemoryStore, type NewEntry } from '@moraine/engine'

/** What a tree holds, by paths from the root: text or bytes of files, `-> target` of links; paths that end in a slash are folders. */
export type Tree = Record<string, string | Uint8Array>

/** The time that all files of a tree have: seconds since 1970. */
export const treeTime = 1_700_000_000

/** Makes a tree below a folder. */
export function plantTree(folder: string, tree: Tree, modes: Record<string, number> = {}): void {
  mkdirSync(folder, { recursive: true })
  const folders = new Set([folder])
  for (const [path, content] of Object.entries(tree)) {
    const full = join(folder, path)
    mkdirSync(path.endsWith('/') ? full : dirname(full), { recursive: true })
    for (let at = dirname(full); at.length > folder.length; at = dirname(at)) folders.add(at)
    if (path.endsWith('/')) folders.add(full)
    else if (typeof content === 'string' && content.startsWith('-> ')) symlinkSync(content.slice(3), full)
    else {
      writeFileSync(full, content)
      utimesSync(full, treeTime, treeTime)
      chmodSync(full, modes[path] ?? 0o644)
    }
  }
  for (const path of folders) {
    utimesSync(path, treeTime, treeTime)
    chmodSync(path, 0o755)
  }
}

/** sha256 of all bytes. */
export async function sourceSha(source: ByteSource): Promise<string> {
  const hash = createHash('sha256')
  const piece = new Uint8Array(65_536)
  for (let at = 0; at < source.size; at += piece.length) {
    const part = piece.subarray(0, Math.min(piece.length, source.size - at))
    await source.read(at, part)
    hash.update(part)
  }
  return hash.digest('hex')
}

/** Every entry by its path, as a line that says what it is and holds. */
export async function describeFiles(
  files: IsoFileSystem,
  line: (entry: IsoEntry, sha: string) => string,
): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for await (const entry of files.walk()) {
    const sha = entry.kind === 'file' ? (await sourceSha(await files.open(entry))).slice(0, 16) : ''
    if (entry.path in found) throw new Error(`${entry.path} stands there twice`)
    found[entry.path] = line(entry, sha)
  }
  return found
}

/** What `describeFiles` says of a tree, with the line `kind content`. */
export function expectedFiles(tree: Tree, keepsLinks = true): Record<string, string> {
  const expected: Record<string, string> = {}
  for (const [path, content] of Object.entries(tree)) {
    const names = path.replace(/\/$/, '').split('/')
    for (let depth = 1; depth < names.length; depth++) expected[`/${names.slice(0, depth).join('/')}`] = 'directory '
    const full = `/${names.join('/')}`
    if (path.endsWith('/')) expected[full] = 'directory '
    else if (typeof content === 'string' && content.startsWith('-> ')) {
      if (keepsLinks) expected[full] = `symlink ${content.slice(3)}`
    } else expected[full] = `file ${createHash('sha256').update(content).digest('hex').slice(0, 16)}`
  }
  return expected
}

/** The line that `expectedFiles` gives. */
export function kindAndContent({ kind, target }: IsoEntry, sha: string): string {
  return `${kind} ${kind === 'symlink' ? target : sha}`
}

/** The entries of a tree, in the order in which it names them. */
export function entriesOf(tree: Tree, modes: Record<string, number> = {}): NewEntry[] {
  return Object.entries(tree).map(([path, content]): NewEntry => {
    const common = { path: path.replace(/\/$/, ''), modified: treeTime, mode: modes[path] }
    if (path.endsWith('/')) return { ...common, kind: 'directory' }
    if (typeof content === 'string' && content.startsWith('-> ')) {
      return { ...common, kind: 'symlink', target: content.slice(3) }
    }
    const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content
    return { ...common, kind: 'file', size: bytes.length, open: async () => MemoryStore.from(bytes, path) }
  })
}

/** A planned stream, whole. */
export async function bytesOf(plan: {
  length: number | undefined
  chunks(): AsyncIterable<Uint8Array>
}): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  for await (const chunk of plan.chunks()) chunks.push(chunk)
  const bytes = new Uint8Array(Buffer.concat(chunks))
  if (bytes.length !== plan.length) throw new Error(`${plan.length} bytes were promised and ${bytes.length} came`)
  return bytes
}
