/** Allocation in one hosted sparse extent: new grains at the end of the file, their entries held back until the grains are safe. */
import { roundUp } from '../../bytes/integers.ts'
import type { ByteStore } from '../../core/index.ts'
import type { GrainTable } from './grain-tables.ts'
import { fault } from './image.ts'
import { bounds, sectorBytes } from './layout.ts'
import type { SparseExtent } from './sparse-extent.ts'

/** The writing side of a sparse extent. One caller at a time. */
export class GrainWriter {
  readonly extent: SparseExtent
  readonly store: ByteStore
  /** Where the next grain goes, in bytes. As QEMU counts it: the end of the file, rounded up to whole grains. */
  #next: number

  constructor(extent: SparseExtent, store: ByteStore) {
    this.extent = extent
    this.store = store
    this.#next = roundUp(store.size, extent.shape.grainBytes)
  }

  /** Whether the entries held back should be written before more are made. */
  get crowded(): boolean {
    return this.extent.tables.crowded
  }

  /** Whether the end of the file is the end of the last grain. */
  get #end(): number {
    return this.extent.shape.compressed ? this.store.size : this.#next
  }

  /** Takes room for whole grains side by side; its byte offset. It reads as zeros.
   *  @throws MoraineError `limit` where a table cannot point any more. */
  allocate(count: number): number {
    return this.#take(count * this.extent.shape.grainBytes)
  }

  /** Takes room for a compressed grain of so many bytes, marker included. */
  allocatePacked(bytes: number): number {
    return this.#take(roundUp(bytes, sectorBytes))
  }

  #take(bytes: number): number {
    const start = this.#next
    if ((start + bytes) / sectorBytes > bounds.fileSectors) {
      throw fault(this.store, 'limit', 'the extent is full: its tables cannot point past 2 TiB', 'grain table', {
        value: start,
        code: 'EFBIG',
      })
    }
    this.#next = start + bytes
    return start
  }

  /** Points the entries of grains side by side at `host` and what follows it.
   *  `at` is the guest byte offset in the extent of the first. */
  async link(at: number, count: number, host: number): Promise<void> {
    const { grainBytes } = this.extent.shape
    await this.#setEntries(at, count, host / sectorBytes, grainBytes / sectorBytes)
  }

  /** Sets entries to a value that means the same for all of them. */
  async mark(at: number, count: number, value: number): Promise<void> {
    await this.#setEntries(at, count, value, 0)
  }

  async #setEntries(at: number, count: number, value: number, step: number): Promise<void> {
    const { tableEntries, grainBytes } = this.extent.shape
    let grain = at / grainBytes
    let entry = value
    for (const [start, end] = [grain, grain + count]; grain < end; ) {
      const index = Math.floor(grain / tableEntries)
      // Of a long run of grains, which may need more tables than there is room for. (A packed grain is one, and its bytes are not in the file yet.)
      if (grain > start && this.crowded) await this.writeBack()
      const table = await this.#tableFor(index)
      const stop = Math.min(end, (index + 1) * tableEntries)
      for (; grain < stop; grain++) {
        table.view.setUint32((grain - index * tableEntries) * 4, entry, true)
        entry += step
      }
      this.extent.tables.touch(table)
    }
  }

  async #tableFor(index: number): Promise<GrainTable> {
    const { tables, shape } = this.extent
    const found = tables.get(index)
    const table = found instanceof Promise ? await found : found
    if (table !== undefined) return table
    const tableBytes = roundUp(shape.tableEntries * 4, sectorBytes)
    const offset = this.#take(shape.redundant === undefined ? tableBytes : 2 * tableBytes)
    this.#next = roundUp(this.#next, shape.grainBytes)
    return tables.fresh(index, offset, shape.redundant === undefined ? 0 : offset + tableBytes)
  }

  /** Writes what is held back: the grains are made safe first, then the tables point at them, then the directory at new tables. */
  async writeBack(): Promise<void> {
    const { tables, shape } = this.extent
    if (!tables.isDirty && tables.unlinked.length === 0) return
    if (this.store.kind !== 'device' && this.store.size < this.#end) await this.store.resize(this.#end)
    await this.store.flush()
    await tables.writeBack(this.store)
    if (tables.unlinked.length === 0) return
    await this.store.flush()
    for (const table of tables.unlinked) {
      const { index, offset, copy } = table
      await shape.redundant?.set(index, copy / sectorBytes, this.store)
      await shape.directory.set(index, offset / sectorBytes, this.store)
      tables.linked(table)
    }
  }
}
