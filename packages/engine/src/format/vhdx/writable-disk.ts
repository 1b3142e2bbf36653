/** Writing a VHDX image: guest bytes, zeros, discards. */
import { roundDown, roundUp } from '../../bytes/integers.ts'
import { Mutex } from '../../bytes/mutex.ts'
import {
  type ByteStore,
  type Disk,
  type Preallocation,
  throwIfCancelled,
  type WritableDisk,
  type ZeroMode,
} from '../../core/index.ts'
import { track } from '../gathered-writes.ts'
import { checkSizeChange, clearGained } from '../growth.ts'
import { type MappedRun, settled } from '../mapped-disk.ts'
import { RequestsUnderWay } from '../requests-under-way.ts'
import { VhdxDisk } from './disk.ts'
import { dropBlocks, fillBlocks, growTable, writeSize } from './growth.ts'
import { mapOf, type VhdxImage } from './image.ts'
import { blockState, bounds } from './layout.ts'
import { VhdxWriter } from './writer.ts'

/** A part of a request that lies in one piece of the file. Bytes. */
interface Piece {
  guest: number
  length: number
  host: number
  /** The block is there in part: the sectors must be marked once they are written. */
  marks: boolean
}

const mostWrites = 64

/** A VHDX image opened for writing. Calls that overlap in range are ordered by the caller; all others may run at the same time. */
export class WritableVhdxDisk extends VhdxDisk implements WritableDisk {
  readonly kind: ByteStore['kind']
  readonly writer: VhdxWriter
  /** Held while entries and bits change, so that requests allocate in the order of their calls. */
  readonly #metadata = new Mutex()
  /** Held by requests that read a sector in order to write a part of it. */
  readonly #parts = new Mutex()
  /** Sectors are marked once they are written, which the image must stay open for. */
  readonly #underWay = new RequestsUnderWay()
  #closed = false

  constructor(image: VhdxImage, store: ByteStore, parent: Disk | undefined) {
    super(image, parent)
    this.kind = store.kind
    this.writer = new VhdxWriter(image, store)
  }

  get #differencing(): boolean {
    return this.image.metadata.parent !== undefined
  }

  write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (offset < 0 || offset + from.length > this.size) return Promise.reject(this.outside(offset, from.length))
    if (from.length === 0) return Promise.resolve()
    if (this.writer.begun) {
      try {
        const run = this.image.map.resolve(offset, from.length)
        if (run instanceof Promise) run.catch(() => {})
        else if (run.kind === 'data' && run.length === from.length)
          return this.writer.store.write(run.host, from, signal)
      } catch (error) {
        return Promise.reject(error)
      }
    }
    const { logicalSector } = this.image.metadata
    const isWhole = offset % logicalSector === 0 && from.length % logicalSector === 0
    if (isWhole || !this.#differencing) return this.#underWay.track(this.#writeSectors(offset, from, signal))
    return this.#underWay.track(this.#parts.run(() => this.#writeParts(offset, from, signal)))
  }

  /** Writes a range that begins or ends within a sector. What the parent shows of one that is not in the file is written with it; of one that is, others may write the rest at the
   *  same time. */
  async #writeParts(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    const { logicalSector } = this.image.metadata
    const behind = offset + from.length
    const [first, last] = [roundDown(offset, logicalSector), roundDown(behind - 1, logicalSector)]
    const start = (await this.#isHere(first)) ? offset : first
    const end = (await this.#isHere(last)) ? behind : last + logicalSector
    const whole = new Uint8Array(end - start)
    if (offset > start) await this.read(start, whole.subarray(0, offset - start), signal)
    if (end > behind) await this.read(behind, whole.subarray(behind - start), signal)
    whole.set(from, offset - start)
    await this.#writeSectors(start, whole, signal)
  }

  /** Whether the sector that begins at `offset` is in this file. */
  async #isHere(offset: number): Promise<boolean> {
    return (await this.image.map.resolve(offset, this.image.metadata.logicalSector)).kind === 'data'
  }

  async #writeSectors(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    const pieces = await this.#metadata.run(async () => {
      throwIfCancelled(signal, this.name)
      return this.#place(offset, from.length)
    })
    const writes: Promise<void>[] = []
    for (const { guest, length, host } of melted(pieces)) {
      track(writes, this.writer.store.write(host, from.subarray(guest - offset, guest - offset + length), signal))
      if (writes.length >= mostWrites) await settled(writes)
    }
    await settled(writes)
    await this.#mark(pieces)
  }

  /** Finds or makes a place for every byte of a range. Blocks that are made read as what they replace until they are written: as zeros, or, with all
   *  their bits clear, as the parent. */
  async #place(offset: number, length: number): Promise<Piece[]> {
    await this.writer.begin()
    if (this.image.map.pages.crowded) await this.writer.writeBack()
    const { blockSize } = this.image.metadata
    const pieces: Piece[] = []
    for (let at = offset; at < offset + length; ) {
      const block = Math.floor(at / blockSize)
      const inBlock = at - block * blockSize
      const part = Math.min(offset + length - at, blockSize - inBlock)
      pieces.push({ guest: at, length: part, ...(await this.#placeInBlock(block, inBlock)) })
      at += part
    }
    return pieces
  }

  async #placeInBlock(block: number, inBlock: number): Promise<Pick<Piece, 'host' | 'marks'>> {
    const { map } = this.image
    const at = map.entryOffset(block)
    const entry = map.entryIn(await map.pages.at(at), at)
    switch (entry.state) {
      case blockState.fullyPresent:
        return { host: map.checked(block, entry) + inBlock, marks: false }
      case blockState.partiallyPresent:
        await map.bitOffset(block, inBlock)
        return { host: map.checked(block, entry) + inBlock, marks: true }
    }
    if (entry.state === blockState.notPresent && this.#differencing) {
      await this.writer.needBitmap(block)
      await this.writer.setSectors(block, 0, this.image.metadata.blockSize, false)
      const host = await this.writer.allocateBlock()
      await this.writer.setBlock(block, blockState.partiallyPresent, host)
      return { host: host + inBlock, marks: true }
    }
    // States that are none come up here.
    await map.resolve(block * this.image.metadata.blockSize, 1)
    const host = await this.writer.allocateBlock()
    await this.writer.setBlock(block, blockState.fullyPresent, host)
    return { host: host + inBlock, marks: false }
  }

  /** Says of sectors that they are in this file; a block that has them all needs no bits any more. */
  async #mark(pieces: readonly Piece[]): Promise<void> {
    const marked = pieces.filter(({ marks }) => marks)
    if (marked.length === 0) return
    const { blockSize } = this.image.metadata
    await this.#metadata.run(async () => {
      for (const { guest, length } of marked) {
        const block = Math.floor(guest / blockSize)
        const { map } = this.image
        const at = map.entryOffset(block)
        const entry = map.entryIn(await map.pages.at(at), at)
        // Another request may have completed the block meanwhile.
        if (entry.state !== blockState.partiallyPresent) continue
        const from = guest - block * blockSize
        const { logicalSector } = this.image.metadata
        await this.writer.setSectors(block, roundDown(from, logicalSector), roundUp(from + length, logicalSector), true)
        const there = Math.min(blockSize, this.size - block * blockSize)
        const run = await map.resolve(block * blockSize, there)
        if (run.kind === 'data' && run.length === there) {
          await this.writer.setBlock(block, blockState.fullyPresent, entry.offset)
        }
      }
    })
  }

  async zero(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    if (offset < 0 || offset + length > this.size) throw this.outside(offset, length)
    await this.#underWay.track(this.#zeroRuns(offset, length, mode, signal))
  }

  async #zeroRuns(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    for (let at = offset; at < offset + length; ) {
      throwIfCancelled(signal, this.name)
      const found = this.image.map.resolve(at, offset + length - at)
      const run = found instanceof Promise ? await found : found
      await this.#zeroRun(run, at, mode, signal)
      at += run.length
    }
  }

  async #zeroRun(run: MappedRun, offset: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    if (run.kind === 'data') {
      await this.#metadata.run(() => this.writer.begin())
      return this.writer.store.zero(run.host, run.length, mode, signal)
    }
    const readsAsZero = run.kind === 'zero' || !this.#differencing
    if (readsAsZero && mode === 'unmap') return
    const { blockSize } = this.image.metadata
    for (let at = offset; at < offset + run.length; ) {
      throwIfCancelled(signal, this.name)
      const block = Math.floor(at / blockSize)
      const end = Math.min(offset + run.length, (block + 1) * blockSize)
      const whole = at === block * blockSize && end === Math.min((block + 1) * blockSize, this.size)
      const stated = whole && mode === 'unmap' && (await this.#stateZero(block))
      if (!stated) await this.#zeroPart(at, end - at, mode, signal)
      at = end
    }
  }

  /** Says in its entry that a block reads as zeros, where it has no place. */
  #stateZero(block: number): Promise<boolean> {
    return this.#metadata.run(async () => {
      const { map } = this.image
      const at = map.entryOffset(block)
      if (map.entryIn(await map.pages.at(at), at).state === blockState.partiallyPresent) return false
      await this.writer.begin()
      if (map.pages.crowded) await this.writer.writeBack()
      await this.writer.setBlock(block, blockState.zero, 0)
      return true
    })
  }

  /** Zeros a range within one block that has to have a place then. */
  async #zeroPart(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    const { logicalSector } = this.image.metadata
    const from = this.#differencing ? Math.min(offset + length, roundUp(offset, logicalSector)) : offset
    const to = this.#differencing ? Math.max(from, roundDown(offset + length, logicalSector)) : offset + length
    if (from > offset) await this.write(offset, new Uint8Array(from - offset), signal)
    if (to > from) {
      const pieces = await this.#metadata.run(() => this.#place(from, to - from))
      for (const piece of pieces) await this.writer.store.zero(piece.host, piece.length, mode, signal)
      await this.#mark(pieces)
    }
    if (offset + length > to) await this.write(to, new Uint8Array(offset + length - to), signal)
  }

  /** Gives the space of a range back to the host where the blocks have a place; a fixed image keeps it. */
  async discard(offset: number, length: number): Promise<void> {
    if (offset < 0 || offset + length > this.size) throw this.outside(offset, length)
    if (this.image.metadata.leaveAllocated || length === 0) return
    await this.#metadata.run(() => this.writer.begin())
    for (let at = offset; at < offset + length; ) {
      const found = this.image.map.resolve(at, offset + length - at)
      const run = found instanceof Promise ? await found : found
      if (run.kind === 'data') await this.writer.store.discard(run.host, run.length)
      at += run.length
    }
  }

  /** Sets the size. A table without room moves to the end of the file; where the parent reaches further than the disk did, it stays hidden.
   *  @throws MoraineError as `checkSizeChange`. */
  async resize(size: number, preallocation: Preallocation = 'off', shrink = false): Promise<void> {
    const { metadata, context } = this.image
    const rules = { unit: metadata.logicalSector, most: bounds.virtualSize, limit: context.limits.virtualSize }
    checkSizeChange(this, { size, preallocation, shrink }, rules)
    const before = metadata.virtualSize
    if (size === before) return
    await this.#metadata.run(async () => {
      await this.writer.begin()
      await this.writer.writeBack()
      if (size > before) await growTable(this.writer, size)
      else await dropBlocks(this.writer, Math.ceil(size / metadata.blockSize))
    })
    try {
      if (size > before) {
        this.#takeSize(size)
        const first = Math.ceil(before / metadata.blockSize)
        if (metadata.leaveAllocated) await this.#metadata.run(() => fillBlocks(this.writer, first))
        const shown = this.lacksParent ? size : (this.parent?.size ?? 0)
        await clearGained(this, { from: before, unit: metadata.blockSize, shown })
      } else {
        const end = Math.min(before, roundUp(size, metadata.blockSize))
        if (end > size) await this.zero(size, end - size, 'unmap')
      }
      await this.flush()
      await this.#metadata.run(() => writeSize(this.writer, size))
      this.#takeSize(size)
    } catch (error) {
      this.#takeSize(before)
      throw error
    }
  }

  #takeSize(size: number): void {
    this.image.metadata.virtualSize = size
    this.image.map = mapOf(this.image)
  }

  async adoptParent(parent: Disk): Promise<void> {
    if (!(parent instanceof VhdxDisk)) return
    const { dataWriteGuid } = parent.image.headers.current
    if (this.image.metadata.parent?.linkages[0] === dataWriteGuid) return
    await this.#metadata.run(async () => {
      await this.writer.begin()
      await this.writer.setLinkage(dataWriteGuid)
      await this.writer.writeBack()
    })
  }

  flush(): Promise<void> {
    return this.#metadata.run(() => this.writer.writeBack())
  }

  /** Runs `work` when no entry changes. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    return this.#metadata.run(work)
  }

  override async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    try {
      await this.#underWay.none()
      await this.#metadata.run(() => this.writer.finish())
    } finally {
      await super.close()
    }
  }
}

/** Pieces side by side in the file go out as one. */
function melted(pieces: readonly Piece[]): Piece[] {
  const runs: Piece[] = []
  for (const piece of pieces) {
    const last = runs.at(-1)
    if (last !== undefined && last.host + last.length === piece.host) last.length += piece.length
    else runs.push({ ...piece })
  }
  return runs
}
