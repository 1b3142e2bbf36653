/** Writing a VDI image: guest bytes, zeros, discards. New blocks go behind the last one; the header counts them before the map points at them, as
 *  QEMU takes the count for the next free place. */

import { Mutex } from '../../bytes/mutex.ts'
import {
  type ByteStore,
  type Disk,
  type Preallocation,
  throwIfCancelled,
  type WritableDisk,
  type ZeroMode,
} from '../../core/index.ts'
import { GatheredWrites } from '../gathered-writes.ts'
import { checkSizeChange, clearGained } from '../growth.ts'
import type { MappedRun } from '../mapped-disk.ts'
import { newGuid } from '../new-guid.ts'
import { VdiDisk, type VdiImage } from './disk.ts'
import { FreeBlocks } from './free-blocks.ts'
import { growMap } from './growth.ts'
import { encodeHeader, entry, mostBlocks } from './layout.ts'

/** A VDI image opened for writing. Calls that overlap in range are ordered by the caller; all others may run at the same time. */
export class WritableVdiDisk extends VdiDisk implements WritableDisk {
  readonly kind: ByteStore['kind']
  readonly store: ByteStore
  /** Held while a request finds its blocks, so that requests allocate in the order of their calls. */
  readonly #order = new Mutex()
  #free: FreeBlocks | undefined
  #headerChanged = false
  /** Whether this opening has given the image a new modification UUID. */
  #modified = false
  #closed = false

  constructor(image: VdiImage, store: ByteStore, parent: Disk | undefined) {
    super(image, parent)
    this.store = store
    this.kind = store.kind
  }

  write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (offset < 0 || offset + from.length > this.size) return Promise.reject(this.outside(offset, from.length))
    if (from.length === 0) return Promise.resolve()
    try {
      const run = this.#modified ? this.resolve(offset, from.length) : undefined
      if (run instanceof Promise)
        run.catch(() => {}) // It is asked for again below.
      else if (run?.kind === 'data' && run.length === from.length) return this.store.write(run.host, from, signal)
    } catch (error) {
      return Promise.reject(error)
    }
    return this.#write(offset, from, signal)
  }

  async #write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    const writes = new GatheredWrites(this.store, offset, from, signal)
    try {
      await this.#order.run(async () => {
        throwIfCancelled(signal, this.name)
        this.#modify()
        for (let at = offset; at < offset + from.length; ) {
          const found = this.resolve(at, offset + from.length - at)
          let run = found instanceof Promise ? await found : found
          if (run.kind !== 'data') {
            const { blockSize } = this.image.header
            const length = Math.min(run.length, blockSize - (at % blockSize))
            if (run.kind === 'unallocated' && this.#isCovered(at, length)) {
              await this.#copyUp(at, from.subarray(at - offset, at - offset + length))
              at += length
              continue
            }
            run = { kind: 'data', host: (await this.#allocate(Math.floor(at / blockSize))) + (at % blockSize), length }
          }
          writes.add(at, run.length, run.host)
          at += run.length
        }
        writes.send()
      })
    } finally {
      await writes.settle()
    }
  }

  /** Whether the parent shows something in the block around a range that the range does not replace. */
  #isCovered(offset: number, length: number): boolean {
    if (this.parent === undefined && !this.lacksParent) return false
    const { blockSize } = this.image.header
    const start = offset - (offset % blockSize)
    return length < Math.min(blockSize, this.size - start)
  }

  /** Gives a block a place that reads as zeros, and points the map at it. What is lost if the bytes never come are zeros.
   *  Returns the byte offset of its data in the file. */
  async #allocate(block: number): Promise<number> {
    const host = await this.#place(block)
    await this.#link(block)
    await this.#settleCrowd()
    return host
  }

  /** Points the map at the place that was taken last, once `before` is done. Where one of them fails, the place is free again. */
  async #link(block: number, before?: () => Promise<void>): Promise<void> {
    const free = this.#free as FreeBlocks
    try {
      await before?.()
      await this.image.table.set(block, free.last)
    } catch (error) {
      this.#giveBack(free)
      throw error
    }
  }

  #giveBack(free: FreeBlocks): void {
    free.giveBack()
    this.image.header.blocksAllocated = free.used
  }

  /** Takes a place for a block and makes it read as zeros. */
  async #place(block: number): Promise<number> {
    this.#free ??= await FreeBlocks.find(this.image)
    const { header } = this.image
    const index = await this.#free.take()
    if (index === undefined) {
      throw this.fault('corrupt', 'every block of the image is in use', {
        field: 'block map',
        value: block,
        rule: `at most ${header.blocks} blocks in use`,
      })
    }
    const host = this.hostOf(index)
    const start = host - header.blockExtra
    const end = host + header.blockSize
    try {
      await this.#clear(host, start, end)
    } catch (error) {
      this.#giveBack(this.#free)
      throw error
    }
    header.blocksAllocated = this.#free.used
    this.#headerChanged = true
    return host
  }

  /** Makes the place of a block, from `start` to `end` in the file, read as zeros. */
  async #clear(host: number, start: number, end: number): Promise<void> {
    if (this.kind === 'device') {
      if (end > this.store.size) {
        const place = { offset: host, code: 'ENOSPC' }
        throw this.fault('io', 'No space left on device', place)
      }
      await this.store.zero(start, end - start, 'unmap')
    } else if (start < this.store.size) {
      // Left behind by a block that was dropped, or by a power cut before the map was written.
      await this.store.zero(start, Math.min(end, this.store.size) - start, 'unmap')
    }
  }

  /** Writes a whole block of which the parent decides a part, and then points the map at it. */
  async #copyUp(offset: number, from: Uint8Array): Promise<void> {
    const { blockSize } = this.image.header
    const start = offset - (offset % blockSize)
    const whole = new Uint8Array(Math.min(blockSize, this.size - start))
    const tail = offset + from.length - start
    await this.readParent(start, whole.subarray(0, offset - start))
    await this.readParent(start + tail, whole.subarray(tail))
    whole.set(from, offset - start)
    const host = await this.#place(start / blockSize)
    await this.#link(start / blockSize, () => this.store.write(host, whole))
    await this.#settleCrowd()
  }

  async #settleCrowd(): Promise<void> {
    if (this.image.table.crowded) await this.#writeBack()
  }

  zero(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    return this.#eachRun(offset, length, signal, async (at, run) => {
      if (run.kind === 'data') return this.store.zero(run.host, run.length, mode, signal)
      const over = run.kind === 'unallocated' && (this.parent !== undefined || this.lacksParent)
      if (mode === 'unmap' && !over) return undefined
      return this.#zeroBlocks(at, run.length, mode, over)
    })
  }

  /** Makes blocks without a place read as zeros: by their entries where a parent would show through, with places where space shall be taken. */
  async #zeroBlocks(offset: number, length: number, mode: ZeroMode, over: boolean): Promise<void> {
    const { blockSize } = this.image.header
    for (let at = offset; at < offset + length; ) {
      const part = Math.min(offset + length - at, blockSize - (at % blockSize))
      const block = Math.floor(at / blockSize)
      if (over && this.#isCovered(at, part)) await this.#copyUp(at, new Uint8Array(part))
      else if (mode === 'unmap') await this.image.table.set(block, entry.discarded)
      else {
        const host = await this.#allocate(block)
        await this.store.zero(host + (at % blockSize), part, 'allocate')
      }
      await this.#settleCrowd()
      at += part
    }
  }

  discard(offset: number, length: number): Promise<void> {
    return this.#eachRun(offset, length, undefined, async (_at, run) => {
      // A block keeps its place: QEMU puts the next one where the count of blocks in use says.
      // The file may not reach there yet.
      const there = run.kind === 'data' ? Math.min(run.length, this.store.size - run.host) : 0
      if (there > 0) await this.store.discard(run.host, there)
    })
  }

  async #eachRun(
    offset: number,
    length: number,
    signal: AbortSignal | undefined,
    work: (at: number, run: MappedRun) => Promise<void>,
  ): Promise<void> {
    if (offset < 0 || offset + length > this.size) throw this.outside(offset, length)
    if (length === 0) return
    await this.#order.run(async () => {
      this.#modify()
      for (let at = offset; at < offset + length; ) {
        throwIfCancelled(signal, this.name)
        const found = this.resolve(at, offset + length - at)
        const run = found instanceof Promise ? await found : found
        await work(at, run)
        at += run.length
      }
    })
  }

  /** Grows the disk, without a byte of it moving unless the block map needs the place of the first blocks. Where the parent reaches further than the disk did, it stays hidden.
   *  @throws MoraineError as `checkSizeChange`; `corrupt` for a map that is damaged. */
  async resize(size: number, preallocation: Preallocation = 'off', shrink = false): Promise<void> {
    const { header, context } = this.image
    const { blockSize } = header
    checkSizeChange(
      this,
      { size, preallocation, shrink },
      {
        unit: 512,
        most: mostBlocks * blockSize,
        limit: context.limits.virtualSize,
        growsOnly: 'other programs put new blocks where the count of blocks says, so none can be taken out',
      },
    )
    const before = { size: this.size, stored: header.diskSize }
    if (size === before.size) return
    await this.alone(async () => {
      this.#modify()
      await growMap(this, Math.ceil(size / blockSize))
    })
    this.size = size
    try {
      const shown = this.lacksParent ? size : (this.parent?.size ?? 0)
      await clearGained(this, { from: before.size, unit: blockSize, shown })
      await this.flush()
      header.diskSize = size
      this.#headerChanged = true
      await this.flush()
    } catch (error) {
      this.size = before.size
      header.diskSize = before.stored
      throw error
    }
  }

  /** Images over this one notice a change by the modification UUID. */
  #modify(): void {
    if (this.#modified) return
    this.#modified = true
    this.image.header.uuidModification = newGuid()
    this.#headerChanged = true
  }

  async adoptParent(parent: Disk): Promise<void> {
    if (!(parent instanceof VdiDisk)) return
    const { uuidModification } = parent.image.header
    await this.#order.run(async () => {
      if (this.image.header.uuidParentModification === uuidModification) return
      this.image.header.uuidParentModification = uuidModification
      this.#headerChanged = true
      await this.#writeBack()
    })
  }

  flush(): Promise<void> {
    return this.#order.run(() => this.#writeBack())
  }

  async #writeBack(): Promise<void> {
    const { table, header } = this.image
    if (!table.dirty && !this.#headerChanged) return this.store.flush()
    if (this.#free !== undefined && this.kind !== 'device') {
      const end = this.hostOf(this.#free.end) - header.blockExtra
      if (this.store.size < end) await this.store.resize(end)
    }
    await this.store.flush()
    if (this.#headerChanged) {
      this.#headerChanged = false
      try {
        await this.store.write(0, encodeHeader(header).slice())
        await this.store.flush()
      } catch (error) {
        this.#headerChanged = true
        throw error
      }
    }
    if (!table.dirty) return
    await table.writeBack(this.store)
    await this.store.flush()
  }

  /** Runs `work` on an image all of whose changes are in the file, while nothing else happens. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    return this.#order.run(async () => {
      await this.#writeBack()
      try {
        return await work()
      } finally {
        this.#free = undefined
      }
    })
  }

  override async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    try {
      await this.flush()
    } finally {
      await super.close()
    }
  }
}
