/** Images of terabytes that take megabytes: their tables are written in full, and what these point at is holes of the file. */
import { type FileHandle, open } from 'node:fs/promises'
import { createFile } from './disk.ts'

const mib = 1 << 20

/** What the entries of a table lead to. `full`: each has a place of its own, and one in sixteen pairs lies the wrong way round, so that no two extents around it are one.
 *  `lost`: places behind the file. `same`: one place for all, in a short file. */
export type Filling = 'full' | 'lost' | 'same'

/** A table to write. */
interface Table {
  /** Byte offset in the file. */
  at: number
  entries: number
  /** Bytes of an entry. */
  width: 4 | 8
  order: 'little' | 'big'
  /** The entry of unit `place` of the file. */
  entry(place: number): number
}

/** Unit that entry `index` of `count` leads to. */
function placeOf(filling: Filling, index: number, count: number): number {
  if (filling === 'lost') return count + index
  if (filling === 'same') return 0
  return index % 32 < 2 && (index ^ 1) < count ? index ^ 1 : index
}

async function fill(file: FileHandle, table: Table, filling: Filling): Promise<void> {
  const { at, entries, width, order, entry } = table
  const pieceEntries = mib / width
  const bytes = Buffer.alloc(mib)
  for (let first = 0; first < entries; first += pieceEntries) {
    const count = Math.min(pieceEntries, entries - first)
    for (let i = 0; i < count; i++) {
      const value = entry(placeOf(filling, first + i, entries))
      const low = value % 2 ** 32
      const high = Math.floor(value / 2 ** 32)
      if (order === 'little') {
        bytes.writeUInt32LE(low, i * width)
        if (width === 8) bytes.writeUInt32LE(high, i * width + 4)
      } else {
        bytes.writeUInt32BE(low, i * width + width - 4)
        if (width === 8) bytes.writeUInt32BE(high, i * width)
      }
    }
    await file.write(bytes, 0, count * width, at + first * width)
  }
}

/** A format whose tables can be written here. */
export interface LargeFormat {
  format: string
  /** Of the new image whose tables are filled. */
  size: number
  options?: string
  /** Fills the tables of an empty image, and makes the file as long as that needs. */
  fill(file: FileHandle, filling: Filling): Promise<void>
}

const read = async (file: FileHandle, at: number, length: number): Promise<Buffer> =>
  (await file.read(Buffer.alloc(length), 0, length, at)).buffer

/** Two levels: a first table whose entries lead to second ones, all of them in a row behind it. */
async function fillTwoLevels(
  file: FileHandle,
  filling: Filling,
  shape: {
    l1: number
    tables: number
    tableEntries: number
    firstTable: number
    unit: number
    order: 'little' | 'big'
  },
): Promise<void> {
  const { l1, tables, tableEntries, firstTable, unit, order } = shape
  const tableBytes = tableEntries * 8
  const entry = (place: number): number => firstTable + place * tableBytes
  await fill(file, { at: l1, entries: tables, width: 8, order, entry: (place) => entry(place) }, 'full')
  const data = Math.ceil((firstTable + tables * tableBytes) / unit) * unit
  const entries = tables * tableEntries
  await fill(file, { at: firstTable, entries, width: 8, order, entry: (place) => data + place * unit }, filling)
  await file.truncate(data + (filling === 'same' ? 1 : entries) * unit)
}

/** Formats of blocks, each with as many entries as make its table large. */
export const largeFormats: readonly LargeFormat[] = [
  {
    format: 'vdi',
    size: 2 ** 41,
    async fill(file, filling) {
      const head = await read(file, 0, 512)
      const entries = head.readUInt32LE(384)
      head.writeUInt32LE(entries, 388)
      await file.write(head, 0, 512, 0)
      const at = head.readUInt32LE(340)
      await fill(file, { at, entries, width: 4, order: 'little', entry: (place) => place }, filling)
      await file.truncate(head.readUInt32LE(344) + (filling === 'same' ? 1 : entries) * mib)
    },
  },
  {
    format: 'parallels',
    size: 2 ** 41,
    async fill(file, filling) {
      const head = await read(file, 0, 64)
      const entries = head.readUInt32LE(32)
      const first = head.readUInt32LE(48) * 512
      const entry = (place: number): number => first / mib + place
      await fill(file, { at: 64, entries, width: 4, order: 'little', entry }, filling)
      await file.truncate(first + (filling === 'same' ? 1 : entries) * mib)
    },
  },
  {
    format: 'vhd',
    size: 2040 * 2 ** 30,
    async fill(file, filling) {
      const footer = await read(file, 0, 512)
      const header = await read(file, Number(footer.readBigUInt64BE(16)), 1024)
      const at = Number(header.readBigUInt64BE(16))
      const entries = header.readUInt32BE(28)
      // Each block has a bitmap in front of it, which is read when the disk is walked.
      const used = filling === 'full' ? Math.floor(entries / 16) : entries
      const first = Math.ceil((at + entries * 4) / 512) + 1
      const entry = (place: number): number =>
        filling === 'lost' ? 2 ** 32 - 2 - (place % 4096) : first + place * 4097
      await fill(file, { at, entries: used, width: 4, order: 'big', entry }, filling)
      const end = (first + (filling === 'full' ? used : 1) * 4097) * 512
      await file.truncate(end)
      await file.write(footer, 0, 512, end)
    },
  },
  {
    format: 'vhdx',
    size: 2 ** 41,
    options: 'block_size=1M,block_state_zero=off',
    async fill(file, filling) {
      // Regions of a new image: the table of blocks is the one that is not at the metadata's place.
      const regions = await read(file, 192 * 1024, 4096)
      const guid = Buffer.from('6677c22d23f600429d64115e9bfd4a08', 'hex')
      const index = [0, 1].find((i) => regions.subarray(16 + i * 32, 32 + i * 32).equals(guid)) ?? 0
      const at = Number(regions.readBigUInt64LE(16 + index * 32 + 16))
      const length = regions.readUInt32LE(16 + index * 32 + 24)
      // One entry in 4097 is that of a sector bitmap, which nobody looks at here: blocks are 1 MiB, and a chunk has 4096 of them.
      const blocks = 2 ** 41 / mib
      const entries = blocks + Math.floor((blocks - 1) / 4096)
      const { size } = await file.stat()
      const first = Math.ceil(Math.max(size, at + length) / mib) * mib
      const entry = (place: number): number => first + place * mib + 6
      await fill(file, { at, entries, width: 8, order: 'little', entry }, filling)
      await file.truncate(first + (filling === 'same' ? 1 : entries) * mib)
    },
  },
  {
    format: 'qcow',
    size: 8 * 2 ** 30,
    fill: (file, filling) =>
      fillTwoLevels(file, filling, {
        ...{ l1: 48, tables: 4096, tableEntries: 512, firstTable: 128 * 1024, unit: 4096, order: 'big' },
      }),
  },
  {
    format: 'qed',
    size: 128 * 2 ** 30,
    fill: (file, filling) =>
      fillTwoLevels(file, filling, {
        ...{ l1: 65_536, tables: 64, tableEntries: 32_768, firstTable: 5 * 65_536, unit: 65_536, order: 'little' },
      }),
  },
  {
    format: 'qcow2',
    size: 128 * 2 ** 30,
    options: 'preallocation=metadata',
    async fill(file, filling) {
      if (filling === 'full') return
      const head = await read(file, 0, 72)
      const l1 = await read(file, Number(head.readBigUInt64BE(40)), head.readUInt32BE(36) * 8)
      const { size } = await file.stat()
      for (let i = 0; i < l1.length / 8; i++) {
        const at = Number(l1.readBigUInt64BE(i * 8) & 0x00ff_ffff_ffff_fe00n)
        const entry = (place: number): number => 2 ** 63 + (filling === 'same' ? 5 * 65_536 : size + place * 65_536)
        await fill(file, { at, entries: 8192, width: 8, order: 'big', entry }, filling)
      }
    },
  },
  {
    format: 'vmdk',
    size: 128 * 2 ** 30,
    async fill(file, filling) {
      const head = await read(file, 0, 512)
      const tables = (128 * 2 ** 30) / (512 * 65_536)
      const { size } = await file.stat()
      const first = Math.ceil(size / 65_536) * 128
      const entry = (place: number): number => first + place * 128
      for (const directory of [head.readBigUInt64LE(48), head.readBigUInt64LE(56)]) {
        const sectors = await read(file, Number(directory) * 512, 4)
        const at = sectors.readUInt32LE(0) * 512
        await fill(file, { at, entries: tables * 512, width: 4, order: 'little', entry }, filling)
      }
      await file.truncate(first * 512 + (filling === 'same' ? 1 : tables * 512) * 65_536)
    },
  },
]

/** Makes an image with its tables filled. */
export async function makeLarge(
  path: string,
  { format, size, options, fill: write }: LargeFormat,
  filling: Filling,
): Promise<void> {
  await createFile(path, format, size, options)
  const file = await open(path, 'r+')
  try {
    await write(file, filling)
  } finally {
    await file.close()
  }
}
