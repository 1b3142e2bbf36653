/** Checking a VHDX image, and repairing it. What QEMU 7.2's `qemu-img check` finds, in its words, and besides: blocks that share bytes, states that are
 *  none, sector bitmaps that are not there, damaged copies of headers and region tables. */
import { type ByteStore, type Disk, MoraineError, throwIfCancelled } from '../../core/index.ts'
import type { CheckOptions, CheckResult } from '../format.ts'
import { BlockCopier, mostCopies } from '../growth.ts'
import type { Entry } from './block-map.ts'
import { VhdxDisk } from './disk.ts'
import { updateHeader, type VhdxImage } from './image.ts'
import { bitmapPresent, blockState, lengths, mib, places, vhdxFault } from './layout.ts'
import { WritableVhdxDisk } from './writable-disk.ts'
import type { VhdxWriter } from './writer.ts'

/** Most findings that are told one by one. */
const mostTold = 1000
/** Entries between two looks at the signal. */
const stride = 65_536

/** Checks a disk opened with purpose `check`. A repair (`all`) writes damaged copies anew, lengthens a file that was cut within its last blocks, gives a
 *  block whose place another has too a copy of its own, and empties entries that point nowhere. A log that was replayed counts as repaired, as in QEMU.
 *  @throws MoraineError `invalid` for another format's disk, `denied` when it cannot be written, `limit` when the file is too long to check. */
export async function checkVhdx(disk: Disk, options: CheckOptions): Promise<CheckResult> {
  if (!(disk instanceof VhdxDisk)) {
    throw new MoraineError('invalid', 'not an opened VHDX image', { path: disk.name, format: 'vhdx' })
  }
  if (disk instanceof WritableVhdxDisk) {
    return disk.alone(() =>
      new VhdxCheck(disk.image, options, options.repair === 'all' ? disk.writer : undefined).run(),
    )
  }
  if (options.repair !== 'none') {
    throw vhdxFault(disk.name, 'denied', 'repair', {}, 'the image is open for reading only')
  }
  return new VhdxCheck(disk.image, options, undefined).run()
}

/** What is wrong with an entry. */
type Fault = 'state' | 'outside' | 'cut' | 'metadata' | 'shared' | 'bitmap'

/** What a repair does about an entry. */
const cure = { none: 0, empty: 1, lengthen: 2, copy: 3 } as const

function cureOf(fault: Fault): number {
  return fault === 'cut' ? cure.lengthen : fault === 'shared' ? cure.copy : cure.empty
}

class VhdxCheck {
  readonly #image: VhdxImage
  readonly #options: CheckOptions
  readonly #writer: VhdxWriter | undefined
  /** A bit for each MiB of the file that a block or a bitmap takes. */
  readonly #used: Uint8Array
  /** Bytes of the file before a repair makes it longer. */
  readonly #fileSize: number
  #corruptions = 0
  #fixed = 0
  /** Repairs of what was no corruption of the disk. */
  #mended = 0
  #told = 0
  /** What to do about each block, two bits of it; made when there is something to do. */
  #cures: Uint8Array | undefined
  /** Bytes of copies, which lie behind everything else. */
  #copied = 0

  constructor(image: VhdxImage, options: CheckOptions, writer: VhdxWriter | undefined) {
    this.#image = image
    this.#options = options
    this.#writer = writer
    const bytes = Math.ceil(image.file.size / mib / 8)
    const most = image.context.limits.checkBytes
    if (bytes > most) {
      throw vhdxFault(image.source.name, 'limit', 'file length', {
        value: image.file.size,
        rule: `at most ${most * 8} MiB`,
      })
    }
    this.#used = new Uint8Array(bytes)
    this.#fileSize = image.file.size
  }

  async run(): Promise<CheckResult> {
    const size = this.#image.metadata.virtualSize
    await this.#copies()
    if (this.#image.replayed) this.#replayed()
    if (this.#image.metadata.parent !== undefined) await this.#bitmaps()
    await this.#blocks()
    if (this.#writer !== undefined && this.#cures !== undefined) await this.#repair(this.#writer, this.#cures)
    this.#options.onProgress?.({ done: size, total: size })
    return {
      checkErrors: 0,
      leaks: 0,
      corruptions: this.#corruptions - this.#fixed,
      leaksFixed: 0,
      corruptionsFixed: this.#fixed + this.#mended,
    }
  }

  #tell(line: string): void {
    if (++this.#told <= mostTold) this.#options.report(line, 'failure')
    else if (this.#told === mostTold + 1) this.#options.report('There is more; no more is told.', 'failure')
  }

  #replayed(): void {
    if (this.#image.store === undefined) {
      this.#tell('The log holds changes that are not in the file yet. Opening the image for writing makes them.')
    } else if (this.#options.repair !== 'none') this.#mended++
  }

  /** The second header and the second region table: one of each is enough to open the image. */
  async #copies(): Promise<void> {
    const { headers, regions, source } = this.#image
    const store = this.#writer?.store
    for (const slot of [0, 1] as const) {
      if (!headers.valid[slot]) {
        this.#tell(`Header ${slot + 1} is damaged; the other one counts.`)
        if (store !== undefined) {
          await updateHeader(store, headers, {})
          this.#mended++
        }
      }
      if (!regions.valid[slot]) {
        this.#tell(`Region table ${slot + 1} is damaged; the other one counts.`)
        if (store !== undefined) {
          const table = new Uint8Array(lengths.regionTable)
          await source.read(places.regionTables[slot === 0 ? 1 : 0], table)
          await store.write(places.regionTables[slot], table)
          await store.flush()
          regions.valid[slot] = true
          this.#mended++
        }
      }
    }
  }

  async #bitmaps(): Promise<void> {
    const { map, file } = this.#image
    const chunks = Math.ceil(map.geometry.blocks / map.geometry.perChunk)
    for (let chunk = 0; chunk < chunks; chunk++) {
      if (chunk % stride === 0) throwIfCancelled(this.#options.signal, file.name)
      const { state, offset } = await this.#entry(map.bitmapEntryOffset(chunk))
      if (state !== bitmapPresent) continue
      const inside = offset >= mib && offset + lengths.sectorBitmap <= file.size
      if (inside && !map.liesOverMetadata(offset, lengths.sectorBitmap) && this.#take(offset, lengths.sectorBitmap))
        continue
      this.#corruptions++
      this.#tell(`Sector bitmap ${chunk} at ${offset} lies outside the file, over metadata or over another one.`)
    }
  }

  async #blocks(): Promise<void> {
    const { map, file, metadata } = this.#image
    const { blocks, blockSize } = map.geometry
    for (let block = 0; block < blocks; block++) {
      if (block % stride === 0) {
        throwIfCancelled(this.#options.signal, file.name)
        this.#options.onProgress?.({ done: block * blockSize, total: metadata.virtualSize })
      }
      const at = map.entryOffset(block)
      const page = map.pages.at(at)
      const entry = map.entryIn(page instanceof Promise ? await page : page, at)
      const fault = entry.state < blockState.unmapped ? undefined : await this.#faultOf(block, entry)
      if (fault === undefined) continue
      this.#corruptions++
      if (this.#writer === undefined) continue
      // A table may have 64 million entries, and all of them may be wrong.
      this.#cures ??= new Uint8Array(Math.ceil(blocks / 4))
      this.#cures[block >>> 2] = (this.#cures[block >>> 2] as number) | (cureOf(fault) << ((block & 3) * 2))
    }
  }

  async #faultOf(block: number, { state, offset }: Entry): Promise<Fault | undefined> {
    const { map, file, metadata, regions } = this.#image
    const { blockSize } = metadata
    const index = (map.entryOffset(block) - regions.blocks.offset) / 8
    if (state === blockState.unmapped || state === blockState.unmappedDraft) return undefined
    const partial = state === blockState.partiallyPresent
    if ((!partial && state !== blockState.fullyPresent) || (partial && metadata.parent === undefined)) {
      this.#tell(`VHDX BAT entry ${index} has state ${state}, which is none here.`)
      return 'state'
    }
    const length = Math.min(blockSize, metadata.virtualSize - block * blockSize)
    const truncated = `points after end of file (${file.size}). Image has probably been truncated.`
    if (offset >= file.size) {
      this.#tell(`VHDX BAT entry ${index} start offset ${offset} ${truncated}`)
      return 'outside'
    }
    const cut = offset + length > file.size
    if (cut) this.#tell(`VHDX BAT entry ${index} end offset ${offset + length - 1} ${truncated}`)
    if (offset < mib || map.liesOverMetadata(offset, blockSize)) {
      this.#tell(`VHDX BAT entry ${index} offset ${offset} lies over the headers, the log or a region.`)
      return 'metadata'
    }
    if (!this.#take(offset, Math.min(blockSize, file.size - offset))) {
      this.#tell(`VHDX BAT entry ${index} offset ${offset} lies over another block.`)
      return 'shared'
    }
    if (cut) return 'cut'
    return partial ? this.#bitmapFault(block, index) : undefined
  }

  async #bitmapFault(block: number, index: number): Promise<Fault | undefined> {
    try {
      await this.#image.map.bitOffset(block, 0)
      return undefined
    } catch (error) {
      if (!(error instanceof MoraineError) || error.kind !== 'corrupt') throw error
      this.#tell(`VHDX BAT entry ${index} is there in part, and its sector bitmap is not.`)
      return 'bitmap'
    }
  }

  /** Notes a range as used; false when a part of it was. */
  #take(offset: number, length: number): boolean {
    let free = true
    for (let unit = offset / mib; unit * mib < offset + length; unit++) {
      const byte = this.#used[unit >>> 3] as number
      const mask = 1 << (unit & 7)
      if ((byte & mask) !== 0) free = false
      this.#used[unit >>> 3] = byte | mask
    }
    return free
  }

  async #entry(at: number): Promise<Entry> {
    const { map } = this.#image
    return map.entryIn(await map.pages.at(at), at)
  }

  async #repair(writer: VhdxWriter, cures: Uint8Array): Promise<void> {
    await writer.begin()
    await this.#mend(writer, cures, (what) => what === cure.empty)
    // Entries that lead behind the file are empty before it grows: they would show what comes to lie there, were the power to fail between.
    await this.#mend(writer, cures, (what) => what === cure.lengthen || what === cure.copy)
  }

  async #mend(writer: VhdxWriter, cures: Uint8Array, isMeant: (what: number) => boolean): Promise<void> {
    const copier = new BlockCopier(writer.store)
    const { blocks } = this.#image.map.geometry
    for (let block = 0; block < blocks; block++) {
      const what = ((cures[block >>> 2] as number) >>> ((block & 3) * 2)) & 3
      if (!isMeant(what)) continue
      throwIfCancelled(this.#options.signal, this.#image.source.name)
      if (what === cure.lengthen) await this.#lengthen(writer.store, block)
      else if (what === cure.copy) await this.#copyBlock(writer, block, copier)
      else await writer.setBlock(block, blockState.notPresent, 0)
      this.#fixed++
      if (this.#image.map.pages.crowded) await writer.writeBack()
    }
    await writer.writeBack()
  }

  /** What was cut off reads as zeros. */
  async #lengthen(store: ByteStore, block: number): Promise<void> {
    const { offset } = await this.#entry(this.#image.map.entryOffset(block))
    const end = offset + this.#image.metadata.blockSize
    if (store.size < end && store.kind !== 'device') await store.resize(end)
  }

  /** @throws MoraineError `limit` when the copies would take more room than all that there is. */
  async #copyBlock(writer: VhdxWriter, block: number, copier: BlockCopier): Promise<void> {
    const { map, metadata } = this.#image
    const { state, offset } = await this.#entry(map.entryOffset(block))
    const there = Math.min(metadata.blockSize, this.#fileSize - offset)
    const most = mostCopies(this.#fileSize)
    this.#copied += metadata.blockSize
    if (this.#copied > most) {
      const place = { value: this.#copied, rule: `at most ${most} bytes` }
      throw vhdxFault(this.#image.source.name, 'limit', 'copies', place, 'too many blocks lie over others')
    }
    const to = await writer.allocateBlock()
    await copier.copy(offset, to, there)
    await writer.setBlock(block, state, to)
  }
}
