/** A download that is not whole yet: `FILE.part`, and beside it `FILE.part.json`, which says of which image it is, so that two are never mixed. */
import { readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { ByteStore } from '@moraine/engine'
import { imageLocks, openFile } from '@moraine/engine/node'
import { Failure } from '../failure.ts'
import { isMapping } from './clouds.ts'
import type { ImageDocument } from './images.ts'

/** What identifies the bytes of a download. */
export interface Identity {
  /** The id of an image of a service, or where else the bytes come from. */
  image: string
  size: number | null
  checksum: string | null
  hash: string | null
  etag?: string
  /** How it was converted while it was sent. */
  export?: string
}

const readBytes = 1024 * 1024

/** A part that is being written. */
export class PartFile {
  readonly store: ByteStore
  readonly path: string
  /** Bytes that were there and fit. */
  readonly start: number
  private identity: Identity

  private constructor(store: ByteStore, path: string, start: number, identity: Identity) {
    this.store = store
    this.path = path
    this.start = start
    this.identity = identity
  }

  /** Opens the part of a target, emptied when it is of another image. @param needsEtag Whether only an ETag says that what is there can be gone on with.
   *  @throws MoraineError `locked` when somebody else downloads to the same file, `io`, `denied` */
  static async open(target: string, identity: Identity, { needsEtag = false } = {}): Promise<PartFile> {
    checkTarget(target)
    const path = `${target}.part`
    // To create is to empty what is there.
    const create = statSync(path, { throwIfNoEntry: false }) === undefined
    const store = await openFile(path, { mode: 'write', create, lock: imageLocks.create })
    try {
      const before = readIdentity(`${path}.json`)
      const fits =
        before !== undefined &&
        isSame(before, identity) &&
        !(needsEtag && before.etag === undefined) &&
        (identity.export !== undefined || store.size <= (identity.size ?? Number.POSITIVE_INFINITY))
      if (!fits && store.size > 0) await store.resize(0)
      const part = new PartFile(store, path, store.size, fits ? before : identity)
      part.note()
      return part
    } catch (error) {
      await store.close()
      throw error
    }
  }

  /** The ETag of what is there. */
  get etag(): string | undefined {
    return this.start === 0 ? undefined : this.identity.etag
  }

  /** The ETag of what has come by now. */
  get knownEtag(): string | undefined {
    return this.identity.etag
  }

  /** Remembers the ETag of what comes. */
  keepEtag(etag: string): void {
    if (this.identity.etag === etag) return
    this.identity = { ...this.identity, etag }
    this.note()
  }

  /** Takes what is there into the digests. */
  async digest(digests: { update(bytes: Uint8Array): void }, signal: AbortSignal | undefined): Promise<void> {
    const buffer = Buffer.allocUnsafeSlow(readBytes)
    for (let at = 0; at < this.start; at += readBytes) {
      const bytes = buffer.subarray(0, Math.min(readBytes, this.start - at))
      await this.store.read(at, bytes, signal)
      digests.update(bytes)
    }
  }

  /** Gives the whole download its name. The store must be closed. */
  async publish(target: string): Promise<void> {
    renameSync(this.path, target)
    rmSync(`${this.path}.json`, { force: true })
    await syncFolder(dirname(target))
  }

  /** Removes what came. */
  remove(): void {
    rmSync(this.path, { force: true })
    rmSync(`${this.path}.json`, { force: true })
  }

  private note(): void {
    writeFileSync(`${this.path}.json`, `${JSON.stringify(this.identity)}\n`)
  }
}

/** What identifies the data of an image of a service. */
export function identityOf(image: ImageDocument): Identity {
  const { id, size, checksum, os_hash_value: hash } = image
  return { image: id, size, checksum: checksum ?? null, hash: hash ?? null }
}

/** @throws Failure for a target that a file cannot be renamed to. */
export function checkTarget(target: string): void {
  const there = statSync(target, { throwIfNoEntry: false })
  if (there === undefined || there.isFile()) return
  if (there.isDirectory()) throw new Failure(`'${target}' is a folder`)
  throw new Failure(`'${target}' is not a file`, {
    hint: "An image is put on a device by 'moraine convert -n FILE DEVICE' once it is here.",
  })
}

function readIdentity(path: string): Identity | undefined {
  try {
    const value: unknown = JSON.parse(readFileSync(path, 'utf8'))
    return isMapping(value) && typeof value.image === 'string' ? (value as unknown as Identity) : undefined
  } catch {
    return undefined
  }
}

/** Without any digest nothing says that they are the same bytes. */
function isSame(before: Identity, now: Identity): boolean {
  const { image, size, checksum, hash } = now
  const known = checksum !== null || hash !== null
  const isImage = before.image === image && before.export === now.export
  return known && isImage && before.size === size && before.checksum === checksum && before.hash === hash
}

/** Systems that cannot sync a folder keep names by themselves. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r').catch(() => undefined)
  if (handle === undefined) return
  try {
    await handle.sync().catch(() => {})
  } finally {
    await handle.close()
  }
}
