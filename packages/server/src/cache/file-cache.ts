/** Files that can be made again, kept under a size limit: the one that was used longest ago goes first. The folder itself is the record, so that several processes may
 *  share it. */
import { randomUUID } from 'node:crypto'
import { type FileHandle, mkdir, open, readdir, rename, rm, stat, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import type { ByteSource } from '@moraine/engine'
import { openFile } from '@moraine/engine/node'
import { dataRuns } from '../store/data-runs.ts'

/** A part that nobody has written to for so long belongs to a process that is gone. */
const staleMilliseconds = 3600_000
const blockBytes = 512
const namePattern = /^[0-9a-f-]{36}(\.[0-9a-f]{64})?$/

/** A file of the cache. Times are milliseconds since 1970. */
export interface Entry {
  readonly name: string
  /** Bytes that it takes of the disk: holes take none. */
  readonly allocated: number
  readonly size: number
  readonly madeAt: number
  readonly usedAt: number
}

/** A file on its way into the cache. Nothing here ever fails: what cannot be kept is not kept. */
export interface CacheWriter {
  write(bytes: Uint8Array): Promise<void>
  /** Resolves to whether the file is in the cache now. */
  commit(): Promise<boolean>
  abort(): Promise<void>
}

export class FileCache {
  readonly limit: number
  readonly #folder: string
  readonly #parts: string

  private constructor(folder: string, limit: number) {
    this.limit = limit
    this.#folder = folder
    this.#parts = join(folder, 'parts')
  }

  /** @param limit Bytes; 0: nothing is kept. */
  static async open(folder: string, limit: number): Promise<FileCache> {
    const cache = new FileCache(folder, limit)
    await mkdir(cache.#parts, { recursive: true, mode: 0o700 })
    await cache.clean()
    await cache.shrink()
    return cache
  }

  /** Removes the parts of files that were begun by a process that is gone. */
  async clean(): Promise<void> {
    for (const name of await readdir(this.#parts)) {
      const path = join(this.#parts, name)
      const { mtimeMs } = await stat(path).catch(() => ({ mtimeMs: Date.now() }))
      if (Date.now() - mtimeMs > staleMilliseconds) await rm(path, { force: true })
    }
  }

  /** Opens a file for reading, which makes it the one that was used last. `tag` tells it from others of its name. The caller closes the source. */
  async get(name: string): Promise<{ source: ByteSource; tag: string } | undefined> {
    const path = this.#path(name)
    try {
      const { mtimeMs, ino } = await stat(path)
      const source = await openFile(path)
      // A time that is set comes back a hair earlier or later, and whole milliseconds are all that can be set: the tag must not notice.
      const made = Math.floor(mtimeMs + 0.01)
      await utimes(path, new Date(), new Date(made)).catch(() => {})
      return { source, tag: `${ino.toString(16)}-${made.toString(16)}` }
    } catch {
      return undefined
    }
  }

  /** Begins a file; undefined when nothing is kept, or cannot be now. */
  async begin(name: string): Promise<CacheWriter | undefined> {
    const final = this.#path(name)
    if (this.limit === 0) return undefined
    const part = join(this.#parts, randomUUID())
    const file = await open(part, 'wx', 0o600).catch(() => undefined)
    if (file === undefined) return undefined
    return new PartWriter(file, part, final, this.limit, async () => void (await this.shrink(name)))
  }

  async entries(): Promise<Entry[]> {
    const found: Entry[] = []
    for (const name of await readdir(this.#folder)) {
      if (!namePattern.test(name)) continue
      const facts = await stat(join(this.#folder, name)).catch(() => undefined)
      if (facts === undefined) continue
      const { size, blocks, mtimeMs, atimeMs } = facts
      found.push({ name, size, allocated: blocks * blockBytes, madeAt: mtimeMs, usedAt: Math.max(atimeMs, mtimeMs) })
    }
    return found
  }

  /** Resolves to whether it was there. Who reads it goes on reading. */
  async remove(name: string): Promise<boolean> {
    return rm(this.#path(name)).then(
      () => true,
      () => false,
    )
  }

  /** Removes all files whose names begin so. */
  async removeAll(prefix = ''): Promise<number> {
    let count = 0
    for (const { name } of await this.entries()) {
      if (name.startsWith(prefix) && (await this.remove(name))) count++
    }
    return count
  }

  /** Brings the cache back under its limit. @param kept What came last, and stays. Resolves to what was removed. */
  async shrink(kept = ''): Promise<Entry[]> {
    const removed: Entry[] = []
    const entries = (await this.entries()).sort((one, other) => one.usedAt - other.usedAt)
    let total = entries.reduce((sum, { allocated }) => sum + allocated, 0)
    for (const entry of entries) {
      if (total <= this.limit) break
      if (entry.name === kept) continue
      if (await this.remove(entry.name)) removed.push(entry)
      total -= entry.allocated
    }
    return removed
  }

  #path(name: string): string {
    if (!namePattern.test(name)) throw new Error(`'${name}' is no name for the cache`)
    return join(this.#folder, name)
  }
}

class PartWriter implements CacheWriter {
  #file: FileHandle | undefined
  readonly #part: string
  readonly #final: string
  readonly #limit: number
  readonly #onCommit: () => Promise<void>
  #size = 0
  #written = 0

  constructor(file: FileHandle, part: string, final: string, limit: number, onCommit: () => Promise<void>) {
    this.#file = file
    this.#part = part
    this.#final = final
    this.#limit = limit
    this.#onCommit = onCommit
  }

  async write(bytes: Uint8Array): Promise<void> {
    const file = this.#file
    if (file === undefined) return
    try {
      for (const [from, to] of dataRuns(bytes)) {
        for (let at = from; at < to; ) {
          const { bytesWritten } = await file.write(bytes, at, to - at, this.#size + at)
          at += bytesWritten
        }
        this.#written += to - from
      }
      this.#size += bytes.length
      if (this.#written > this.#limit) await this.abort()
    } catch {
      // A full disk, most likely: the cache must not be in anybody's way.
      await this.abort()
    }
  }

  async commit(): Promise<boolean> {
    const file = this.#file
    if (file === undefined) return false
    try {
      await file.truncate(this.#size)
      // After a power cut a file has its name only with all its bytes.
      await file.sync()
      await file.close()
      this.#file = undefined
      await rename(this.#part, this.#final)
      await this.#onCommit()
      return true
    } catch {
      await this.abort()
      await rm(this.#part, { force: true })
      return false
    }
  }

  async abort(): Promise<void> {
    const file = this.#file
    this.#file = undefined
    await file?.close().catch(() => {})
    await rm(this.#part, { force: true }).catch(() => {})
  }
}
