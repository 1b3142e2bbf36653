/** Image data in a folder: `images/ID` is whole and known to the catalog, `uploads/` holds what is not finished. */
import { constants } from 'node:fs'
import { type FileHandle, link, mkdir, open, readdir, rename, rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { ByteSource } from '@moraine/engine'
import { openFile } from '@moraine/engine/node'
import { dataRuns } from './data-runs.ts'
import { type ImageStore, StoreError, type StoreUpload } from './store.ts'

/** So many bytes are given to the disk at a time, so that the last flush of a large upload does not take minutes. */
const flushBytes = 128 * 1024 * 1024
const sweepBatch = 500

/** The names that this store gives: nothing else in the folder is touched. */
const keyPattern = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(\.[0-9a-f-]+)?$/i

/** @param folder It is made when it is not there. */
export async function openFolderStore(folder: string): Promise<ImageStore> {
  const images = join(folder, 'images')
  const uploads = join(folder, 'uploads')
  await mkdir(images, { recursive: true, mode: 0o700 })
  await mkdir(uploads, { recursive: true, mode: 0o700 })
  await syncFolder(folder)
  return new FolderStore(folder, images, uploads)
}

class FolderStore implements ImageStore {
  readonly properties: ImageStore['properties']
  readonly #images: string
  readonly #uploads: string

  constructor(folder: string, images: string, uploads: string) {
    this.properties = { data_dir: folder, thin_provisioning: true }
    this.#images = images
    this.#uploads = uploads
  }

  get description(): string {
    return `folder ${this.#images}`
  }

  async begin(key: string, expected = 0): Promise<StoreUpload> {
    const { bavail, bsize } = await statfs(this.#uploads)
    if (expected > bavail * bsize) {
      throw new StoreError('full', `${expected} bytes are expected, and the disk has room for ${bavail * bsize}`)
    }
    const final = this.#path(key)
    const temporary = join(this.#uploads, key)
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL
    const file = await open(temporary, flags, 0o600).catch(explain)
    return new FolderUpload(file, temporary, final, [this.#uploads, this.#images])
  }

  async resume(key: string, offset: number, as = key): Promise<StoreUpload> {
    const final = this.#path(as)
    const temporary = join(this.#uploads, as)
    const unlessMissing = (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error
    }
    if (as !== key) await rename(join(this.#uploads, key), temporary).catch(unlessMissing)
    // A process may have ended between `commit` and the last word about the upload: nobody counts on the data yet.
    await rename(this.#path(key), temporary).catch(unlessMissing)
    // Or between the first word about the upload and its file.
    const flags = constants.O_RDWR | (offset === 0 ? constants.O_CREAT : 0)
    const file = await open(temporary, flags, 0o600).catch(explain)
    await file.truncate(offset)
    return new FolderUpload(file, temporary, final, [this.#uploads, this.#images], offset)
  }

  async link(key: string, path: string): Promise<boolean> {
    try {
      await link(path, this.#path(key))
    } catch (error) {
      const { code = '' } = error as NodeJS.ErrnoException
      if (['EXDEV', 'EPERM', 'EMLINK', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'].includes(code)) return false
      throw error
    }
    await syncFolder(this.#images)
    return true
  }

  async open(key: string): Promise<ByteSource> {
    return openFile(this.#path(key))
  }

  async remove(key: string): Promise<void> {
    await rm(this.#path(key), { force: true })
    await rm(join(this.#uploads, key), { force: true })
  }

  urlOf(key: string): string {
    return pathToFileURL(this.#path(key)).href
  }

  /** No client may name a file of this machine. */
  async keyOf(): Promise<undefined> {
    return undefined
  }

  async sweep(isKnown: (keys: readonly string[]) => Promise<ReadonlySet<string>>): Promise<string[]> {
    const removed: string[] = []
    for (const folder of [this.#uploads, this.#images]) {
      const names = (await readdir(folder)).filter((name) => keyPattern.test(name))
      for (let at = 0; at < names.length; at += sweepBatch) {
        const batch = names.slice(at, at + sweepBatch)
        // Asked after the folder was read: who puts a file there has told the catalog before.
        const known = await isKnown(batch)
        for (const name of batch) {
          if (known.has(name)) continue
          await rm(join(folder, name), { force: true })
          removed.push(name)
        }
      }
    }
    return removed
  }

  #path(key: string): string {
    if (!keyPattern.test(key)) throw new Error(`'${key}' is no name of image data`)
    return join(this.#images, key)
  }
}

class FolderUpload implements StoreUpload {
  readonly #file: FileHandle
  readonly #temporary: string
  readonly #final: string
  readonly #folders: readonly string[]
  #size = 0
  #flushedTo = 0
  /** Bytes that are on the disk for certain. */
  #durable = 0
  #flushing: Promise<unknown> | undefined
  #flushFailure: { error: unknown } | undefined
  #done = false

  constructor(file: FileHandle, temporary: string, final: string, folders: readonly string[], size = 0) {
    this.#file = file
    this.#temporary = temporary
    this.#final = final
    this.#folders = folders
    this.#size = size
    this.#flushedTo = size
    this.#durable = size
  }

  async write(bytes: Uint8Array): Promise<void> {
    try {
      if (this.#flushFailure !== undefined) throw this.#flushFailure.error
      for (const [from, to] of dataRuns(bytes)) await this.#writeAll(bytes.subarray(from, to), this.#size + from)
    } catch (error) {
      explain(error)
    }
    this.#size += bytes.length
    if (this.#size - this.#flushedTo >= flushBytes) this.#flushBeside()
  }

  async flush(): Promise<number> {
    if (!this.#done) this.#flushBeside()
    await this.#flushing
    if (this.#flushFailure !== undefined) explain(this.#flushFailure.error)
    return this.#durable
  }

  #flushBeside(): void {
    if (this.#flushing !== undefined) return
    const size = this.#size
    this.#flushedTo = size
    // Runs beside the upload. An error is kept: the kernel tells each one once, and would say nothing of it to the flush in `commit`.
    this.#flushing = this.#file
      .datasync()
      .then(() => {
        this.#durable = size
      })
      .catch((error: unknown) => {
        this.#flushFailure = { error }
      })
      .finally(() => {
        this.#flushing = undefined
      })
  }

  read(): Promise<ByteSource> {
    return this.#lengthen().then(() => openFile(this.#temporary))
  }

  async commit(): Promise<void> {
    try {
      await this.#lengthen()
      await this.#flushing
      if (this.#flushFailure !== undefined) throw this.#flushFailure.error
      await this.#file.sync()
      await this.#file.close()
      await rename(this.#temporary, this.#final)
      this.#done = true
      for (const folder of this.#folders) await syncFolder(folder)
    } catch (error) {
      explain(error)
    }
  }

  async suspend(): Promise<number> {
    if (this.#done) return this.#size
    this.#done = true
    try {
      await this.#lengthen()
      await this.#flushing
      if (this.#flushFailure !== undefined) throw this.#flushFailure.error
      await this.#file.sync()
      for (const folder of this.#folders) await syncFolder(folder)
      return this.#size
    } catch (error) {
      return explain(error)
    } finally {
      await this.#file.close().catch(() => {})
    }
  }

  async abort(): Promise<void> {
    if (this.#done) return
    this.#done = true
    await this.#flushing
    await this.#file.close().catch(() => {})
    await rm(this.#temporary, { force: true })
  }

  /** Zeros at the end were not written. The file is never made shorter: another process may have taken it over, which was told that this one is dead. */
  async #lengthen(): Promise<void> {
    const { size } = await this.#file.stat()
    if (size < this.#size) await this.#file.truncate(this.#size)
  }

  async #writeAll(bytes: Uint8Array, offset: number): Promise<void> {
    let written = 0
    while (written < bytes.length) {
      const { bytesWritten } = await this.#file.write(bytes, written, bytes.length - written, offset + written)
      written += bytesWritten
    }
  }
}

/** A rename is on the disk once the folder is. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function explain(error: unknown): never {
  const { code, message } = error as NodeJS.ErrnoException
  if (code === 'ENOSPC' || code === 'EDQUOT' || code === 'EFBIG') throw new StoreError('full', message, error)
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') throw new StoreError('denied', message, error)
  throw error
}
