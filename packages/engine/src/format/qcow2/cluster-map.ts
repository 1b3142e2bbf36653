/** From guest offsets to host offsets: walks L1 and L2 tables and answers with runs of clusters that belong together. */
import type { MoraineError } from '../../core/index.ts'
import { fault, type Qcow2Image } from './image.ts'
import { entry, hexOf, readPackedSpan } from './layout.ts'
import type { Page } from './metadata-cache.ts'

/** What a run of guest bytes is. `unallocated` reads from the backing file, `zero` as zeros. */
export type RunKind = 'unallocated' | 'zero' | 'data' | 'packed'

/** A run of guest bytes that lie together in the file, or nowhere. */
export interface Run {
  kind: RunKind
  /** Guest bytes from the offset that was asked. */
  length: number
  /** Host byte offset of the first guest byte: of `data`, of clusters kept by `zero` and `unallocated` runs (preallocation); of the packed bytes.
   *  −1 when no host cluster stands behind the run. */
  host: number
  /** The host clusters belong to the active tables alone and may be written in place. */
  copied: boolean
  /** Bytes of the packed unit, for `packed` runs (which never pass one cluster). */
  packedLength: number
}

const sector4G = 0x1_0000_0000

/** The mapping of one L1 table: the active one, or a snapshot's. */
export class ClusterMap {
  readonly #image: Qcow2Image

  constructor(image: Qcow2Image) {
    this.#image = image
  }

  /** The run that begins at `offset`, at most `length` bytes long. Answers at once when the L2 page is in memory.
   *  @throws MoraineError `corrupt` when an entry breaks the format's rules. */
  resolve(offset: number, length: number): Run | Promise<Run> {
    const { geometry, cache } = this.#image
    const l1Index = Math.floor(offset / geometry.l2Cover)
    const inTable = offset - l1Index * geometry.l2Cover
    const l2Offset = l1Index < this.#image.l1.size ? this.#image.l1.l2Offset(l1Index) : 0
    if (l2Offset === 0) return this.#emptyTables(l1Index, inTable, length)
    const cluster = Math.floor(inTable / geometry.clusterSize)
    const inCluster = inTable - cluster * geometry.clusterSize
    const entryOffset = cluster * geometry.l2EntrySize
    const pageStart = entryOffset - (entryOffset % geometry.pageSize)
    if (l2Offset % geometry.clusterSize !== 0) throw this.#unaligned(l2Offset, l1Index)
    const page = cache.peek(l2Offset + pageStart)
    if (page !== undefined) return this.#inPlace(offset, this.#runIn(page, entryOffset - pageStart, inCluster, length))
    return this.#resolveLater(offset, l2Offset + pageStart, entryOffset - pageStart, inCluster, length)
  }

  async #resolveLater(offset: number, pageOffset: number, at: number, inCluster: number, length: number): Promise<Run> {
    return this.#inPlace(offset, this.#runIn(await this.#image.cache.load(pageOffset, 'l2'), at, inCluster, length))
  }

  /** In an external data file guest and host offsets are the same. Source: qcow2.txt, "External data file". */
  #inPlace(offset: number, run: Run): Run {
    if (run.host < 0 || run.host === offset || this.#image.data === this.#image.file) return run
    throw fault(
      this.#image,
      'corrupt',
      `External data file host cluster offset ${hexOf(run.host)} does not match guest cluster offset: ${hexOf(offset)}`,
      'L2 entry',
      { value: run.host, rule: `offset ${offset} in the data file` },
    )
  }

  #unaligned(l2Offset: number, l1Index: number): MoraineError {
    return fault(
      this.#image,
      'corrupt',
      `L2 table offset ${hexOf(l2Offset)} unaligned (L1 index: ${hexOf(l1Index)})`,
      'L1 entry',
      { value: hexOf(l2Offset), rule: 'a multiple of the cluster size' },
    )
  }

  /** A run over consecutive L1 entries without a table. */
  #emptyTables(l1Index: number, inTable: number, length: number): Run {
    const { l2Cover } = this.#image.geometry
    let covered = l2Cover - inTable
    for (let index = l1Index + 1; covered < length && index < this.#image.l1.size; index++) {
      if (this.#image.l1.l2Offset(index) !== 0) break
      covered += l2Cover
    }
    if (covered < length && l1Index + Math.ceil(covered / l2Cover) >= this.#image.l1.size) covered = length
    return { kind: 'unallocated', length: Math.min(covered, length), host: -1, copied: false, packedLength: 0 }
  }

  /** The run that begins at entry `at` of a page, `inCluster` bytes into its cluster. */
  #runIn(page: Page, at: number, inCluster: number, length: number): Run {
    if (this.#image.geometry.extended) return this.#runInExtended(page, at, inCluster, length)
    const { view } = page
    const upper = view.getUint32(at)
    const lower = view.getUint32(at + 4)
    const { clusterSize } = this.#image.geometry
    if ((upper & entry.compressed) !== 0) return this.#packedRun(page, at, upper, lower, inCluster, length)
    const zero = (lower & entry.zero) !== 0
    if (zero && this.#image.header.version < 3) {
      throw this.#badEntry(page, at, 'Zero cluster entry found in pre-v3 image')
    }
    // Zeros at the beginning of a data file have no place there: QEMU takes offset 0 for none, whatever COPIED says.
    const place = this.#hostOffset(page, at, upper, lower)
    const host = zero && place === 0 ? -1 : place
    const copied = upper >= entry.copied
    const step = host < 0 ? 0 : clusterSize
    const nextUpperBase = upper - Math.floor(host < 0 ? 0 : host / sector4G)
    let next = host
    let covered = clusterSize - inCluster
    const end = page.bytes.length
    for (let i = at + 8; covered < length && i < end; i += 8) {
      next += step
      const up = view.getUint32(i)
      const low = view.getUint32(i + 4)
      if (host < 0) {
        if (up !== upper || low !== lower) break
      } else {
        // Same flags, and the next host cluster.
        const carry = next >= sector4G ? Math.floor(next / sector4G) : 0
        if (up !== nextUpperBase + carry || low !== next - carry * sector4G + (zero ? 1 : 0)) break
      }
      covered += clusterSize
    }
    return {
      kind: zero ? 'zero' : host < 0 ? 'unallocated' : 'data',
      length: Math.min(covered, length),
      host: host < 0 ? -1 : host + inCluster,
      copied,
      packedLength: 0,
    }
  }

  /** With extended entries a run ends with its cluster, or melts with the next while kind and host go on. */
  #runInExtended(page: Page, at: number, inCluster: number, length: number): Run {
    const { geometry } = this.#image
    const first = this.#subclusterRun(page, at, inCluster)
    let run = first
    let covered = run.length
    for (let i = at + 16; covered < length && i < page.bytes.length && first.kind !== 'packed'; i += 16) {
      const reachedEnd = (inCluster + covered) % geometry.clusterSize === 0
      if (!reachedEnd) break
      run = this.#subclusterRun(page, i, 0)
      const goesOn = first.host < 0 ? run.host < 0 : run.host === first.host + covered
      if (run.kind !== first.kind || run.copied !== first.copied || !goesOn) break
      covered += run.length
    }
    first.length = Math.min(covered, length)
    return first
  }

  /** The run of equal subclusters within one extended entry. */
  #subclusterRun(page: Page, at: number, inCluster: number): Run {
    const { view } = page
    const { geometry } = this.#image
    const upper = view.getUint32(at)
    const lower = view.getUint32(at + 4)
    const zeros = view.getUint32(at + 8)
    const allocated = view.getUint32(at + 12)
    if ((upper & entry.compressed) !== 0) {
      // Its bitmap should be 0; QEMU does not look at it when reading, and check reports it.
      return this.#packedRun(page, at, upper, lower, inCluster, geometry.clusterSize - inCluster)
    }
    const host = this.#hostOffset(page, at, upper, lower)
    if ((zeros & allocated) !== 0 || (host < 0 && allocated !== 0)) {
      throw this.#badEntry(page, at, 'Invalid cluster entry found')
    }
    const kindOf = (index: number): RunKind =>
      ((allocated >>> index) & 1) !== 0 ? 'data' : ((zeros >>> index) & 1) !== 0 ? 'zero' : 'unallocated'
    const first = Math.floor(inCluster / geometry.subclusterSize)
    const kind = kindOf(first)
    let end = first + 1
    while (end < 32 && kindOf(end) === kind) end++
    return {
      kind,
      length: end * geometry.subclusterSize - inCluster,
      host: host < 0 ? -1 : host + inCluster,
      copied: upper >= entry.copied,
      packedLength: 0,
    }
  }

  #packedRun(page: Page, at: number, upper: number, lower: number, inCluster: number, length: number): Run {
    const { geometry, header } = this.#image
    const span = readPackedSpan(upper, lower, geometry.clusterBits)
    if (this.#image.data !== this.#image.file) {
      throw this.#badEntry(page, at, 'Invalid cluster entry found')
    }
    return {
      kind: 'packed',
      length: Math.min(geometry.clusterSize - inCluster, length),
      host: span.offset,
      copied: header.version < 2,
      packedLength: span.length,
    }
  }

  /** The host cluster of a standard entry, −1 when there is none. */
  #hostOffset(page: Page, at: number, upper: number, lower: number): number {
    const high = upper & entry.offsetHigh
    const host = high * sector4G + ((lower & entry.offsetLow) >>> 0)
    if (host === 0) {
      // Host offset 0 is the header's, save in an external data file, where COPIED marks it as real.
      return this.#image.data !== this.#image.file && upper >= entry.copied ? 0 : -1
    }
    // A place past 2^53 reads as zeros, like all that lies past the end of the file; nothing is written there (`MetadataGuard`).
    if (host % this.#image.geometry.clusterSize !== 0) {
      throw fault(
        this.#image,
        'corrupt',
        `Cluster allocation offset ${hexOf(host)} unaligned (${this.#placeOf(page, at)})`,
        'L2 entry',
        { offset: page.offset + at, rule: 'a multiple of the cluster size' },
      )
    }
    return host
  }

  #badEntry(page: Page, at: number, reason: string): MoraineError {
    return fault(this.#image, 'corrupt', `${reason} (${this.#placeOf(page, at)})`, 'L2 entry', {
      offset: page.offset + at,
    })
  }

  /** Where an entry stands, in QEMU's words: the page is a slice of its table. */
  #placeOf(page: Page, at: number): string {
    return `L2 offset: ${hexOf(page.offset)}, L2 index: ${hexOf(Math.floor(at / this.#image.geometry.l2EntrySize))}`
  }
}
