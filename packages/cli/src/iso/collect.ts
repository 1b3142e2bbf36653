/** The files of this machine that go into a new file system. */
import {
  closeSync,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  type Stats,
  statSync,
} from 'node:fs'
import { basename, join } from 'node:path'
import { type ByteSource, type Extent, MoraineError, type NewEntry } from '@moraine/engine'
import { openFile } from '@moraine/engine/node'
import { Failure } from '../failure.ts'
import { readGivenFile } from '../given-file.ts'

const smallBytes = 256 * 1024

/** How files are taken. */
export interface CollectOptions {
  /** Keep owners; otherwise all belongs to root. */
  owners: boolean
  /** No file is newer than this: seconds since 1970. */
  newest: number | undefined
  /** Something is left out. */
  warn(message: string): void
}

/** What was collected. */
export interface Collected {
  entries: NewEntry[]
  /** Device and inode of each file, as `target` is compared. */
  identities: Set<string>
}

/** Takes folders (their content), files (under their own names), and `PATH=SOURCE` (under that path).
 *  @throws Failure */
export function collect(sources: readonly string[], options: CollectOptions): Collected {
  const found: Collected = { entries: [], identities: new Set() }
  for (const source of sources) {
    const { path, from } = readGraft(source)
    const there = statSync(from, { throwIfNoEntry: false })
    if (there === undefined) throw new Failure(`Could not open '${from}': No such file or directory`)
    if (there.isDirectory()) {
      if (path !== '') found.entries.push(entryOf(path, there, options, { kind: 'directory' }))
      collectFolder(from, path, options, found)
    } else add(from, path === '' ? basename(from) : path, there, options, found)
  }
  return found
}

/** The lines of a file, each a source; empty ones and those that begin with `#` are left out.
 *  @throws Failure */
export async function readSourceList(file: string): Promise<string[]> {
  const text = new TextDecoder().decode(await readGivenFile(file, { stdin: true }))
  return text.split(/\r?\n/).filter((line) => line !== '' && !line.startsWith('#'))
}

/** A source that is there under its whole name is that one, whatever stands in it. */
function readGraft(source: string): { path: string; from: string } {
  const at = source.indexOf('=')
  if (at <= 0 || statSync(source, { throwIfNoEntry: false }) !== undefined) return { path: '', from: source }
  const path = source.slice(0, at).replace(/^\/+/, '').replace(/\/+$/, '')
  return { path, from: source.slice(at + 1) }
}

function collectFolder(folder: string, path: string, options: CollectOptions, found: Collected): void {
  for (const name of readdirSync(folder)) {
    const from = join(folder, name)
    const there = lstatSync(from)
    add(from, path === '' ? name : `${path}/${name}`, there, options, found)
  }
}

function add(from: string, path: string, there: Stats, options: CollectOptions, found: Collected): void {
  if (there.isDirectory()) {
    found.entries.push(entryOf(path, there, options, { kind: 'directory' }))
    collectFolder(from, path, options, found)
  } else if (there.isSymbolicLink()) {
    found.entries.push(entryOf(path, there, options, { kind: 'symlink', target: readlinkSync(from) }))
  } else if (there.isFile()) {
    const { size } = there
    const identity = `${there.dev}:${there.ino}`
    found.identities.add(identity)
    found.entries.push(
      entryOf(path, there, options, {
        kind: 'file',
        size,
        open: () => openContent(from, size),
        identity: there.nlink > 1 ? identity : undefined,
      }),
    )
  } else options.warn(`'${from}' is no file, folder or link and is left out`)
}

async function openContent(path: string, size: number): Promise<ByteSource> {
  return size > smallBytes ? await openFile(path) : new SmallFile(path)
}

/** A small file, read in the calling thread: that costs less than opening it for whatever may come, and nothing is kept of it. */
class SmallFile implements ByteSource {
  readonly name: string
  readonly size: number
  readonly #descriptor: number

  constructor(path: string) {
    this.name = path
    this.#descriptor = openSync(path, 'r')
    this.size = fstatSync(this.#descriptor).size
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    for (let done = 0; done < into.length; ) {
      const count = readSync(this.#descriptor, into, done, into.length - done, offset + done)
      if (count === 0) throw new MoraineError('io', 'it has become shorter while it was read', { path: this.name })
      done += count
    }
  }

  async *extents(offset: number, length: number): AsyncGenerator<Extent[]> {
    yield [{ offset, length, allocated: true, data: true, zero: false, depth: 0 }]
  }

  async close(): Promise<void> {
    closeSync(this.#descriptor)
  }
}

function entryOf(
  path: string,
  { mode, uid, gid, mtimeMs }: Stats,
  { owners, newest }: CollectOptions,
  rest: Omit<NewEntry, 'path'>,
): NewEntry {
  const modified = Math.floor(mtimeMs / 1000)
  return {
    path,
    mode: mode & 0o7777,
    ...(owners && { uid, gid }),
    modified: newest === undefined ? modified : Math.min(modified, newest),
    ...rest,
  }
}

/** The time that the environment wants of what is made, so that it is the same each time: seconds since 1970. Source: reproducible-builds.org, SOURCE_DATE_EPOCH.
 *  @throws Failure */
export function sourceDate(): number | undefined {
  const text = process.env.SOURCE_DATE_EPOCH
  if (text === undefined || text === '') return undefined
  if (/^\d{1,11}$/.test(text)) return Number(text)
  throw new Failure(`SOURCE_DATE_EPOCH is no number of seconds: '${text}'`)
}
