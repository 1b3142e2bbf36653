/** Writing a qcow2 image: guest bytes, zeros, discards, size, snapshots. */

import { Mutex } from '../../bytes/mutex.ts'
import { encodeName } from '../../bytes/name-text.ts'
import {
  type BitmapStore,
  type ByteStore,
  type Disk,
  type PackedCodec,
  type Preallocation,
  type SnapshotStore,
  throwIfCancelled,
  type WritableDisk,
  type ZeroMode,
} from '../../core/index.ts'
import { RequestsUnderWay } from '../requests-under-way.ts'
import { SectorEdges } from '../sector-edges.ts'
import { WritableBitmaps } from './bitmap-store.ts'
import { BitmapTracker } from './bitmap-tracker.ts'
import { discardRange, type ZeroHow, zeroRange } from './clear.ts'
import { Qcow2Disk } from './disk.ts'
import { fault, hasDataFile, hasRawDataFile, type Qcow2Image } from './image.ts'
import { bounds } from './layout.ts'
import { PackedWriter } from './packed-writer.ts'
import { emptyImage, resizeImage } from './resize.ts'
import { Qcow2Snapshots } from './snapshots.ts'
import { abandonPieces, linkPiece, type Piece, placeRequest } from './write-request.ts'
import { Qcow2Writer } from './writer.ts'

/** Up to this many bytes, a piece and what is copied around it go out in one write. */
const oneWriteBytes = 256 * 1024

/** A guest range whose clusters are being replaced; others wait for it. */
interface Busy {
  from: number
  to: number
  done: Promise<void>
}

/** A qcow2 image opened for writing. Calls that overlap in range are ordered by the caller; all others may run at the same time. */
export class WritableQcow2Disk extends Qcow2Disk implements WritableDisk {
  readonly kind: ByteStore['kind']
  readonly writer: Qcow2Writer
  readonly snapshots: SnapshotStore
  override readonly bitmaps: BitmapStore | undefined
  readonly packedUnit: number | undefined
  readonly packedCodec: PackedCodec | undefined
  readonly #packed: PackedWriter
  readonly #bitmaps: BitmapTracker
  /** Held while a request decides where its bytes go, so that requests allocate in the order of their calls. */
  readonly #order = new Mutex()
  /** Held while metadata changes. */
  readonly #metadata = new Mutex()
  readonly #busy = new Set<Busy>()
  /** Requests whose bytes are on their way into clusters that are theirs already. */
  readonly #flying = new Set<Busy>()
  readonly #edges = new SectorEdges(512)
  /** Writes straight into clusters that are theirs, which wait for nobody. */
  readonly #straight = new RequestsUnderWay()
  /** Somebody moves structures, or waits to: no write goes straight. */
  #moving = 0
  /** Requests that come to write after they have waited for others. */
  readonly #underWay = new RequestsUnderWay()
  #closed = false

  private constructor(image: Qcow2Image, parent: Disk | undefined, writer: Qcow2Writer) {
    super(image, parent)
    this.kind = writer.store.kind
    this.writer = writer
    // Packed clusters lie in clear.
    const packs = !hasDataFile(image) && image.header.cryptMethod === 0
    this.packedUnit = packs ? image.geometry.clusterSize : undefined
    this.packedCodec = packs ? this.codec : undefined
    this.#packed = new PackedWriter(writer)
    this.#bitmaps = new BitmapTracker(writer)
    this.snapshots = new Qcow2Snapshots(this)
    this.bitmaps = image.header.version < 3 ? undefined : new WritableBitmaps(this)
  }

  /** Opens for writing; features that no longer hold once it is written are cleared by the first change. */
  static async openForWriting(
    image: Qcow2Image,
    store: ByteStore,
    parent: Disk | undefined,
  ): Promise<WritableQcow2Disk> {
    return new WritableQcow2Disk(image, parent, await Qcow2Writer.open(image, store))
  }

  /** Clusters that are laid out in advance read as noise once they are decrypted. */
  get noise(): 'preallocated' | undefined {
    return this.image.header.cryptMethod === 0 ? undefined : 'preallocated'
  }

  /** The store that holds guest clusters. */
  get #data(): ByteStore {
    return this.image.data as ByteStore
  }

  override read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (this.#busy.size > 0) {
      const busy = this.#overlapping(offset, into.length)
      if (busy !== undefined) return busy.done.then(() => this.read(offset, into, signal))
    }
    return super.read(offset, into, signal)
  }

  protected override async beforePacked(host: number, length: number): Promise<void> {
    if (this.#packed.holds(host, length)) await this.exclusive(() => this.#packed.flush())
  }

  write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (offset < 0 || offset + from.length > this.size) return Promise.reject(this.outside(offset, from.length))
    if (from.length === 0) return Promise.resolve()
    if (this.image.header.cryptMethod !== 0 && !this.#edges.fits(offset, from.length)) {
      const write = (at: number, bytes: Uint8Array): Promise<void> => this.#writeAligned(at, bytes, signal)
      return this.#underWay.track(this.#edges.write(this, offset, from, write))
    }
    return this.#writeAligned(offset, from, signal)
  }

  #writeAligned(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    const mayGo = this.#moving === 0 && this.#bitmaps.quiet
    if (mayGo && (this.#busy.size === 0 || this.#overlapping(offset, from.length) === undefined)) {
      try {
        const run = this.map.resolve(offset, from.length)
        // The page is on its way; what is wrong with it comes up again when the request is placed.
        if (run instanceof Promise) run.catch(() => {})
        else if (run.kind === 'data' && run.copied && run.length === from.length) {
          if (this.#data === this.writer.store) this.writer.guard.check(run.host, run.length)
          return this.#straight.track(this.writeData(run.host, offset, from, signal))
        }
      } catch (error) {
        return Promise.reject(error)
      }
    }
    return this.#writePlaced(offset, from, signal)
  }

  async #writePlaced(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    const { clusterSize } = this.image.geometry
    let finish = () => {}
    const busy: Busy = {
      from: offset - (offset % clusterSize),
      to: Math.ceil((offset + from.length) / clusterSize) * clusterSize,
      done: new Promise((resolve) => {
        finish = resolve
      }),
    }
    const { pieces, linked } = await this.#order.run(async () => {
      for (let other = this.#overlapping(busy.from, busy.to - busy.from); other !== undefined; ) {
        await other.done
        other = this.#overlapping(busy.from, busy.to - busy.from)
      }
      throwIfCancelled(signal, this.name)
      const placed = await this.exclusive(async () => {
        await this.#bitmaps.mark(offset, from.length)
        const pieces = await placeRequest(this.writer, this.map, offset, from.length)
        const linked = await this.#readsAsZeroBefore(pieces)
        if (linked) for (const piece of pieces) await linkPiece(this.writer, piece)
        return { pieces, linked }
      })
      if (placed.linked) this.#flying.add(busy)
      else this.#busy.add(busy)
      return placed
    })
    try {
      if (linked) return await this.#writeTogether(pieces, offset, from, signal)
      const written = await Promise.allSettled(
        pieces.map((piece) =>
          this.#writePiece(piece, from.subarray(piece.guest - offset, piece.guest - offset + piece.length)),
        ),
      )
      const failed = written.find((result) => result.status === 'rejected')
      await this.exclusive(async () => {
        if (failed !== undefined) return abandonPieces(this.writer, pieces)
        for (const piece of pieces) await linkPiece(this.writer, piece)
      })
      if (failed !== undefined) throw failed.reason
    } finally {
      this.#busy.delete(busy)
      this.#flying.delete(busy)
      finish()
    }
  }

  /** Whether nothing but zeros is lost when the entries of these pieces change before their bytes are written: the clusters read as zeros,
   *  and so did what they replace. Then later writes need not wait for these. */
  async #readsAsZeroBefore(pieces: readonly Piece[]): Promise<boolean> {
    for (const { kind, clean, from, to } of pieces) {
      if (kind === 'in-place') continue
      if (this.image.crypt !== undefined) return false
      if (kind === 'fill' || !clean || !(await this.readsAsZero(from, to - from))) return false
    }
    return true
  }

  /** Writes a whole request; pieces side by side in the file go out as one. */
  async #writeTogether(
    pieces: readonly Piece[],
    offset: number,
    from: Uint8Array,
    signal?: AbortSignal,
  ): Promise<void> {
    const writes: Promise<void>[] = []
    for (let first = 0; first < pieces.length; ) {
      const { guest, host } = pieces[first] as Piece
      let end = guest
      while (first < pieces.length && (pieces[first] as Piece).host === host + end - guest) {
        end += (pieces[first] as Piece).length
        first++
      }
      writes.push(this.writeData(host, guest, from.subarray(guest - offset, end - offset), signal))
    }
    for (const result of await Promise.allSettled(writes)) if (result.status === 'rejected') throw result.reason
  }

  #overlapping(offset: number, length: number): Busy | undefined {
    for (const busy of this.#busy) if (busy.from < offset + length && busy.to > offset) return busy
    return undefined
  }

  /** Writes the bytes of a piece, and around them what its clusters showed before. */
  async #writePiece(piece: Piece, bytes: Uint8Array): Promise<void> {
    const head = piece.guest - piece.from
    const tail = piece.to - piece.guest - piece.length
    // Zeros of the file are noise once they are decrypted.
    const clean = piece.clean && this.image.crypt === undefined
    const copyHead = head > 0 && !(clean && (await this.readsAsZero(piece.from, head)))
    const copyTail = tail > 0 && !(clean && (await this.readsAsZero(piece.to - tail, tail)))
    if (!copyHead && !copyTail) return this.writeData(piece.host, piece.guest, bytes)
    const before = copyHead ? head : 0
    const after = copyTail ? tail : 0
    if (before + bytes.length + after <= oneWriteBytes) {
      const whole = new Uint8Array(before + bytes.length + after)
      await this.readBefore(piece.guest - before, whole.subarray(0, before))
      whole.set(bytes, before)
      await this.readBefore(piece.guest + bytes.length, whole.subarray(before + bytes.length))
      return this.writeData(piece.host - before, piece.guest - before, whole)
    }
    await this.writeData(piece.host, piece.guest, bytes)
    for (const [guest, length] of [
      [piece.guest - before, before],
      [piece.guest + bytes.length, after],
    ] as const) {
      if (length === 0) continue
      const old = new Uint8Array(length)
      await this.readBefore(guest, old)
      await this.writeData(piece.host + guest - piece.guest, guest, old)
    }
  }

  /** Writes guest bytes into clusters that are theirs, encrypted where the image is.
   *  @throws MoraineError `denied` where the key is not there: nothing is written in clear. */
  writeData(host: number, guest: number, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    const { crypt, header, file } = this.image
    file.debugEvent?.('write_aio')
    if (crypt !== undefined) {
      const numbered = crypt.byHost ? host : guest
      return this.#data.write(host, crypt.cipher.encrypt(numbered / 512, bytes), signal)
    }
    if (header.cryptMethod === 0) return this.#data.write(host, bytes, signal)
    return Promise.reject(fault(this.image, 'denied', 'the image was opened without its key', 'crypt_method'))
  }

  /** What a range showed before its clusters were replaced. */
  async readBefore(offset: number, into: Uint8Array): Promise<void> {
    if (into.length > 0) await this.readAt(offset, into)
  }

  /** Whether a range is known to read as zeros without reading it. */
  async readsAsZero(offset: number, length: number): Promise<boolean> {
    for (let at = offset; at < offset + length; ) {
      const found = this.map.resolve(at, offset + length - at)
      const run = found instanceof Promise ? await found : found
      if (run.kind === 'data' || run.kind === 'packed') return false
      if (run.kind === 'unallocated' && this.parent !== undefined && at < this.parent.size) return false
      at += run.length
    }
    return true
  }

  /** Runs a change of metadata when no other runs. */
  exclusive<T>(work: () => Promise<T>): Promise<T> {
    return this.#metadata.run(work)
  }

  /** Runs `work` when no write is under way, and holds new ones back until it is done. */
  async alone<T>(work: () => Promise<T>): Promise<T> {
    this.#moving++
    try {
      return await this.#afterWrites(async () => {
        // A cluster must not be copied, or be another's, before its bytes have come.
        await this.#straight.none()
        return work()
      })
    } finally {
      this.#moving--
    }
  }

  /** As `alone`, beside writes into clusters that stay where they are. */
  #afterWrites<T>(work: () => Promise<T>): Promise<T> {
    return this.#order.run(async () => {
      while (this.#busy.size + this.#flying.size > 0) {
        await Promise.all([...this.#busy, ...this.#flying].map(({ done }) => done))
      }
      return this.exclusive(async () => {
        await this.#packed.flush()
        return work()
      })
    })
  }

  async writePacked(offset: number, packed: Uint8Array): Promise<void> {
    const { clusterSize } = this.image.geometry
    if (offset % clusterSize !== 0 || offset >= this.size || packed.length >= clusterSize || packed.length === 0) {
      throw fault(
        this.image,
        'invalid',
        'a compressed cluster must be a whole cluster, and smaller than one',
        'offset',
        {
          value: offset,
          rule: `a multiple of ${clusterSize}; 1 to ${clusterSize - 1} bytes`,
        },
      )
    }
    if (hasDataFile(this.image)) {
      throw fault(this.image, 'unsupported', 'compression is not possible with an external data file', 'data file')
    }
    if (this.image.header.cryptMethod !== 0) {
      throw fault(
        this.image,
        'unsupported',
        'Compression and encryption not supported at the same time',
        'crypt_method',
      )
    }
    await this.#order.run(() =>
      this.exclusive(async () => {
        await this.#bitmaps.mark(offset, Math.min(clusterSize, this.size - offset))
        await this.#packed.write(offset, packed)
        // It may lie where another packed cluster lay.
        this.forgetUnpacked()
      }),
    )
  }

  zero(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    return this.#underWay.track(this.#zero(offset, length, mode, signal))
  }

  async #zero(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    const how: ZeroHow = mode === 'unmap' ? 'zero-unmap' : 'zero-keep'
    const rest = await this.#clear(offset, length, () => zeroRange(this, offset, length, how, signal))
    for (const part of rest ?? []) {
      const zeros = new Uint8Array(Math.min(part.length, oneWriteBytes))
      for (let done = 0; done < part.length; done += zeros.length) {
        await this.write(part.offset + done, zeros.subarray(0, part.length - done), signal)
      }
    }
  }

  async discard(offset: number, length: number, signal?: AbortSignal): Promise<void> {
    await this.#clear(offset, length, () => discardRange(this, offset, length, signal))
  }

  async #clear<Result>(offset: number, length: number, work: () => Promise<Result>): Promise<Result | undefined> {
    if (offset < 0 || offset + length > this.size) throw this.outside(offset, length)
    if (length === 0) return undefined
    return this.#afterWrites(async () => {
      await this.#bitmaps.mark(offset, length)
      this.forgetUnpacked()
      return work()
    })
  }

  async resize(size: number, preallocation: Preallocation = 'off', shrink = false): Promise<void> {
    await this.alone(async () => {
      await this.#bitmaps.resized(size)
      await resizeImage(this, size, preallocation, shrink)
    })
  }

  async changeBacking(backing: { name: string; format?: string | undefined } | undefined): Promise<void> {
    const { image } = this
    if (backing !== undefined && hasRawDataFile(image)) {
      throw fault(image, 'invalid', 'Invalid argument', 'backing file', {
        rule: 'none, as the data file is a raw image',
      })
    }
    if (backing !== undefined && encodeName(backing.name).length > bounds.backingNameBytes) {
      const rule = `at most ${bounds.backingNameBytes} bytes`
      throw fault(image, 'invalid', 'Invalid argument', 'backing file', { value: backing.name, rule })
    }
    await this.alone(async () => {
      await this.writer.writeBack()
      const { header } = image
      await this.writer.replaceHeader({ ...header, backingFile: backing?.name, backingFormat: backing?.format })
    })
  }

  async makeEmpty(): Promise<void> {
    if (hasRawDataFile(this.image)) {
      throw fault(
        this.image,
        'unsupported',
        'the data file is a raw image by itself and keeps its content',
        'data file',
      )
    }
    await this.alone(async () => {
      this.forgetUnpacked()
      await emptyImage(this)
    })
  }

  async flush(): Promise<void> {
    await this.exclusive(async () => {
      await this.#packed.flush()
      await this.writer.writeBack()
    })
  }

  /** Stores what the bitmaps have followed so far; the next write begins to follow again. */
  async settleBitmaps(): Promise<void> {
    await this.alone(() => this.#bitmaps.store())
  }

  /** Names of the bitmaps that follow the writes of now. */
  followedBitmaps(): ReadonlySet<string> {
    return this.#bitmaps.names()
  }

  /** The whole content was replaced by other means. The caller holds everything. */
  async contentReplaced(): Promise<void> {
    this.forgetUnpacked()
    await this.#bitmaps.markAll()
  }

  /** Writes everything that is held back, bitmaps too; the image could be closed afterwards. */
  async finish(): Promise<void> {
    await this.alone(async () => {
      await this.writer.writeBack()
      await this.#bitmaps.store()
      await this.writer.writeBack()
    })
  }

  override async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    try {
      await this.#underWay.none()
      await this.finish()
    } finally {
      await super.close()
    }
  }
}
