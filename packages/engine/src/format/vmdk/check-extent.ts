/** Checking a hosted sparse extent entry by entry, and repairing it: each of the two directories and each copy of a table is mended from the other, entries that
 *  point nowhere are emptied, and what is used twice gets a place of its own. QEMU has none of this; the words are ours. */
import { roundUp, viewOf } from '../../bytes/integers.ts'
import { type ByteStore, readPadded, throwIfCancelled } from '../../core/index.ts'
import type { CheckOptions, CheckResult } from '../format.ts'
import { mostCopies } from '../growth.ts'
import { fault } from './image.ts'
import { bounds, headerBytes, sectorBytes, zeroedEntry } from './layout.ts'
import type { SparseExtent, SparseShape } from './sparse-extent.ts'

/** Entries of a directory that are looked at together. */
const pageEntries = 16_384
/** Most findings that are told one by one. */
const mostTold = 1000
/** Tables that are told apart: those of 32 TiB of new images. */
const mostTables = 1024 * 1024
const copyBytes = 1024 * 1024

/** Checks one extent, and repairs it where a store is given. Findings are counted in `result`; `memory` bounds what is held, in bytes; `descriptor` tells where one
 *  stands in the file. What was read of the extent before must be read again after a repair.
 *  @throws MoraineError `limit` when there is too much to check, or to copy. */
export async function checkHostedExtent(
  extent: SparseExtent,
  store: ByteStore | undefined,
  options: CheckOptions,
  result: CheckResult,
  { memory, descriptor }: { memory: number; descriptor: Span | undefined },
): Promise<void> {
  const found = await lookThrough(extent.shape, options)
  const places = new Places(extent.shape, found, memory)
  await new ExtentCheck(extent.shape, store, options, result, places, descriptor).run()
}

/** A part of the file. Bytes. */
interface Span {
  offset: number
  length: number
}

/** Numbers of a directory or a table: sectors. */
async function readWords(shape: SparseShape, offset: number, count: number): Promise<Uint32Array> {
  const bytes = new Uint8Array(count * 4)
  await readPadded(shape.file, offset, bytes)
  const view = viewOf(bytes)
  return Uint32Array.from({ length: count }, (_, i) => view.getUint32(i * 4, true))
}

function encodeWords(words: Uint32Array): Uint8Array {
  const bytes = new Uint8Array(words.length * 4)
  const view = viewOf(bytes)
  for (const [i, word] of words.entries()) view.setUint32(i * 4, word, true)
  return bytes
}

function isInside(fileSize: number, sector: number, bytes: number): boolean {
  return sector > 0 && sector * sectorBytes + bytes <= roundUp(fileSize, sectorBytes)
}

/** What both copies of all tables say together. */
interface Overview {
  /** Where grains begin, as a remainder of their size in sectors; undefined where they do not all lie alike. */
  phase: number | undefined
  /** Where the last of those things ends that lie behind the file, as far as copies may come. Bytes. */
  lostEnd: number
}

async function lookThrough(shape: SparseShape, { signal }: CheckOptions): Promise<Overview> {
  const { directory, redundant, tableEntries, grainBytes, file, compressed } = shape
  const grainSectors = grainBytes / sectorBytes
  const reach = file.size + mostCopies(file.size)
  let phase: number | undefined
  let alike = !compressed
  let lostEnd = 0
  const look = (sector: number, bytes: number): boolean => {
    const end = sector * sectorBytes + bytes
    if (end > file.size && end - bytes < reach) lostEnd = Math.max(lostEnd, end)
    return isInside(file.size, sector, bytes)
  }
  for (const { offset, count } of redundant === undefined ? [directory] : [directory, redundant]) {
    for (let first = 0; first < count; first += pageEntries) {
      for (const sector of await readWords(shape, offset + first * 4, Math.min(pageEntries, count - first))) {
        throwIfCancelled(signal, file.name)
        if (!look(sector, tableEntries * 4)) continue
        for (const grain of await readWords(shape, sector * sectorBytes, tableEntries)) {
          if (grain <= zeroedEntry) continue
          look(grain, grainBytes)
          if (!isInside(file.size, grain, 1)) continue
          phase ??= grain % grainSectors
          if (grain % grainSectors !== phase) alike = false
        }
      }
    }
  }
  return { phase: alike ? (phase ?? 0) : undefined, lostEnd }
}

/** Which places of the file hold grains. */
class Places {
  readonly #bits: Uint8Array
  readonly #unit: number
  readonly #phase: number
  readonly #each: number
  readonly #end: number

  /** Grains that lie alike take a bit each, others one for each sector; of compressed ones the first sector counts.
   *  @throws MoraineError `limit` when the bits take more than `memory` bytes. */
  constructor({ file, grainBytes, compressed }: SparseShape, { phase, lostEnd }: Overview, memory: number) {
    const grainSectors = grainBytes / sectorBytes
    this.#unit = phase === undefined ? 1 : grainSectors
    this.#phase = phase ?? 0
    this.#each = phase === undefined && !compressed ? grainSectors : 1
    const bytes = Math.ceil((file.size / sectorBytes / this.#unit + this.#each + 2) / 8)
    if (bytes > memory) {
      const rule = `at most ${memory * 8 * this.#unit * sectorBytes} bytes`
      throw fault(file, 'limit', 'the image is too large to check', 'file size', { value: file.size, rule })
    }
    this.#bits = new Uint8Array(bytes)
    const base = this.#phase * sectorBytes
    const fileEnd = Math.max(0, file.size - base + (phase === undefined ? grainBytes : 0))
    this.#end = base + roundUp(Math.max(fileEnd, lostEnd - base), grainBytes)
  }

  /** Where a new grain may begin, in bytes: no grain reaches that far, also one that the file ends within. Nor does an entry lead there that will be emptied only when
   *  the file has grown: it would show what is copied there, were the power to fail between. */
  get end(): number {
    return this.#end
  }

  /** Marks the grain at a sector as used; false when a part of it was already. */
  take(sector: number): boolean {
    const first = Math.floor((sector - this.#phase) / this.#unit) + 1
    let free = true
    for (let at = first; at < first + this.#each; at++) {
      const byte = this.#bits[at >>> 3] ?? 0
      const bit = 1 << (at & 7)
      if ((byte & bit) !== 0) free = false
      this.#bits[at >>> 3] = byte | bit
    }
    return free
  }
}

class ExtentCheck {
  readonly #shape: SparseShape
  readonly #store: ByteStore | undefined
  readonly #options: CheckOptions
  readonly #result: CheckResult
  readonly #places: Places
  /** Bytes of the file before the repair, which makes it longer. */
  readonly #fileSize: number
  /** What neither grains nor tables lie over: header, descriptor, directories. */
  readonly #reserved: readonly Span[]
  readonly #tables = new Set<number>()
  #copied = 0

  constructor(
    shape: SparseShape,
    store: ByteStore | undefined,
    options: CheckOptions,
    result: CheckResult,
    places: Places,
    descriptor: Span | undefined,
  ) {
    this.#shape = shape
    this.#store = store
    this.#options = options
    this.#result = result
    this.#places = places
    this.#fileSize = shape.file.size
    this.#reserved = [
      { offset: 0, length: headerBytes },
      ...(descriptor === undefined ? [] : [descriptor]),
      ...[shape.directory, shape.redundant].flatMap((directory) =>
        directory === undefined ? [] : [{ offset: directory.offset, length: directory.count * 4 }],
      ),
    ]
  }

  #isReserved(sector: number, length: number): boolean {
    const start = sector * sectorBytes
    return this.#reserved.some((span) => start < span.offset + span.length && span.offset < start + length)
  }

  async run(): Promise<void> {
    const { directory, redundant, file } = this.#shape
    if (directory.count > mostTables) {
      const rule = `at most ${mostTables}`
      throw fault(file, 'limit', 'the image is too large to check', 'grain directory', { value: directory.count, rule })
    }
    for (let first = 0; first < directory.count; first += pageEntries) {
      const count = Math.min(pageEntries, directory.count - first)
      const page = await readWords(this.#shape, directory.offset + first * 4, count)
      const copies = redundant && (await readWords(this.#shape, redundant.offset + first * 4, count))
      const before = [page.slice(), copies?.slice()] as const
      for (let i = 0; i < count; i++) {
        throwIfCancelled(this.#options.signal, file.name)
        const { place, copy } = await this.#checkTable(first + i, page[i] as number, copies?.[i])
        page[i] = place
        if (copies !== undefined && copy !== undefined) copies[i] = copy
      }
      if (this.#store === undefined) continue
      // Tables first, then what points at them; the redundant directory before the one that readers look at.
      await this.#store.flush()
      if (copies !== undefined && redundant !== undefined && differ(copies, before[1])) {
        await this.#store.write(redundant.offset + first * 4, encodeWords(copies))
      }
      if (differ(page, before[0])) await this.#store.write(directory.offset + first * 4, encodeWords(page))
      await this.#store.flush()
    }
  }

  /** Counts and tells a corruption, which a repair mends. */
  #corruption(what: string): void {
    if (this.#store === undefined) this.#result.corruptions++
    else this.#result.corruptionsFixed++
    this.#tell(`${this.#store === undefined ? 'ERROR' : 'Repairing'} ${what}`)
  }

  #tell(line: string): void {
    const told = this.#result.corruptions + this.#result.corruptionsFixed
    if (told <= mostTold) this.#options.report(line, 'error')
    else if (told === mostTold + 1) this.#options.report('More errors follow; they are counted, not told.', 'error')
  }

  /** Looks at table `index` and its copy (sectors, as the directories have them). Returns what the directories should have. */
  async #checkTable(
    index: number,
    place: number,
    copy: number | undefined,
  ): Promise<{ place: number; copy: number | undefined }> {
    const bytes = this.#shape.tableEntries * 4
    const isOk = (sector: number): boolean =>
      sector === 0 || (isInside(this.#fileSize, sector, bytes) && !this.#isReserved(sector, bytes))
    if (!isOk(place)) this.#corruption(`grain directory entry ${index} points outside the file`)
    if (copy !== undefined && !isOk(copy)) {
      this.#corruption(`redundant grain directory entry ${index} points outside the file`)
    }
    const table = isOk(place) && place !== 0 ? await this.#readTable(place) : undefined
    const second = copy !== undefined && isOk(copy) && copy !== 0 ? await this.#readTable(copy) : undefined
    let at = isOk(place) ? place : 0
    let copyAt = copy === undefined ? undefined : isOk(copy) ? copy : 0
    if (table === undefined && second === undefined) return { place: at, copy: copyAt }
    if (table === undefined && isOk(place) && second?.some((entry) => entry !== 0) === true) {
      this.#corruption(`grain directory entry ${index} is empty, the redundant one is not`)
    }
    if (copyAt === 0 && copy === 0 && table?.some((entry) => entry !== 0) === true) {
      this.#corruption(`redundant grain directory entry ${index} is empty, the other is not`)
    }
    const isShared = table !== undefined && this.#tables.has(at)
    if (isShared) this.#corruption(`grain table ${index} is that of other grains, too`)
    const told = this.#result.corruptions + this.#result.corruptionsFixed
    const words = await this.#checkEntries(index, table ?? second ?? new Uint32Array(0), second)
    const copyDiffers = second !== undefined && differ(words, second)
    // What is wrong with an entry is told already.
    if (copyDiffers && told === this.#result.corruptions + this.#result.corruptionsFixed) {
      this.#corruption(`the redundant copy of grain table ${index} differs`)
    }
    if (this.#store !== undefined) {
      // Nothing is changed in place: what a wrong entry leads to may be no table at all.
      const encoded = encodeWords(words)
      const empty = words.every((entry) => entry === 0)
      const lacks = (sector: number, known: Uint32Array | undefined): boolean =>
        sector === 0 ? !empty : isShared || differ(words, known)
      if (copyAt !== undefined && lacks(copyAt, second)) copyAt = await this.#append(encoded, this.#store)
      if (lacks(at, table)) at = await this.#append(encoded, this.#store)
    }
    if (at !== 0) this.#tables.add(at)
    return { place: at, copy: copyAt }
  }

  #readTable(sector: number): Promise<Uint32Array> {
    return readWords(this.#shape, sector * sectorBytes, this.#shape.tableEntries)
  }

  async #append(bytes: Uint8Array, store: ByteStore): Promise<number> {
    const sector = this.#room(bytes.length)
    await store.write(sector * sectorBytes, bytes)
    return sector
  }

  /** Looks at the entries of a table. Returns them put right, where there is a repair: by `second`, its copy, or a place at the end of the file. */
  async #checkEntries(index: number, found: Uint32Array, second: Uint32Array | undefined): Promise<Uint32Array> {
    const { tableEntries, zeroedGrains, compressed } = this.#shape
    const isEntry = (entry: number): boolean =>
      entry === 0 || (entry === zeroedEntry && zeroedGrains) || this.#isGrain(entry)
    // Where the copy is a table in all its entries and this one is not, more than those entries may be wrong here.
    const better = second?.every(isEntry) === true && !found.every(isEntry) ? second : found
    const words = found.slice()
    for (const [i, entry] of found.entries()) {
      const grain = index * tableEntries + i
      let now = better[i] as number
      if (!isEntry(entry)) {
        this.#corruption(`grain ${grain} points outside the file, or over the metadata`)
        const other = second?.[i] ?? 0
        now = isEntry(other) ? other : 0
      }
      if (now !== 0 && !(now === zeroedEntry && zeroedGrains) && !this.#places.take(now)) {
        if (compressed) {
          // Each tells which grain it is: one of the two is wrong, and nobody knows the other's bytes.
          this.#result.corruptions++
          this.#tell(`ERROR grain ${grain} is that of another place, too`)
        } else {
          this.#corruption(`grain ${grain} lies over another`)
          if (this.#store !== undefined) now = await this.#copyGrain(now, this.#store)
        }
      }
      words[i] = this.#store === undefined ? entry : now
    }
    return words
  }

  #isGrain(sector: number): boolean {
    const { compressed, grainBytes } = this.#shape
    return sector * sectorBytes < this.#fileSize && !this.#isReserved(sector, compressed ? sectorBytes : grainBytes)
  }

  async #copyGrain(sector: number, store: ByteStore): Promise<number> {
    const { grainBytes } = this.#shape
    const to = this.#room(grainBytes)
    for (let at = 0; at < grainBytes; at += copyBytes) {
      const bytes = new Uint8Array(Math.min(copyBytes, grainBytes - at))
      await readPadded(store, sector * sectorBytes + at, bytes)
      await store.write(to * sectorBytes + at, bytes)
    }
    return to
  }

  #end: number | undefined

  /** Takes room at the end of the file, in whole grains. Returns its sector.
   *  @throws MoraineError `limit` when copies take more room than all that there is, or no entry can point there. */
  #room(length: number): number {
    const { file, grainBytes } = this.#shape
    const room = roundUp(length, grainBytes)
    this.#end ??= this.#places.end
    const sector = this.#end / sectorBytes
    const most = mostCopies(this.#fileSize)
    if (this.#copied + room > most || sector + room / sectorBytes > bounds.fileSectors) {
      const rule = `at most ${most} bytes, below sector ${bounds.fileSectors}`
      throw fault(file, 'limit', 'too much of the image is to be copied', 'copies', {
        value: this.#copied + room,
        rule,
      })
    }
    this.#copied += room
    this.#end += room
    return sector
  }
}

function differ(one: Uint32Array, other: Uint32Array | undefined): boolean {
  return other === undefined || one.some((word, i) => word !== other[i])
}
