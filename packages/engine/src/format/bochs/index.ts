/** Bochs' growing images (redologs), read only. Each extent has a bitmap of its sectors in front. Facts: the behaviour of QEMU 7.2. */
import { roundUp, u64le, viewOf } from '../../bytes/integers.ts'
import {
  type ByteSource,
  type Disk,
  type DiskInfo,
  type ErrorKind,
  MoraineError,
  readPadded,
} from '../../core/index.ts'
import { BlockTable } from '../block-table.ts'
import { readOnly } from '../capabilities.ts'
import type { DiskFormat, OpenContext } from '../format.ts'
import { MappedDisk, type MappedRun } from '../mapped-disk.ts'

const headerBytes = 512
const texts = [
  [0, 'Bochs Virtual HD Image'],
  [32, 'Redolog'],
  [48, 'Growing'],
] as const
const versions = { first: 0x0001_0000, second: 0x0002_0000 } as const
const mostEntries = 0x10_0000
const mostExtentBytes = 0x80_0000
const absent = 0xffff_ffff
const sector = 512

function looksLikeBochs(head: Uint8Array): boolean {
  if (head.length < headerBytes) return false
  const latin1 = new TextDecoder('latin1')
  if (texts.some(([at, text]) => latin1.decode(head.subarray(at, at + text.length + 1)) !== `${text}\0`)) return false
  const version = viewOf(head).getUint32(64, true)
  return version === versions.first || version === versions.second
}

/** The Bochs format. */
export const bochs: DiskFormat = {
  name: 'bochs',
  aliases: [],
  extensions: [],
  can: readOnly,
  options: [],
  probe: ({ head }) => (looksLikeBochs(head) ? { score: 100, evidence: 'Bochs Virtual HD Image, growing' } : undefined),
  open: openBochs,
}

/** What the header says. Bytes. */
interface Geometry {
  size: number
  /** Where the extents begin. */
  dataOffset: number
  extentSize: number
  /** Bytes of an extent's bitmap in the file: whole sectors. */
  bitmapSize: number
}

/** Opens an image for reading; the words of refusals are QEMU's.
 *  @throws MoraineError `denied` for writing, `not-this-format`, `invalid` and `limit` for a header that breaks a rule, `corrupt` when the file ends
 *  within the catalog. */
async function openBochs(file: ByteSource, { mode, limits }: OpenContext): Promise<Disk> {
  const refuse = (kind: ErrorKind, field: string, value: number, reason: string, rule: string): never => {
    throw new MoraineError(kind, reason, { path: file.name, format: 'bochs', field, value, rule })
  }
  if (mode === 'write') {
    throw new MoraineError('denied', 'Image is read-only', {
      path: file.name,
      format: 'bochs',
    })
  }
  const bytes = new Uint8Array(headerBytes)
  await readPadded(file, 0, bytes)
  if (!looksLikeBochs(bytes)) {
    throw new MoraineError('not-this-format', 'Image not in Bochs format', { path: file.name, format: 'bochs' })
  }
  const view = viewOf(bytes)
  const tableOffset = view.getUint32(68, true)
  const entries = view.getUint32(72, true)
  const bitmapBytes = view.getUint32(76, true)
  const extentSize = view.getUint32(80, true)
  const disk = u64le(view, view.getUint32(64, true) === versions.first ? 84 : 88)
  if (entries > mostEntries)
    refuse('invalid', 'catalog', entries, 'Catalog size is too large', `at most ${mostEntries}`)
  if (extentSize < sector) {
    refuse('invalid', 'extent', extentSize, 'Extent size must be at least 512', '512 at least')
  }
  if ((extentSize & (extentSize - 1)) !== 0) {
    refuse('invalid', 'extent', extentSize, `Extent size ${extentSize} is not a power of two`, 'a power of two')
  }
  if (extentSize > mostExtentBytes) {
    refuse('invalid', 'extent', extentSize, `Extent size ${extentSize} is too large`, 'at most 8 MiB')
  }
  const size = Math.floor(disk / sector) * sector
  if (!(size <= limits.virtualSize)) {
    refuse('limit', 'disk', disk, 'Image is too big', `at most ${limits.virtualSize}`)
  }
  if (entries < Math.ceil(size / extentSize)) {
    const reason = 'Catalog size is too small for this disk size'
    refuse('invalid', 'catalog', entries, reason, `${Math.ceil(size / extentSize)} at least`)
  }
  const bitmapSize = Math.max(sector, roundUp(bitmapBytes, sector))
  if (bitmapSize * 8 < extentSize / sector || bitmapSize > mostExtentBytes) {
    refuse('invalid', 'bitmap', bitmapBytes, 'the bitmap of an extent does not fit it', 'a bit for each sector')
  }
  const dataOffset = tableOffset + entries * 4
  if (dataOffset > file.size) {
    refuse('corrupt', 'catalog', entries, 'the file ends within the catalog', `up to byte ${file.size}`)
  }
  const place = { offset: tableOffset, entries, order: 'little', cacheBytes: limits.cacheBytes } as const
  return new BochsDisk(file, new BlockTable(file, place), { size, dataOffset, extentSize, bitmapSize })
}

class BochsDisk extends MappedDisk {
  readonly format = 'bochs'
  readonly size: number
  readonly #table: BlockTable
  readonly #geometry: Geometry
  /** Bitmaps that were read, the one used longest ago first. */
  readonly #bitmaps = new Map<number, Uint8Array>()

  constructor(file: ByteSource, table: BlockTable, geometry: Geometry) {
    super(file, undefined)
    this.#table = table
    this.#geometry = geometry
    this.size = geometry.size
  }

  protected override async resolve(offset: number, length: number): Promise<MappedRun> {
    const { extentSize, dataOffset, bitmapSize } = this.#geometry
    const index = Math.floor(offset / extentSize)
    const skip = offset - index * extentSize
    const extent = await this.#table.get(index)
    if (extent === absent) {
      const count = this.#table.run(index, Math.ceil((skip + length) / extentSize), 0)
      return { kind: 'zero', host: -1, length: Math.min(length, count * extentSize - skip) }
    }
    const start = dataOffset + extent * (bitmapSize + extentSize)
    if (start >= this.file.size) {
      throw this.fault('corrupt', `extent ${index} lies outside the image`, {
        field: 'catalog',
        value: extent,
        rule: `before byte ${this.file.size}`,
      })
    }
    const bits = await this.#bitmapAt(start)
    const first = Math.floor(skip / sector)
    const written = isSet(bits, first)
    let end = first + 1
    while (end < extentSize / sector && isSet(bits, end) === written) end++
    const covered = Math.min(length, end * sector - skip)
    if (!written) return { kind: 'zero', host: -1, length: covered }
    return { kind: 'data', host: start + bitmapSize + skip, length: covered }
  }

  async #bitmapAt(start: number): Promise<Uint8Array> {
    const known = this.#bitmaps.get(start)
    if (known !== undefined) return known
    const bits = new Uint8Array(Math.ceil(this.#geometry.extentSize / sector / 8))
    await readPadded(this.file, start, bits)
    this.#bitmaps.set(start, bits)
    const oldest = this.#bitmaps.keys().next().value
    if (this.#bitmaps.size > 1024 && oldest !== undefined) this.#bitmaps.delete(oldest)
    return bits
  }

  info(): DiskInfo {
    return { format: 'bochs', virtualSize: this.size, snapshots: [] }
  }
}

function isSet(bits: Uint8Array, at: number): boolean {
  return ((bits[at >>> 3] ?? 0) & (1 << (at & 7))) !== 0
}
