/** Extracts the files of an image into a folder, and never leaves it: the names are a stranger's. */
import {
  closeSync,
  fchmodSync,
  fstatSync,
  futimesSync,
  lstatSync,
  mkdirSync,
  openSync,
  realpathSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeSync,
} from 'node:fs'
import { join, sep } from 'node:path'
import {
  type ByteSource,
  type IsoEntry,
  type IsoFileSystem,
  isMoraineError,
  type StreamPlan,
  throwIfCancelled,
} from '@moraine/engine'
import { explain } from '../failure.ts'
import { plainText } from '../image/error-text.ts'
import type { Context } from '../verb.ts'

/** Which symbolic links are made. */
export const linkRules = ['inside', 'all', 'none'] as const
export type LinkRule = (typeof linkRules)[number]

const chunkBytes = 1024 * 1024

/** The bytes of a source, front to back. */
export function sourceStream(source: ByteSource): StreamPlan {
  return {
    length: source.size,
    async *chunks(signal) {
      for (let at = 0; at < source.size; at += chunkBytes) {
        throwIfCancelled(signal, source.name)
        const chunk = new Uint8Array(Math.min(chunkBytes, source.size - at))
        await source.read(at, chunk, signal)
        yield chunk
      }
    },
  }
}

/** Said of one entry; the others go on. */
class Obstacle extends Error {}

/** One extraction. */
export class Extraction {
  readonly counts = { files: 0, folders: 0, links: 0 }
  /** Entries that were not extracted; each was said. */
  problems = 0
  readonly #context: Context
  readonly #target: string
  readonly #force: boolean
  readonly #links: LinkRule
  #root: string | undefined
  /** Folders known to be real ones, by their paths in the image. */
  readonly #folders = new Set<string>()
  /** What was made, by identity: on a file system that takes two names for one, the second must not replace the first. */
  readonly #made = new Set<string>()
  readonly #pendingLinks: IsoEntry[] = []
  readonly #pendingFolders: IsoEntry[] = []

  constructor(context: Context, target: string, { force, links }: { force: boolean; links: LinkRule }) {
    this.#context = context
    this.#target = target
    this.#force = force
    this.#links = links
  }

  /** Extracts one entry, and the folders that it is in. Symbolic links come at the end, so that nothing is written through one.
   *  @throws MoraineError `io`, `cancelled` */
  async take(files: IsoFileSystem, entry: IsoEntry): Promise<void> {
    throwIfCancelled(this.#context.signal, this.#target)
    await this.#attempt(entry, async () => {
      if (entry.kind === 'directory') {
        this.#folder(parts(entry))
        this.counts.folders++
        this.#pendingFolders.push(entry)
      } else if (entry.kind === 'symlink') this.#pendingLinks.push(entry)
      else if (entry.kind === 'file') await this.#file(entry, await files.open(entry))
      else throw new Obstacle(`it is a ${entry.kind.replace('-', ' ')}`)
    })
  }

  /** Makes the links, and gives folders their modes and times.
   *  @throws MoraineError `io` */
  async finish(): Promise<void> {
    for (const entry of this.#pendingLinks) await this.#attempt(entry, async () => this.#link(entry))
    // The deepest first: making something in a folder changes its time.
    for (const entry of this.#pendingFolders.toReversed()) {
      const folder = openSync(join(this.#rooted(), ...parts(entry)), 'r')
      try {
        dress(folder, entry, 0o700)
      } finally {
        closeSync(folder)
      }
    }
  }

  async #attempt(entry: IsoEntry, work: () => Promise<void>): Promise<void> {
    try {
      await work()
    } catch (error) {
      const said = this.#sayable(error)
      if (said === undefined) throw error
      this.problems++
      this.#context.report(`'${plainText(entry.path.slice(1))}' was not extracted: ${said}`)
    }
  }

  /** What is said of an error that concerns one entry only. */
  #sayable(error: unknown): string | undefined {
    if (error instanceof Obstacle) return error.message
    if (isMoraineError(error) && ['corrupt', 'unsupported', 'invalid'].includes(error.kind)) {
      return explain(error, this.#context.persona)
    }
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENAMETOOLONG') return 'its name is too long here'
    if (code === 'EILSEQ' || code === 'EINVAL') return 'its name is not possible here'
    return undefined
  }

  #rooted(): string {
    if (this.#root === undefined) {
      mkdirSync(this.#target, { recursive: true })
      this.#root = realpathSync(this.#target)
    }
    return this.#root
  }

  /** Makes a folder and those above it. What is there already must be folders: a link may lead anywhere. */
  #folder(names: readonly string[]): string {
    const whole = names.join('/')
    let path = this.#rooted()
    if (this.#folders.has(whole)) return join(path, ...names)
    for (const [index, name] of names.entries()) {
      path = join(path, possible(name))
      const known = names.slice(0, index + 1).join('/')
      if (this.#folders.has(known)) continue
      const there = lstatSync(path, { throwIfNoEntry: false })
      if (there === undefined) mkdirSync(path)
      else if (!there.isDirectory()) throw new Obstacle(`'${known}' is in the way and is no folder`)
      this.#folders.add(known)
    }
    return path
  }

  /** Calls that do not wait cost a fifth of those that do, for a small file; the image is read between them. */
  async #file(entry: IsoEntry, source: ByteSource): Promise<void> {
    const path = this.#place(entry)
    const file = openSync(path, 'wx')
    const removal = (): void => rmSync(path, { force: true })
    process.once('exit', removal)
    let whole = false
    try {
      for await (const chunk of sourceStream(source).chunks(this.#context.signal)) {
        for (let done = 0; done < chunk.length; ) done += writeSync(file, chunk, done)
      }
      dress(file, entry, 0o400)
      const { dev, ino } = fstatSync(file, { bigint: true })
      this.#made.add(`${dev}:${ino}`)
      whole = true
    } finally {
      closeSync(file)
      process.removeListener('exit', removal)
      if (!whole) removal()
    }
    this.counts.files++
  }

  #link(entry: IsoEntry): void {
    if (this.#links === 'none') throw new Obstacle('it is a symbolic link')
    const { target = '' } = entry
    if (target === '' || target.includes('\0')) throw new Obstacle('it is a symbolic link that leads nowhere')
    if (this.#links === 'inside' && !staysInside(parts(entry).length - 1, target)) {
      throw new Obstacle(
        `it is a symbolic link that leads outside, to '${plainText(target)}' (--links=all makes such links)`,
      )
    }
    const path = this.#place(entry)
    symlinkSync(target, path)
    const { dev, ino } = lstatSync(path, { bigint: true })
    this.#made.add(`${dev}:${ino}`)
    this.counts.links++
  }

  /** Where a new file or link comes, with nothing there. */
  #place(entry: IsoEntry): string {
    const names = parts(entry)
    const path = join(this.#folder(names.slice(0, -1)), possible(names.at(-1) ?? ''))
    const there = lstatSync(path, { bigint: true, throwIfNoEntry: false })
    if (there === undefined) return path
    if (this.#made.has(`${there.dev}:${there.ino}`)) {
      throw new Obstacle('the image has two entries whose names are the same here')
    }
    if (there.isDirectory()) throw new Obstacle('a folder of this name is in the way')
    if (!this.#force) throw new Obstacle('it is there already (--force replaces it)')
    unlinkSync(path)
    return path
  }
}

function parts({ path }: IsoEntry): string[] {
  return path.slice(1).split('/')
}

/** A name that is one name on this system. The image's own rules leave out separators, `.` and `..` already. */
function possible(name: string): string {
  const isOne = name !== '' && name !== '.' && name !== '..' && !/[/\0]/.test(name)
  if (isOne && (sep === '/' || !/[\\:*?"<>|]|[. ]$/.test(name))) return name
  throw new Obstacle('its name is not possible here')
}

/** Whether a link `depth` folders below the target folder stays in it: it may go up first, not further than that folder, and then only down. A `..` behind a name is not
 *  believed: that name may be a link itself. */
function staysInside(depth: number, target: string): boolean {
  if (target.startsWith('/') || (sep !== '/' && /[\\:]/.test(target))) return false
  const names = target.split('/').filter((name) => name !== '' && name !== '.')
  const down = names.findIndex((name) => name !== '..')
  const up = down < 0 ? names.length : down
  return up <= depth && !names.slice(up).includes('..')
}

/** Gives a file or folder the mode and the time of its entry; no set-user-id, and what the umask forbids is left out. */
function dress(file: number, { mode, modified }: IsoEntry, least: number): void {
  if (mode !== undefined) fchmodSync(file, (mode & 0o777 & ~process.umask()) | least)
  if (modified !== undefined) futimesSync(file, modified, modified)
}
