/** Writing a VMDK: guest bytes, zeros, discards, compressed grains. */
import { roundDown, roundUp } from '../../bytes/integers.ts'
import { Mutex } from '../../bytes/mutex.ts'
import {
  type ByteSource,
  type ByteStore,
  type Disk,
  isStore,
  type PackedCodec,
  type Preallocation,
  throwIfCancelled,
  type WritableDisk,
  type ZeroMode,
} from '../../core/index.ts'
import { checkSizeChange } from '../growth.ts'
import { RequestsUnderWay } from '../requests-under-way.ts'
import { BusyRanges } from './busy-ranges.ts'
import { VmdkDisk } from './disk.ts'
import { type Piece, writePieces } from './grain-pieces.ts'
import { GrainWriter } from './grain-writer.ts'
import { growSparse, resizableOf, resizeFlat } from './growth.ts'
import { recordParentCid, renewCid } from './identity.ts'
import { fault, furtherFiles, type Part, partAt, type VmdkImage } from './image.ts'
import { sectorBytes, zeroedEntry } from './layout.ts'
import { PackedGrains, storedZlib } from './packed-grains.ts'
import type { Run } from './sparse-extent.ts'

/** Zeros that are written at once. */
const zeroBytes = 1024 * 1024

/** A VMDK opened for writing. Calls that overlap in range are ordered by the caller; all others may run at the same time. */
export class WritableVmdkDisk extends VmdkDisk implements WritableDisk {
  readonly kind: ByteStore['kind']
  readonly packedUnit: number | undefined
  readonly packedCodec: PackedCodec | undefined
  readonly compression: 'always' | 'ignored'
  readonly #store: ByteStore
  readonly #writers = new Map<Part, GrainWriter>()
  readonly #packed: PackedGrains | undefined
  /** Held while a request decides where its bytes go, so that requests allocate in the order of their calls. */
  readonly #order = new Mutex()
  /** Held while metadata changes. */
  readonly #metadata = new Mutex()
  readonly #busy = new BusyRanges()
  /** Grains of a delta link are linked once they are written, which the image must stay open for. */
  readonly #underWay = new RequestsUnderWay()
  #begun: Promise<void> | undefined
  #ready = false
  #closed = false

  /** @throws MoraineError `unsupported` for a stream that has ended. */
  constructor(image: VmdkImage, store: ByteStore, parent: Disk | undefined) {
    super(image, parent)
    this.#store = store
    const [first] = image.parts
    const file = first?.file
    this.kind = file !== undefined && isStore(file) ? file.kind : store.kind
    for (const part of image.parts) {
      if (part.sparse === undefined || part.access !== 'RW' || part.file === undefined || !isStore(part.file)) continue
      if (part.sparse.shape.closed) {
        throw fault(part.file, 'unsupported', 'a stream that has ended can only be read', 'gdOffset', {
          hint: 'convert the image to write to it',
        })
      }
      this.#writers.set(part, new GrainWriter(part.sparse, part.file))
    }
    const shape = first?.sparse?.shape
    const writer = first === undefined ? undefined : this.#writers.get(first)
    const packs = image.parts.length === 1 && shape?.compressed === true && shape.markers && writer !== undefined
    this.compression = packs ? 'always' : 'ignored'
    this.packedUnit = packs ? shape.grainBytes : undefined
    this.packedCodec = packs ? 'zlib' : undefined
    this.#packed = packs ? new PackedGrains(writer) : undefined
  }

  override read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    const busy = this.#busy.over(offset, into.length)
    if (busy !== undefined) return busy.done.then(() => this.read(offset, into, signal))
    return super.read(offset, into, signal)
  }

  protected override async beforePacked(): Promise<void> {
    await this.#metadata.run(async () => this.#packed?.flush())
  }

  write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (offset < 0 || offset + from.length > this.size) return Promise.reject(this.outside(offset, from.length))
    if (from.length === 0) return Promise.resolve()
    if (this.#packed !== undefined) return this.#writeGrains(offset, from)
    if (this.#ready && this.#busy.over(offset, from.length) === undefined) {
      try {
        const run = this.resolve(offset, from.length)
        // The table is on its way; what is wrong with it comes up again when the request is placed.
        if (run instanceof Promise) run.catch(() => {})
        else if (run.kind === 'data' && run.length === from.length) {
          return this.#writable(run.file, offset).write(run.host, from, signal)
        }
      } catch (error) {
        return Promise.reject(error)
      }
    }
    return this.#underWay.track(this.#writePlaced(offset, from, signal))
  }

  async #writePlaced(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    const replacing = this.#busy.begin()
    try {
      const pieces = await this.#order.run(async () => {
        await this.#begin()
        await this.#busy.untilFree(offset, from.length)
        throwIfCancelled(signal, this.name)
        const placed = await this.#metadata.run(() => this.#place(offset, from.length))
        for (const { pending } of placed) {
          if (pending !== undefined) replacing.add(pending.from, pending.to)
        }
        return placed
      })
      await writePieces(pieces, { offset, from }, (at, into) => this.readAt(at, into, signal), signal)
      await this.#metadata.run(async () => {
        for (const { pending } of pieces) await pending?.writer.link(pending.at, pending.count, pending.host)
      })
    } finally {
      replacing.end()
    }
  }

  /** Decides where the bytes of a request go. Grains that show nothing but zeros are linked at once: whatever is lost, zeros remain. */
  async #place(offset: number, length: number): Promise<Piece[]> {
    const pieces: Piece[] = []
    const end = offset + length
    for (let guest = offset; guest < end; ) {
      const run = await this.resolve(guest, end - guest)
      const part = this.#partOf(guest)
      if (run.kind === 'data') {
        const store = this.#writable(run.file, guest)
        pieces.push({ store, guest, length: run.length, host: run.host, pending: undefined })
      } else {
        pieces.push(await this.#allocate(part, run, guest))
      }
      guest += run.length
    }
    return pieces
  }

  async #allocate(part: Part, run: Run, guest: number): Promise<Piece> {
    const writer = this.#writerOf(part, guest)
    if (writer.crowded) await writer.writeBack()
    const { grainBytes } = writer.extent.shape
    const at = guest - part.start
    const first = roundDown(at, grainBytes)
    const last = roundUp(at + run.length, grainBytes)
    const count = (last - first) / grainBytes
    const host = writer.allocate(count)
    const from = part.start + first
    const to = part.start + Math.min(last, part.length)
    const piece: Piece = { store: writer.store, guest, length: run.length, host: host + at - first, pending: undefined }
    if (this.#showsParent(run, from)) piece.pending = { writer, from, to, at: first, count, host }
    else await writer.link(first, count, host)
    return piece
  }

  /** Whether a range that begins here may hold bytes of the parent. */
  #showsParent(run: Run, guest: number): boolean {
    return run.kind === 'unallocated' && this.parent !== undefined && guest < this.parent.size
  }

  async writePacked(offset: number, packed: Uint8Array): Promise<void> {
    const grains = this.#packed
    const unit = this.packedUnit ?? 0
    if (grains === undefined || offset < 0 || offset % unit !== 0 || offset >= this.size || packed.length === 0) {
      throw fault(this.file, 'invalid', 'a compressed grain must be a whole grain of a compressed extent', 'offset', {
        value: offset,
        rule: `a multiple of ${unit}`,
      })
    }
    await this.#order.run(async () => {
      await this.#begin()
      await this.#metadata.run(async () => {
        const [writer] = this.#writers.values()
        if (writer?.crowded === true) {
          await grains.flush()
          await writer.writeBack()
        }
        await grains.write(offset, packed)
      })
    })
  }

  /** Compresses whole grains. What does not shrink is stored as it is, within a stream. */
  async #writeGrains(offset: number, from: Uint8Array): Promise<void> {
    const unit = this.packedUnit as number
    const end = offset + from.length
    if (offset % unit !== 0 || (end % unit !== 0 && end !== this.size)) {
      throw fault(this.file, 'unsupported', 'only whole grains can be written to a compressed extent', 'offset', {
        value: offset,
        rule: `a multiple of ${unit}`,
        code: 'EINVAL',
      })
    }
    const pack = this.image.context.codecs.zlib?.pack
    const writes: Promise<void>[] = []
    for (let at = 0; at < from.length; at += unit) {
      let content = from.subarray(at, at + unit)
      if (content.length < unit) {
        content = new Uint8Array(unit)
        content.set(from.subarray(at))
      }
      writes.push(this.writePacked(offset + at, pack?.(content, unit) ?? storedZlib(content)))
    }
    for (const result of await Promise.allSettled(writes)) if (result.status === 'rejected') throw result.reason
  }

  async zero(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    if (offset < 0 || offset + length > this.size) throw this.outside(offset, length)
    await this.#underWay.track(this.#zero(offset, length, mode, signal))
  }

  async #zero(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    const rest: { offset: number; length: number }[] = []
    await this.#order.run(async () => {
      await this.#begin()
      await this.#busy.untilFree(offset, length)
      await this.#metadata.run(async () => {
        for (let guest = offset; guest < offset + length; ) {
          throwIfCancelled(signal, this.name)
          const run = await this.resolve(guest, offset + length - guest)
          await this.#zeroRun(run, guest, mode, rest)
          guest += run.length
        }
      })
    })
    for (const part of rest) {
      const zeros = new Uint8Array(Math.min(part.length, zeroBytes))
      for (let done = 0; done < part.length; done += zeros.length) {
        await this.write(part.offset + done, zeros.subarray(0, part.length - done), signal)
      }
    }
  }

  /** Zeros one run by the cheapest means; what must be written goes to `rest`. */
  async #zeroRun(run: Run, guest: number, mode: ZeroMode, rest: { offset: number; length: number }[]): Promise<void> {
    const part = this.#partOf(guest)
    if (run.kind === 'zero') return
    if (run.kind === 'unallocated' && !this.#showsParent(run, guest)) return
    const writer = this.#writers.get(part)
    if (run.kind === 'data' && (writer === undefined || !writer.extent.shape.zeroedGrains || mode !== 'unmap')) {
      return this.#writable(run.file, guest).zero(run.host, run.length, mode)
    }
    const known = this.#writerOf(part, guest, run)
    const { grainBytes, zeroedGrains } = known.extent.shape
    const at = guest - part.start
    const end = at + run.length
    const first = roundUp(at, grainBytes)
    const last = end === part.length ? roundUp(end, grainBytes) : roundDown(end, grainBytes)
    if (last <= first) {
      if (run.kind === 'data') return known.store.zero(run.host, run.length, mode)
      rest.push({ offset: guest, length: run.length })
      return
    }
    const count = (last - first) / grainBytes
    if (known.crowded) await known.writeBack()
    if (zeroedGrains) await known.mark(first, count, zeroedEntry)
    // New grains read as zeros.
    else await known.link(first, count, known.allocate(count))
    const edges = [
      [at, first],
      [Math.min(last, end), end],
    ] as const
    for (const [from, to] of edges) {
      if (to <= from) continue
      if (run.kind === 'data') await known.store.zero(run.host + from - at, to - from, mode)
      else rest.push({ offset: part.start + from, length: to - from })
    }
    if (run.kind === 'data') await known.store.discard(run.host + first - at, Math.min(last, end) - first)
  }

  async discard(offset: number, length: number): Promise<void> {
    if (offset < 0 || offset + length > this.size) throw this.outside(offset, length)
    await this.#order.run(async () => {
      await this.#begin()
      await this.#busy.untilFree(offset, length)
      for (let guest = offset; guest < offset + length; ) {
        const run = await this.resolve(guest, offset + length - guest)
        if (run.kind === 'data') await this.#writable(run.file, guest).discard(run.host, run.length)
        guest += run.length
      }
    })
  }

  async copyFrom(source: ByteSource, sourceOffset: number, offset: number, length: number): Promise<number> {
    if (offset < 0 || offset + length > this.size) throw this.outside(offset, length)
    await this.#order.run(() => this.#begin())
    const run = await this.resolve(offset, length)
    // Only what has its place already: a grain that is made for it would be made in another order than by writing.
    if (run.kind !== 'data') return 0
    const store = this.#writable(run.file, offset)
    return (await store.copyFrom?.(source, sourceOffset, run.host, run.length)) ?? 0
  }

  /** Sets the size. A sparse image gets what it needs of tables at the end of its file; where the parent reaches further than the disk did, it stays hidden. Flat ones become smaller, too.
   *  @throws MoraineError as `checkSizeChange`; `unsupported` for an image of several extents or of compressed grains. */
  async resize(size: number, preallocation: Preallocation = 'off', shrink = false): Promise<void> {
    const { image } = this
    const found = resizableOf(image)
    const rules = { unit: sectorBytes, most: Number.MAX_SAFE_INTEGER, limit: image.limits.virtualSize }
    const growsOnly = found.kind === 'flat' ? {} : { growsOnly: 'the format has no list of free grains' }
    checkSizeChange(this, { size, preallocation, shrink }, { ...rules, ...growsOnly })
    if (size === this.size) return
    await this.#order.run(() => this.#begin())
    await this.flush()
    const take = (part: Part): void => this.#takePart(part)
    if (found.kind === 'flat') await resizeFlat(this, this.#store, found, size, take)
    else await growSparse(this, found, size, take)
  }

  /** Makes this the one part of the disk. */
  #takePart(part: Part): void {
    this.image.parts = [part]
    this.image.size = part.length
    this.#writers.clear()
    if (part.sparse !== undefined && part.file !== undefined && isStore(part.file)) {
      this.#writers.set(part, new GrainWriter(part.sparse, part.file))
    }
  }

  async flush(): Promise<void> {
    await this.#metadata.run(async () => {
      await this.#packed?.flush()
      for (const writer of this.#writers.values()) await writer.writeBack()
    })
    for (const file of [this.#store, ...furtherFiles(this.image)]) if (isStore(file)) await file.flush()
  }

  override async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    try {
      // Whoever asked first is done first.
      await this.#underWay.none()
      await this.#order.run(async () => {})
      if (this.#ready) await this.flush()
    } finally {
      await super.close()
    }
  }

  /** Gives the image a new identity, before the first change. */
  async #begin(): Promise<void> {
    this.#begun ??= renewCid(this.image, this.#store)
    try {
      await this.#begun
      this.#ready = true
    } catch (error) {
      this.#begun = undefined
      throw error
    }
  }

  async adoptParent(parent: Disk): Promise<void> {
    if (!(parent instanceof VmdkDisk) || parent.image.descriptor.cid === this.image.descriptor.parentCid) return
    await this.#order.run(() => recordParentCid(this.image, this.#store, parent.image.descriptor.cid))
    await this.#store.flush()
  }

  #partOf(guest: number): Part {
    const { parts } = this.image
    return parts[partAt(parts, guest)] as Part
  }

  /** The file of a run, when this part of the disk may be written. */
  #writable(file: ByteSource | undefined, guest: number): ByteStore {
    const part = this.#partOf(guest)
    if (part.access === 'RW' && file !== undefined && isStore(file)) return file
    if (part.access === 'NOACCESS') throw this.unreachable(guest)
    throw fault(this.file, 'denied', 'this part of the disk can only be read', 'extent', {
      value: part.name ?? part.type,
      code: 'EACCES',
    })
  }

  #writerOf(part: Part, guest: number, run?: Run): GrainWriter {
    const writer = this.#writers.get(part)
    if (writer !== undefined && run?.kind !== 'packed' && !writer.extent.shape.compressed) return writer
    if (part.access !== 'RW') this.#writable(part.file, guest)
    throw fault(this.file, 'unsupported', 'this part of the disk cannot be written in place', 'extent', {
      value: part.type,
      rule: 'a flat or an uncompressed sparse extent',
      code: 'ENOTSUP',
    })
  }
}
