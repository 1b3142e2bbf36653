/** The disk in a LUKS container: every sector of the file behind the header, decrypted. */
import { roundUp } from '../../bytes/integers.ts'
import {
  type ByteSource,
  type ByteStore,
  type DetailValue,
  type Disk,
  type DiskInfo,
  type Extent,
  MoraineError,
  type Preallocation,
  readPadded,
  throwIfCancelled,
  type WritableDisk,
  type ZeroMode,
} from '../../core/index.ts'
import type { UnlockedLuks } from '../../crypt/luks-keys.ts'
import type { SectorCipher } from '../../crypt/sector-cipher.ts'
import { settled } from '../mapped-disk.ts'
import { SectorEdges } from '../sector-edges.ts'

/** What a container is made of. */
export interface LuksImage {
  format: string
  file: ByteSource
  /** Byte offset of the payload. */
  payloadOffset: number
  /** Bytes of it, where the header says so; all that follows otherwise. */
  payloadLength: number | undefined
  /** Absent in an image that was opened for its facts alone. */
  cipher: SectorCipher | undefined
  /** Number of the payload's first sector, for its IV. */
  firstSector: number
  /** The header and its key, of a container of version 1 that was opened with a password. */
  unlocked?: UnlockedLuks | undefined
  details: Record<string, DetailValue>
}

/** Bytes that are encrypted or zeroed in one step. */
const stepBytes = 1024 * 1024

/** The guest's view of a container. */
export class LuksDisk implements Disk {
  readonly image: LuksImage
  readonly file: ByteSource

  constructor(image: LuksImage) {
    this.image = image
    this.file = image.file
  }

  get format(): string {
    return this.image.format
  }

  get name(): string {
    return this.file.name
  }

  get size(): number {
    const { payloadOffset, payloadLength, cipher } = this.image
    return payloadLength ?? roundUp(Math.max(0, this.file.size - payloadOffset), cipher?.sectorBytes ?? 512)
  }

  async read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    const refusal = this.outside(offset, into.length)
    if (refusal !== undefined) throw refusal
    const { cipher } = this
    const { sectorBytes } = cipher
    const { payloadOffset, firstSector } = this.image
    const skip = offset % sectorBytes
    const length = roundUp(skip + into.length, sectorBytes)
    const bytes = length === into.length ? into : new Uint8Array(length)
    await readPadded(this.file, payloadOffset + offset - skip, bytes, signal)
    cipher.decrypt(firstSector + (offset - skip) / 512, bytes)
    if (bytes !== into) into.set(bytes.subarray(skip, skip + into.length))
  }

  /** What decrypts.
   *  @throws MoraineError `denied` when the container was opened without a key. */
  protected get cipher(): SectorCipher {
    const { cipher } = this.image
    if (cipher !== undefined) return cipher
    throw new MoraineError('denied', "Parameter 'key-secret' is required for cipher", {
      path: this.name,
      format: this.format,
      field: 'key-secret',
    })
  }

  async *extents(offset: number, length: number): AsyncIterable<Extent[]> {
    const refusal = this.outside(offset, length)
    if (refusal !== undefined) throw refusal
    // What a hole of the file decrypts to is noise: only reading tells.
    if (length > 0) {
      yield [{ offset, length, allocated: true, data: true, zero: false, depth: 0, encoded: 'encrypted' }]
    }
  }

  info(): DiskInfo {
    return {
      format: this.format,
      virtualSize: this.size,
      encrypted: true,
      snapshots: [],
      details: { type: this.format, data: this.image.details },
    }
  }

  allocatedSize(): Promise<number> {
    return this.file.allocatedSize?.() ?? Promise.resolve(this.file.size)
  }

  close(): Promise<void> {
    return this.file.close()
  }

  /** The error for a range that leaves the disk. */
  protected outside(offset: number, length: number): MoraineError | undefined {
    if (offset >= 0 && offset + length <= this.size) return undefined
    return new MoraineError('io', 'the range passes the end of the disk', {
      path: this.name,
      format: this.format,
      field: 'offset',
      value: offset,
      rule: `offset + ${length} at most ${this.size}`,
      code: 'EIO',
    })
  }
}

/** A container opened for writing. Calls that overlap in range are ordered by the caller; all others may run at the same time. */
export class WritableLuksDisk extends LuksDisk implements WritableDisk {
  readonly store: ByteStore
  readonly noise = 'everywhere'
  readonly #edges: SectorEdges

  constructor(image: LuksImage, store: ByteStore) {
    super(image)
    this.store = store
    this.#edges = new SectorEdges(this.cipher.sectorBytes)
  }

  get kind(): ByteStore['kind'] {
    return this.store.kind
  }

  async write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    const refusal = this.outside(offset, from.length)
    if (refusal !== undefined) throw refusal
    if (from.length === 0) return
    if (this.#edges.fits(offset, from.length)) return this.#writeSectors(offset, from, signal)
    return this.#edges.write(this, offset, from, (at, bytes) => this.#writeSectors(at, bytes, signal))
  }

  #writeSectors(offset: number, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    const { payloadOffset, firstSector } = this.image
    const encrypted = this.cipher.encrypt(firstSector + offset / 512, bytes)
    return this.store.write(payloadOffset + offset, encrypted, signal)
  }

  /** Zeros are encrypted like anything else: a hole would read as noise. */
  async zero(offset: number, length: number, _mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    const refusal = this.outside(offset, length)
    if (refusal !== undefined) throw refusal
    const zeros = new Uint8Array(Math.min(length, stepBytes))
    const writes: Promise<void>[] = []
    try {
      for (let at = 0; at < length; at += stepBytes) {
        throwIfCancelled(signal, this.name)
        const write = this.write(offset + at, zeros.subarray(0, length - at), signal)
        // It is waited for below; until then a failure of it is nobody's.
        write.catch(() => {})
        writes.push(write)
        // The next piece is encrypted while the one before is written.
        if (writes.length > 2) await writes.shift()
      }
    } finally {
      await settled(writes)
    }
  }

  /** Nothing: what the file gave up would read as noise. */
  async discard(offset: number, length: number): Promise<void> {
    const refusal = this.outside(offset, length)
    if (refusal !== undefined) throw refusal
  }

  async resize(size: number, preallocation: Preallocation = 'off', shrink = false): Promise<void> {
    const fail = (kind: 'denied' | 'unsupported', reason: string, field: string): never => {
      throw new MoraineError(kind, reason, { path: this.name, format: this.format, field, value: size })
    }
    if (this.image.payloadLength !== undefined) {
      fail('unsupported', 'a container whose header tells its size cannot be resized', 'size')
    }
    if (size < this.size && !shrink) fail('denied', 'Use the --shrink option to perform a shrink operation.', 'size')
    if (preallocation === 'metadata') fail('unsupported', 'Unsupported preallocation mode: metadata', 'preallocation')
    await this.store.resize(this.image.payloadOffset + size, preallocation)
  }

  flush(): Promise<void> {
    return this.store.flush()
  }
}
