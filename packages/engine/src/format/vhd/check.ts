/** Checking a VHD, and repairing it: both footers, the header, and every block in a place of its own. QEMU has no check of it; the words are ours. */
import { type ByteStore, type Disk, MoraineError, throwIfCancelled } from '../../core/index.ts'
import type { CheckOptions, CheckResult } from '../format.ts'
import { BlockCopier, mostCopies } from '../growth.ts'
import { DynamicVhdDisk, type FixedVhdDisk, isVhdDisk, type VhdDisk } from './disk.ts'
import { type FooterPlaces, readFooters } from './footers.ts'
import { type Footer, footerBytes, isSoundFooter, noBlock, sealHeader, sectorBytes, vhdFault } from './layout.ts'
import { WritableVhdDisk } from './writable-disk.ts'
import { WritableFixedVhdDisk } from './writable-fixed.ts'

/** Most findings that are told one by one. */
const mostTold = 1000
/** Most blocks that get another place: what is known of each is held. */
const mostMoved = 262_144

/** Checks a disk opened with purpose `check`. A repair (`all`) writes the footers from the sound one and the checksum of the header, drops entries that
 *  point past the end of the file, gives blocks that lie over something else a place of their own and makes a file that ends within a block whole; `leaks` cuts
 *  off what lies behind the last block.
 *  @throws MoraineError `invalid` for another format's disk, `denied` when it cannot be written, `limit` when it has too many blocks to check. */
export async function checkVhd(disk: Disk, options: CheckOptions): Promise<CheckResult> {
  if (!isVhdDisk(disk)) {
    throw new MoraineError('invalid', 'not an opened VHD', { path: disk.name, format: 'vhd' })
  }
  const writable = disk instanceof WritableFixedVhdDisk || disk instanceof WritableVhdDisk
  if (options.repair !== 'none' && !writable) {
    throw vhdFault(disk.name, 'denied', 'the image is open for reading only', { field: 'repair' })
  }
  const store = options.repair === 'none' || !writable ? undefined : disk.store
  const check = new VhdCheck(disk, options, store)
  return disk instanceof WritableVhdDisk ? disk.alone(() => check.run()) : check.run()
}

class VhdCheck {
  readonly #disk: VhdDisk
  readonly #options: CheckOptions
  /** Set where something is to be repaired. */
  readonly #store: ByteStore | undefined
  readonly #result: CheckResult = { checkErrors: 0, leaks: 0, corruptions: 0, leaksFixed: 0, corruptionsFixed: 0 }
  #told = 0
  /** Bytes of blocks that got another place, behind everything. */
  #copied = 0

  constructor(disk: VhdDisk, options: CheckOptions, store: ByteStore | undefined) {
    this.#disk = disk
    this.#options = options
    this.#store = store
  }

  async run(): Promise<CheckResult> {
    const places = await readFooters(this.#disk.file)
    if (this.#disk instanceof DynamicVhdDisk) await this.#checkDynamic(this.#disk, places)
    else await this.#checkFixed(this.#disk)
    this.#options.onProgress?.({ done: this.#disk.size, total: this.#disk.size })
    return this.#result
  }

  #tell(line: string): void {
    if (this.#told < mostTold) this.#options.report(line, 'error')
    else if (this.#told === mostTold) this.#options.report('More errors follow; they are counted, not told.', 'error')
    this.#told++
  }

  /** Counts a corruption, and takes it back where `repair` makes it right. */
  async #corruption(line: string, repair?: (store: ByteStore) => Promise<void>): Promise<void> {
    this.#tell(`ERROR: ${line}`)
    if (repair === undefined || this.#store === undefined || this.#options.repair !== 'all') {
      this.#result.corruptions++
      return
    }
    await repair(this.#store)
    this.#result.corruptionsFixed++
  }

  async #checkFixed({ footer, footerOffset, size }: FixedVhdDisk): Promise<void> {
    if (size > footerOffset) {
      await this.#corruption(`the footer says ${size} bytes, and ${footerOffset} are there`, async (store) => {
        // The guest reads zeros there; the footer moves behind them.
        await store.write(size, footer.bytes)
        await store.flush()
        await store.zero(footerOffset, Math.min(footerBytes, size - footerOffset), 'unmap')
        await store.flush()
      })
    }
    this.#result.imageEndOffset = this.#disk.file.size
  }

  async #checkDynamic(disk: DynamicVhdDisk, places: FooterPlaces): Promise<void> {
    const { footer, header } = disk.image
    if (places.head === undefined || !isSoundFooter(places.head)) {
      await this.#corruption("the footer's copy at the start is damaged", async (store) => {
        await store.write(0, footer.bytes)
        await store.flush()
      })
    }
    if (!header.sound) {
      await this.#corruption('the checksum of the dynamic header is wrong', async (store) => {
        sealHeader(header.bytes)
        header.sound = true
        await store.write(footer.dataOffset, header.bytes)
        await store.flush()
      })
    }
    const end = await this.#checkBlocks(disk)
    await this.#checkEnd(disk, footer, places, end)
  }

  /** Looks at every entry; returns where the last block ends, or the table where there is none. */
  async #checkBlocks(disk: DynamicVhdDisk): Promise<number> {
    const { image } = disk
    const { stride, table } = image
    const { signal, onProgress } = this.#options
    const metadataEnd = image.metadataEnd
    const sectors = new SectorList(disk, Math.ceil(disk.file.size / sectorBytes))
    const misplaced = new Misplaced(disk)
    let allocated = 0
    let last = metadataEnd
    for await (const { first, entries } of table.all(signal, this.#store !== undefined)) {
      throwIfCancelled(signal, disk.name)
      for (let i = 0; i < entries.length; i++) {
        const sector = entries[i] as number
        if (sector === noBlock) continue
        const start = sector * sectorBytes
        if (start + image.bitmapBytes > disk.file.size) {
          await this.#corruption(`block ${first + i} lies past the end of the file, at sector ${sector}`, (store) =>
            this.#setEntry(disk, first + i, noBlock, store),
          )
          continue
        }
        allocated++
        last = Math.max(last, start + stride)
        if (start < image.tableEnd) {
          await this.#corruption(`block ${first + i} lies over the header or the table`, async () => {
            misplaced.add(sector)
          })
        } else sectors.add(sector)
      }
      onProgress?.({ done: Math.min(first * image.header.blockSize, disk.size), total: disk.size })
    }
    for (const sector of sectors.overlaps(stride / sectorBytes)) {
      await this.#corruption(`the block at sector ${sector} lies over another`, async () => {
        misplaced.add(sector)
      })
    }
    if (this.#store !== undefined && misplaced.count > 0) {
      // An entry that leads behind the file would show what is copied there, were the power to fail between.
      await this.#writeTable(disk, this.#store)
      last = await this.#moveBlocks(disk, misplaced, last, this.#store)
    }
    if (this.#store !== undefined) await this.#writeTable(disk, this.#store)
    if (last > disk.file.size) {
      await this.#corruption(`the file ends within a block, ${last - disk.file.size} bytes too early`, (store) =>
        store.resize(last),
      )
    }
    this.#result.totalClusters = Math.ceil(disk.size / image.header.blockSize)
    this.#result.allocatedClusters = allocated
    return last
  }

  /** Changes an entry; the table may hold no more changes than its pages have room for. */
  async #setEntry(disk: DynamicVhdDisk, block: number, sector: number, store: ByteStore): Promise<void> {
    const { table } = disk.image
    await table.set(block, sector)
    if (!table.crowded) return
    // What entries point at comes first.
    await store.flush()
    await this.#writeTable(disk, store)
  }

  async #writeTable({ image: { table } }: DynamicVhdDisk, store: ByteStore): Promise<void> {
    if (!table.dirty) return
    await table.writeBack(store)
    await store.flush()
  }

  /** Copies blocks behind everything else, and points the table at the copies. Returns where the last one ends.
   *  @throws MoraineError `limit` when the copies would take more room than all that there is. */
  async #moveBlocks(disk: DynamicVhdDisk, misplaced: Misplaced, last: number, store: ByteStore): Promise<number> {
    const { stride, table } = disk.image
    const most = mostCopies(disk.file.size)
    const copier = new BlockCopier(store)
    let end = Math.ceil(Math.max(last, disk.file.size) / sectorBytes) * sectorBytes
    for await (const { first, entries } of table.all(this.#options.signal)) {
      for (let i = 0; i < entries.length; i++) {
        const sector = entries[i] as number
        if (sector === noBlock || !misplaced.take(sector)) continue
        this.#copied += stride
        if (this.#copied > most) {
          const place = { field: 'copies', value: this.#copied, rule: `at most ${most} bytes` }
          throw vhdFault(disk.name, 'limit', 'too many blocks lie over others', place)
        }
        await copier.copy(sector * sectorBytes, end, stride)
        await this.#setEntry(disk, first + i, end / sectorBytes, store)
        end += stride
      }
    }
    await store.flush()
    return end
  }

  async #checkEnd(disk: DynamicVhdDisk, footer: Footer, places: FooterPlaces, end: number): Promise<void> {
    const sound = places.tail !== undefined && isSoundFooter(places.tail)
    const differs = sound && places.tail?.some((byte, i) => byte !== footer.bytes[i]) === true
    const tailOffset = sound ? places.tailOffset : disk.file.size
    const move = async (store: ByteStore): Promise<void> => {
      const at = Math.ceil(end / sectorBytes) * sectorBytes
      await store.write(at, footer.bytes)
      await store.flush()
      if (store.kind !== 'device') await store.resize(at + footerBytes)
      await store.flush()
    }
    // Blocks that got another place went behind the footer.
    if (this.#copied > 0 && this.#store !== undefined) await move(this.#store)
    else if (!sound || tailOffset < end) await this.#corruption('the footer at the end is missing', move)
    else if (differs) await this.#corruption('the footer at the end differs from the one at the start', move)
    // Vendors leave gaps of their own behind the table; whole blocks are what nobody leaves.
    const leaks = Math.max(0, Math.floor((tailOffset - end) / disk.image.stride))
    if (leaks > 0) {
      this.#tell(`Leaked ${leaks} blocks behind the last one`)
      if (this.#store === undefined) this.#result.leaks = leaks
      else {
        await move(this.#store)
        this.#result.leaksFixed = leaks
      }
    }
    this.#result.imageEndOffset = disk.file.size
  }
}

/** How many blocks at a sector need another place. */
class Misplaced {
  readonly #disk: DynamicVhdDisk
  readonly #sectors = new Map<number, number>()
  count = 0

  constructor(disk: DynamicVhdDisk) {
    this.#disk = disk
  }

  /** @throws MoraineError `limit` when there are too many. */
  add(sector: number): void {
    if (++this.count > mostMoved) {
      const place = { field: 'table entry', value: this.count, rule: `at most ${mostMoved}` }
      throw vhdFault(this.#disk.name, 'limit', 'too many blocks lie over others', place)
    }
    this.#sectors.set(sector, (this.#sectors.get(sector) ?? 0) + 1)
  }

  /** Whether one at the sector is left, which counts as done then. */
  take(sector: number): boolean {
    const left = this.#sectors.get(sector) ?? 0
    if (left > 0) this.#sectors.set(sector, left - 1)
    return left > 0
  }
}

/** The sectors at which blocks begin. */
class SectorList {
  readonly #disk: DynamicVhdDisk
  #sectors: Uint32Array
  #count = 0

  /** `most`: no more blocks than sectors of the file can be told apart. */
  constructor(disk: DynamicVhdDisk, most: number) {
    this.#disk = disk
    this.#sectors = new Uint32Array(Math.min(1024, most + 1))
  }

  add(sector: number): void {
    if (this.#count === this.#sectors.length) {
      const { checkBytes } = this.#disk.image.context.limits
      const room = this.#sectors.length * 2
      if (room * 4 > checkBytes) {
        throw vhdFault(this.#disk.name, 'limit', 'the image has too many blocks to check', {
          field: 'table entry',
          value: this.#count,
          rule: `at most ${Math.floor(checkBytes / 4)}`,
        })
      }
      const more = new Uint32Array(room)
      more.set(this.#sectors)
      this.#sectors = more
    }
    this.#sectors[this.#count++] = sector
  }

  /** Those that begin before the one before them has ended, which takes `stride` sectors. */
  *overlaps(stride: number): Iterable<number> {
    const list = this.#sectors.subarray(0, this.#count).sort()
    for (let i = 1; i < list.length; i++) {
      if ((list[i] as number) - (list[i - 1] as number) < stride) yield list[i] as number
    }
  }
}
