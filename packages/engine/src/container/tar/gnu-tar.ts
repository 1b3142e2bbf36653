/** A disk as the only file of a tar archive of the old GNU kind, with its holes left out, front to back. Facts: GNU tar manual, "Basic Tar Format" and "Old GNU Format" for sparse files. */
import { roundUp } from '../../bytes/integers.ts'
import type { Disk, Extent } from '../../core/index.ts'
import type { StreamPlan } from '../../format/format.ts'
import { extentChunks } from '../../format/raw/stream.ts'

const block = 512
/** Archives are padded to whole records. */
const record = 20 * block
/** Zeros that are not worth an entry. */
const leastHole = 64 * 1024
const entriesInHeader = 4
const entriesInBlock = 21
/** What eleven octal digits hold. */
const mostOctal = 8 ** 11

interface Run {
  offset: number
  length: number
}

/** Plans the archive; `name` has at most 99 ASCII characters. The length is exact. The same disk makes the same archive: owner and time are none. */
export async function gnuTarStream(disk: Disk, name: string): Promise<StreamPlan> {
  const runs = await dataRuns(disk)
  const stored = runs.reduce((sum, { length }) => sum + length, 0)
  const head =
    stored === disk.size ? header(name, disk.size, undefined, disk.size) : sparseHead(name, disk.size, runs, stored)
  const length = roundUp(head.length + roundUp(stored, block) + 2 * block, record)
  return {
    length,
    async *chunks(signal) {
      yield head
      for (const { offset, length } of runs) {
        const extent: Extent = { offset, length, allocated: true, data: true, zero: false, depth: 0 }
        yield* extentChunks(disk, extent, signal)
      }
      yield new Uint8Array(length - head.length - stored)
    },
  }
}

/** What does not read as zeros, in whole blocks. */
async function dataRuns(disk: Disk): Promise<Run[]> {
  const runs: Run[] = []
  if (disk.size === 0) return runs
  for await (const batch of disk.extents(0, disk.size)) {
    for (const { offset, length, zero } of batch) {
      if (zero) continue
      const start = offset - (offset % block)
      const end = Math.min(disk.size, roundUp(offset + length, block))
      const last = runs.at(-1)
      if (last !== undefined && start - (last.offset + last.length) < leastHole) last.length = end - last.offset
      else runs.push({ offset: start, length: end - start })
    }
  }
  return runs
}

function sparseHead(name: string, size: number, runs: readonly Run[], stored: number): Uint8Array {
  // Its end is told by an entry of nothing.
  const entries = [...runs, { offset: size, length: 0 }]
  const further = Math.ceil(Math.max(0, entries.length - entriesInHeader) / entriesInBlock)
  const all = new Uint8Array(block * (1 + further))
  all.set(header(name, stored, entries, size))
  for (let index = 0; index < further; index++) {
    const at = block * (1 + index)
    const from = entriesInHeader + index * entriesInBlock
    writeEntries(all, at, entries.slice(from, from + entriesInBlock))
    if (index + 1 < further) all[at + 504] = 1
  }
  return all
}

function header(name: string, size: number, entries: readonly Run[] | undefined, realSize: number): Uint8Array {
  const bytes = new Uint8Array(block)
  writeText(bytes, 0, name)
  writeText(bytes, 100, '0000644\0')
  writeText(bytes, 108, '0000000\0')
  writeText(bytes, 116, '0000000\0')
  writeNumber(bytes, 124, size)
  writeNumber(bytes, 136, 0)
  writeText(bytes, 148, '        ')
  writeText(bytes, 156, entries === undefined ? '0' : 'S')
  writeText(bytes, 257, 'ustar  \0')
  if (entries !== undefined) {
    writeEntries(bytes, 386, entries.slice(0, entriesInHeader))
    if (entries.length > entriesInHeader) bytes[482] = 1
    writeNumber(bytes, 483, realSize)
  }
  const sum = bytes.reduce((total, byte) => total + byte, 0)
  writeText(bytes, 148, `${sum.toString(8).padStart(6, '0')}\0 `)
  return bytes
}

function writeEntries(bytes: Uint8Array, at: number, entries: readonly Run[]): void {
  for (const [index, { offset, length }] of entries.entries()) {
    writeNumber(bytes, at + index * 24, offset)
    writeNumber(bytes, at + index * 24 + 12, length)
  }
}

function writeText(bytes: Uint8Array, at: number, text: string): void {
  for (let i = 0; i < text.length; i++) bytes[at + i] = text.charCodeAt(i)
}

/** Twelve bytes: octal digits, or binary with the first bit set where they do not do. */
function writeNumber(bytes: Uint8Array, at: number, value: number): void {
  if (value < mostOctal) {
    writeText(bytes, at, `${value.toString(8).padStart(11, '0')}\0`)
    return
  }
  bytes[at] = 0x80
  new DataView(bytes.buffer, bytes.byteOffset + at + 4, 8).setBigUint64(0, BigInt(value))
}
