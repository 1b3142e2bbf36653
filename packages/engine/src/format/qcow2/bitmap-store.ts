/** The persistent dirty bitmaps of an image that can be written. Limits and words: QEMU 7.2's `qcow2_co_can_store_new_dirty_bitmap`. */

import { divideUp, setU64be, viewOf } from '../../bytes/integers.ts'
import { encodeName } from '../../bytes/name-text.ts'
import {
  type BitmapInfo,
  type BitmapStore,
  type Bitmaps,
  type DirtyRange,
  type MoraineError,
  type NewBitmap,
  readPadded,
  throwIfCancelled,
} from '../../core/index.ts'
import { readBitmapPart, setBits } from './bitmap-bits.ts'
import { type BitmapEntry, bitmapFlag, encodeBitmapDirectory } from './bitmap-directory.ts'
import { joinRanges } from './bitmap-ranges.ts'
import { Qcow2Bitmaps } from './bitmaps.ts'
import { encodeHeader } from './header.ts'
import { fault } from './image.ts'
import { autoclear, bounds, type Header } from './layout.ts'
import type { HostRange } from './refcounts.ts'
import type { WritableQcow2Disk } from './writable-disk.ts'

/** The bitmaps of one writable image. */
export class WritableBitmaps extends Qcow2Bitmaps implements BitmapStore {
  readonly #disk: WritableQcow2Disk

  constructor(disk: WritableQcow2Disk) {
    super(disk.image)
    this.#disk = disk
  }

  override list(): readonly BitmapInfo[] {
    // One that is being followed bears the mark in the file; here it is known what it holds.
    const followed = this.#disk.followedBitmaps()
    return super.list().map((bitmap) => (followed.has(bitmap.name) ? { ...bitmap, inconsistent: false } : bitmap))
  }

  override async *ranges(name: string, signal?: AbortSignal): AsyncIterable<DirtyRange[]> {
    await this.#disk.settleBitmaps()
    yield* super.ranges(name, signal)
  }

  async add(bitmaps: readonly NewBitmap[], signal?: AbortSignal): Promise<void> {
    if (bitmaps.length === 0) return
    await this.#disk.settleBitmaps()
    await this.#disk.alone(async () => {
      this.#checkAll(bitmaps)
      const taken: HostRange[] = []
      try {
        const list = [...this.image.bitmapList]
        for (const bitmap of bitmaps) list.push(await this.#writeBitmap(bitmap, taken, signal))
        const directory = encodeBitmapDirectory(list)
        const header = this.#headerWith(list.length, directory.length, await this.#write(directory, taken))
        await this.#disk.writer.writeBack()
        throwIfCancelled(signal, this.image.file.name)
        await this.#switch(header, list, taken)
      } catch (error) {
        for (const { offset, length } of taken) await this.#disk.writer.abandon(offset, length)
        throw error
      }
    })
  }

  async remove(name: string): Promise<void> {
    await this.#replace(name, async () => undefined, true)
  }

  async clear(name: string): Promise<void> {
    await this.#replace(name, async (old, taken) => await this.#writeBitmap(newLike(old), taken, undefined))
  }

  async enable(name: string, enabled: boolean): Promise<void> {
    await this.#replace(name, async (old) => ({ ...old, flags: enabled ? bitmapFlag.auto : 0 }))
  }

  async merge(name: string, from: Bitmaps, source: string, signal?: AbortSignal): Promise<void> {
    await this.#replace(name, async (old, taken) => {
      // Both are read as they stand in the file; what was followed so far is there by now.
      const other = from === this ? super.ranges(source, signal) : from.ranges(source, signal)
      if (from.list().every((bitmap) => bitmap.name !== source)) {
        throw fault(this.image, 'missing', `Dirty bitmap '${source}' not found`, 'bitmap', { value: source })
      }
      if (from.size !== this.size) {
        const reason = `Bitmaps are of different sizes (destination size is ${this.size}, source size is ${from.size}) and can't be merged`
        throw fault(this.image, 'unsupported', reason, 'bitmap', { value: from.size, rule: `${this.size}` })
      }
      const ranges = joinRanges(super.ranges(name, signal), other, old.granularityBits, this.size)
      return await this.#writeBitmap({ ...newLike(old), ranges }, taken, signal)
    })
  }

  /** Puts what `make` gives in the place of a bitmap, or takes it away. Nothing changes when this fails. */
  async #replace(
    name: string,
    make: (old: BitmapEntry, taken: HostRange[]) => Promise<BitmapEntry | undefined>,
    broken = false,
  ): Promise<void> {
    await this.#disk.settleBitmaps()
    await this.#disk.alone(async () => {
      const { image } = this
      const old = image.bitmapList.find((bitmap) => bitmap.name === name)
      if (old === undefined) {
        throw fault(image, 'missing', `Dirty bitmap '${name}' not found`, 'bitmap', { value: name })
      }
      if (!broken && (old.flags & bitmapFlag.inUse) !== 0) {
        throw fault(image, 'invalid', `Bitmap '${name}' is inconsistent and cannot be used`, 'bitmap', { value: name })
      }
      const taken: HostRange[] = []
      let freed: HostRange[]
      try {
        const made = await make(old, taken)
        freed = made?.tableOffset === old.tableOffset ? [] : await this.#placesOf(old)
        const list = image.bitmapList.flatMap((bitmap) =>
          bitmap !== old ? [bitmap] : made === undefined ? [] : [made],
        )
        const header = await this.#headerFor(list, taken)
        await this.#disk.writer.writeBack()
        await this.#switch(header, list, taken)
      } catch (error) {
        for (const { offset, length } of taken) await this.#disk.writer.abandon(offset, length)
        throw error
      }
      for (const { offset, length } of freed) this.#disk.writer.free(offset, length)
      await this.#disk.writer.writeBack()
    })
  }

  async #headerFor(list: readonly BitmapEntry[], taken: HostRange[]): Promise<Header> {
    const { header } = this.image
    if (list.length === 0) {
      return { ...header, autoclearFeatures: header.autoclearFeatures & ~autoclear.bitmaps, bitmaps: undefined }
    }
    const directory = encodeBitmapDirectory(list)
    return this.#headerWith(list.length, directory.length, await this.#write(directory, taken))
  }

  /** Where the table and the bits of a bitmap lie. */
  async #placesOf({ name, tableOffset, tableSize }: BitmapEntry): Promise<HostRange[]> {
    const { image } = this
    const table = new Uint8Array(tableSize * 8)
    await readPadded(image.file, tableOffset, table)
    const places: HostRange[] = [{ offset: tableOffset, length: table.length }]
    for (let index = 0; index < tableSize; index++) {
      const { offset } = readBitmapPart(image, viewOf(table), index, name)
      if (offset > 0) places.push({ offset, length: image.geometry.clusterSize })
    }
    return places
  }

  #checkAll(bitmaps: readonly NewBitmap[]): void {
    const { image } = this
    const names = new Set(image.bitmapList.map(({ name }) => name))
    for (const bitmap of bitmaps) {
      if (names.has(bitmap.name)) {
        throw fault(image, 'invalid', `Bitmap already exists: ${bitmap.name}`, 'bitmap name', { value: bitmap.name })
      }
      names.add(bitmap.name)
      this.#checkOne(bitmap)
    }
    if (names.size > bounds.bitmaps) {
      throw fault(image, 'limit', 'Maximum number of persistent bitmaps is already reached', 'nb_bitmaps', {
        value: names.size,
        rule: `at most ${bounds.bitmaps}`,
      })
    }
    const directory = encodeBitmapDirectory([...image.bitmapList, ...bitmaps.map((bitmap) => entryOf(bitmap, 0, 0))])
    if (directory.length > bounds.bitmapDirectoryBytes) {
      throw fault(image, 'limit', 'Not enough space in the bitmap directory', 'bitmap directory', {
        value: directory.length,
        rule: `at most ${bounds.bitmapDirectoryBytes} bytes`,
      })
    }
    // Whether the header has room for the extension, before anything is written.
    encodeHeader(this.#headerWith(names.size, directory.length, 0), image.file.name)
  }

  #checkOne({ name, granularity }: NewBitmap): void {
    const { image } = this
    const refuse = (kind: MoraineError['kind'], reason: string, value: string | number, rule: string): never => {
      throw fault(image, kind, reason, `bitmap '${name}'`, { value, rule })
    }
    const length = encodeName(name).length
    if (length === 0) refuse('invalid', 'Bitmap name cannot be empty', name, '1 to 1023 bytes')
    if (length > 1023) refuse('invalid', 'Bitmap name is too long', length, '1 to 1023 bytes')
    const rule = 'a power of two from 512 to 2 GiB'
    if (granularity < 512) refuse('invalid', 'Granularity is under minimum (512 bytes)', granularity, rule)
    if (granularity > 2 ** 31) refuse('invalid', 'Granularity exceeds maximum (2147483648 bytes)', granularity, rule)
    if (!Number.isInteger(Math.log2(granularity))) {
      refuse('invalid', 'Granularity must be power of 2', granularity, rule)
    }
    const bytes = divideUp(divideUp(image.size, granularity), 8)
    if (bytes > bounds.bitmapBytes) {
      refuse(
        'limit',
        'Too much space will be occupied by the bitmap. Use larger granularity',
        bytes,
        `at most ${bounds.bitmapBytes} bytes`,
      )
    }
  }

  /** Writes the bits and the table of a bitmap that nothing points to yet. */
  async #writeBitmap(bitmap: NewBitmap, taken: HostRange[], signal: AbortSignal | undefined): Promise<BitmapEntry> {
    const { geometry, size } = this.image
    const bitsPerPart = geometry.clusterSize * 8
    const bits = divideUp(size, bitmap.granularity)
    // Of a disk without bytes too a table has at least one entry.
    const table = new Uint8Array(Math.max(1, divideUp(bits, bitsPerPart)) * 8)
    let part = new Uint8Array(0)
    let index = -1
    const store = async () => {
      if (part.length > 0) setU64be(viewOf(table), index * 8, await this.#write(part, taken))
    }
    let reached = 0
    for await (const batch of bitmap.ranges ?? []) {
      throwIfCancelled(signal, this.image.file.name)
      for (const { offset, length } of batch) {
        if (offset < reached || length < 0 || offset + length > size) {
          throw fault(this.image, 'invalid', 'a dirty range is out of order or leaves the disk', 'ranges', {
            value: `${offset} + ${length}`,
            rule: `ascending, at most ${size}`,
          })
        }
        reached = offset + length
        const end = divideUp(reached, bitmap.granularity)
        for (let bit = Math.floor(offset / bitmap.granularity); bit < end; ) {
          const at = Math.floor(bit / bitsPerPart)
          if (at !== index) {
            await store()
            part = new Uint8Array(geometry.clusterSize)
            index = at
          }
          const stop = Math.min(end, (at + 1) * bitsPerPart)
          setBits(part, bit % bitsPerPart, stop - at * bitsPerPart)
          bit = stop
        }
      }
    }
    await store()
    return entryOf(bitmap, await this.#write(table, taken), table.length / 8)
  }

  async #write(bytes: Uint8Array, taken: HostRange[]): Promise<number> {
    const { refcounts, store } = this.#disk.writer
    const offset = await refcounts.allocate(bytes.length)
    taken.push({ offset, length: bytes.length })
    await store.write(offset, bytes)
    return offset
  }

  #headerWith(count: number, directorySize: number, directoryOffset: number): Header {
    const { header } = this.image
    return {
      ...header,
      autoclearFeatures: header.autoclearFeatures | autoclear.bitmaps,
      bitmaps: { count, directorySize, directoryOffset },
    }
  }

  /** Makes the new directory the image's. From the first write of the header on nothing is given back: who knows which one is there. */
  async #switch(header: Header, list: BitmapEntry[], taken: HostRange[]): Promise<void> {
    const { image } = this
    const { writer } = this.#disk
    // Of bitmaps that nobody vouched for it is not known where they lie; check finds what is left of them.
    const vouched = (image.header.autoclearFeatures & autoclear.bitmaps) !== 0n
    const old = vouched ? image.header.bitmaps : undefined
    taken.length = 0
    await writer.replaceHeader(header)
    image.bitmapList = list
    writer.guard.moved()
    if (old !== undefined) await writer.refcounts.update(old.directoryOffset, old.directorySize, -1)
    await writer.writeBack()
  }
}

/** A bitmap like one that is there, with nothing dirty in it. */
function newLike({ name, granularityBits, flags }: BitmapEntry): NewBitmap {
  return { name, granularity: 2 ** granularityBits, enabled: (flags & bitmapFlag.auto) !== 0 }
}

function entryOf(bitmap: NewBitmap, tableOffset: number, tableSize: number): BitmapEntry {
  return {
    name: bitmap.name,
    type: 1,
    granularityBits: Math.log2(bitmap.granularity),
    flags: bitmap.enabled ? bitmapFlag.auto : 0,
    tableOffset,
    tableSize,
    extra: new Uint8Array(),
  }
}
