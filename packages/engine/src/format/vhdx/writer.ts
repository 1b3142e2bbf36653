/** What writing changes besides the guest's bytes: identifiers, new blocks, entries of the table and bits of bitmaps. Entries reach the file through the
 *  log, after the bytes they point to: whenever the power fails, the file or its log holds the old state or the new one. */
import { zeroGuid } from '../../bytes/guid.ts'
import { roundUp, setU64le } from '../../bytes/integers.ts'
import { utf16le } from '../../bytes/utf16.ts'
import { type ByteStore, readPadded } from '../../core/index.ts'
import { newGuid } from '../new-guid.ts'
import { updateHeader, type VhdxImage } from './image.ts'
import { bitmapPresent, blockState, lengths, mib, vhdxFault } from './layout.ts'
import { encodeLogEntry, sectorsInEntry } from './log.ts'
import { findLinkage } from './metadata.ts'
import type { DirtySector } from './pages.ts'
import { setBits } from './sector-bits.ts'

/** Longest run of neighbouring sectors that is written in one request, in bytes. */
const writeRun = 1024 * 1024

/** The writing side of an image. Its calls must not run side by side. */
export class VhdxWriter {
  readonly image: VhdxImage
  readonly store: ByteStore
  /** The headers say that this session writes. */
  #begun = false
  #sequence = 1n
  /** A write-back ended in the middle: the log holds an entry that may be needed, the next one goes elsewhere. */
  #interrupted = false
  #even = true
  /** On a device, where the next block goes; a file tells by its length. */
  #end: number | undefined

  constructor(image: VhdxImage, store: ByteStore) {
    this.image = image
    this.store = store
  }

  /** Whether `begin` has nothing to do. */
  get begun(): boolean {
    return this.#begun
  }

  /** Must have returned before the first byte that the guest can see is written: what refers to the old content must notice. */
  async begin(): Promise<void> {
    if (this.#begun) return
    const { headers } = this.image
    const changes = { fileWriteGuid: newGuid(), dataWriteGuid: newGuid(), logGuid: zeroGuid }
    const { logOffset, logLength } = headers.current
    // No block may come to lie where the log is said to be.
    if (this.store.size < logOffset + logLength) await this.store.resize(logOffset + logLength)
    if (logLength === 0) await this.#makeLog(changes)
    else await updateHeader(this.store, headers, changes)
    await updateHeader(this.store, headers, {})
    this.#begun = true
  }

  /** A file without a log gets one. */
  async #makeLog(changes: { fileWriteGuid: string; dataWriteGuid: string; logGuid: string }): Promise<void> {
    const logOffset = await this.#take(mib)
    this.image.map.addTaken({ offset: logOffset, length: mib })
    await this.store.flush()
    await updateHeader(this.store, this.image.headers, { ...changes, logOffset, logLength: mib })
  }

  /** Makes a block; it reads as zeros. The file offset. */
  allocateBlock(): Promise<number> {
    return this.#take(this.image.metadata.blockSize)
  }

  /** Makes room for a region; it reads as zeros. The file offset. */
  takeRegion(length: number): Promise<number> {
    return this.#take(length)
  }

  /** Writes bytes of metadata that no page holds, all of them or none. Nothing else may wait to be written. */
  async writeThroughLog(offset: number, bytes: Uint8Array): Promise<void> {
    const size = lengths.logSector
    const start = offset - (offset % size)
    const whole = new Uint8Array(roundUp(offset + bytes.length, size) - start)
    await readPadded(this.store, start, whole)
    whole.set(bytes, offset - start)
    const sectors: DirtySector[] = []
    for (let at = 0; at < whole.length; at += size) {
      sectors.push({ offset: start + at, bytes: whole.subarray(at, at + size) })
    }
    await this.#logged(sectors)
  }

  async #take(length: number): Promise<number> {
    const { store } = this
    if (store.kind !== 'device') {
      const offset = roundUp(store.size, mib)
      await store.resize(offset + length)
      return offset
    }
    this.#end ??= await this.#findEnd()
    const offset = this.#end
    if (offset + length > store.size) {
      throw vhdxFault(store.name, 'io', 'block', { code: 'ENOSPC', value: offset }, 'No space left on device')
    }
    // What was on the device before must not show through.
    await store.zero(offset, length, 'unmap')
    this.#end += length
    return offset
  }

  /** The first MiB behind everything that is used. */
  async #findEnd(): Promise<number> {
    const { regions, headers, map, metadata } = this.image
    let end = headers.current.logOffset + headers.current.logLength
    for (const { offset, length } of regions.all) end = Math.max(end, offset + length)
    for (let block = 0; block < map.geometry.blocks; block++) {
      const { state, offset } = await this.#entry(map.entryOffset(block))
      if (state >= blockState.fullyPresent) end = Math.max(end, offset + metadata.blockSize)
    }
    const chunks = metadata.parent === undefined ? 0 : Math.ceil(map.geometry.blocks / map.geometry.perChunk)
    for (let chunk = 0; chunk < chunks; chunk++) {
      const { state, offset } = await this.#entry(map.bitmapEntryOffset(chunk))
      if (state === bitmapPresent) end = Math.max(end, offset + lengths.sectorBitmap)
    }
    return roundUp(end, mib)
  }

  async #entry(at: number): Promise<{ state: number; offset: number }> {
    const { map } = this.image
    return map.entryIn(await map.pages.at(at), at)
  }

  /** Sets the entry of a block. States without a place have offset 0: Hyper-V refuses others. */
  async setBlock(block: number, state: number, offset: number): Promise<void> {
    await this.#setEntry(this.image.map.entryOffset(block), state, offset)
  }

  async #setEntry(at: number, state: number, offset: number): Promise<void> {
    const { pages } = this.image.map
    const page = await pages.at(at)
    setU64le(page.view, at - page.offset, offset + state)
    pages.touch(page, at - page.offset, 8)
  }

  /** Makes the sector bitmap of a block's chunk, where it is not there yet. */
  async needBitmap(block: number): Promise<void> {
    const { map } = this.image
    const at = map.bitmapEntryOffset(Math.floor(block / map.geometry.perChunk))
    const { state } = await this.#entry(at)
    if (state !== bitmapPresent) await this.#setEntry(at, bitmapPresent, await this.#take(lengths.sectorBitmap))
  }

  /** Sets or clears the bits of sectors of a block; `from` and `to` are bytes within it, multiples of the sector. */
  async setSectors(block: number, from: number, to: number, set: boolean): Promise<void> {
    const { map } = this.image
    const { logicalSector } = map.geometry
    for (let at = from; at < to; ) {
      const { byte, bit } = await map.bitOffset(block, at)
      const page = await map.pages.at(byte)
      const first = (byte - page.offset) * 8 + bit
      const end = Math.min(page.bytes.length * 8, first + (to - at) / logicalSector)
      setBits(page.bytes, first, end, set)
      const firstByte = Math.floor(first / 8)
      map.pages.touch(page, firstByte, Math.ceil(end / 8) - firstByte)
      at += (end - first) * logicalSector
    }
  }

  /** Records another content of the parent as the one that this image stands over.
   *  @throws MoraineError `unsupported` where the text in the image is no GUID of the usual length. */
  async setLinkage(dataWriteGuid: string): Promise<void> {
    const { file, regions, map } = this.image
    const { offset, length } = await findLinkage(file, regions.metadata)
    const text = [`{${dataWriteGuid}}`, dataWriteGuid].map(utf16le).find((bytes) => bytes.length === length)
    if (text === undefined) {
      throw vhdxFault(this.store.name, 'unsupported', 'parent_linkage', { value: length, rule: 'a GUID of 76 bytes' })
    }
    for (const [i, byte] of text.entries()) {
      const page = await map.pages.at(offset + i)
      page.bytes[offset + i - page.offset] = byte
      map.pages.touch(page, offset + i - page.offset, 1)
    }
  }

  /** Brings all changed entries into the file; what they point to is flushed before them. Returns when nothing can be lost. */
  async writeBack(): Promise<void> {
    const { pages } = this.image.map
    if (!pages.dirty) return this.store.flush()
    const half = this.image.headers.current.logLength / 2
    while (pages.dirty) {
      const sectors = pages.take(sectorsInEntry(half))
      try {
        await this.#logged(sectors)
        pages.written()
      } catch (error) {
        pages.giveBack(sectors)
        throw error
      }
    }
  }

  async #logged(sectors: readonly DirtySector[]): Promise<void> {
    const { logLength, logOffset } = this.image.headers.current
    try {
      await this.#throughLog(sectors, logOffset, this.#interrupted ? logLength / 2 : 0)
      this.#interrupted = false
    } catch (error) {
      this.#interrupted = !this.#interrupted
      throw error
    }
  }

  async #throughLog(sectors: readonly DirtySector[], logOffset: number, at: number): Promise<void> {
    const { store, image } = this
    await store.flush()
    const logGuid = newGuid()
    await store.write(logOffset + at, encodeLogEntry(logGuid, this.#sequence++, at, sectors, store.size))
    await store.flush()
    this.#even = false
    await updateHeader(store, image.headers, { logGuid })
    for (const run of neighbours(sectors)) await store.write(run.offset, run.bytes)
    await store.flush()
    await updateHeader(store, image.headers, { logGuid: zeroGuid })
  }

  /** Writes everything that is held back, and makes both headers say the same. */
  async finish(): Promise<void> {
    if (!this.#begun) return
    await this.writeBack()
    if (this.#even) return
    await updateHeader(this.store, this.image.headers, {})
    this.#even = true
  }
}

/** Sectors by offset, those side by side in one piece. */
function neighbours(sectors: readonly DirtySector[]): DirtySector[] {
  const sorted = [...sectors].sort((a, b) => a.offset - b.offset)
  const runs: DirtySector[] = []
  for (let first = 0; first < sorted.length; ) {
    const { offset } = sorted[first] as DirtySector
    const size = lengths.logSector
    let count = 1
    while (sorted[first + count]?.offset === offset + count * size && (count + 1) * size <= writeRun) count++
    const bytes = new Uint8Array(count * size)
    for (let i = 0; i < count; i++) bytes.set((sorted[first + i] as DirtySector).bytes, i * size)
    runs.push({ offset, bytes })
    first += count
  }
  return runs
}
