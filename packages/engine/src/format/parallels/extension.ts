/** The format extension of a Parallels image, and the dirty bitmaps in it. Facts: QEMU's docs/interop/parallels.txt. */
import { roundUp, setU64le, u64le, viewOf } from '../../bytes/integers.ts'
import { md5 } from '../../bytes/md5.ts'
import {
  type BitmapInfo,
  type Bitmaps,
  type ByteSource,
  type ByteStore,
  type DirtyRange,
  MoraineError,
  readPadded,
  throwIfCancelled,
} from '../../core/index.ts'
import type { OpenContext } from '../format.ts'
import { type ParallelsHeader, parallelsFault } from './layout.ts'

const magic = 0xab23_4cef_23dc_ea87n
const bitmapMagic = 0x2038_5fae_252c_b34an
/** Bytes in front of the first section: magic and MD5. */
const sectionStart = 24
/** Bytes of a section in front of its data, and of a bitmap's data in front of its L1 table. */
const sectionHead = 24
const bitmapHead = 32
/** Flag of a section that nobody may pass over. */
const necessary = 1n

/** What an L1 entry of a bitmap says without a cluster of bits. */
const l1 = { clear: 0n, set: 1n } as const

/** One dirty bitmap. Offsets are within the extension's cluster. */
export interface StoredBitmap {
  name: string
  /** Bytes of the disk that it covers. */
  size: number
  /** Bytes that one bit stands for. */
  granularity: number
  /** Where the L1 table stands, and its entries. */
  table: number
  entries: bigint[]
}

/** The extension of an image. */
export interface Extension {
  /** Byte offset in the file. */
  readonly offset: number
  /** The whole cluster as it stands in the file. */
  readonly bytes: Uint8Array
  readonly bitmaps: StoredBitmap[]
}

/** Reads the extension of an image. What is wrong with one that nothing depends on is a warning, and the bitmaps are left alone.
 *  @throws MoraineError `unsupported` for a necessary section that nobody knows, `corrupt` for a damaged one, `limit`. */
export async function readExtension(
  file: ByteSource,
  header: ParallelsHeader,
  { limits }: OpenContext,
): Promise<Extension> {
  const { extension: offset, clusterSize } = header
  const refuse = (kind: 'corrupt' | 'unsupported' | 'limit', field: string, reason: string, rule: string): never => {
    throw parallelsFault(file.name, kind, `parallels: ${reason}`, { field, offset, rule })
  }
  if (!Number.isSafeInteger(offset) || offset + clusterSize > roundUp(file.size, clusterSize) || offset >= file.size) {
    refuse('corrupt', 'ext_off', 'the format extension lies outside the image', `a cluster before byte ${file.size}`)
  }
  if (clusterSize > limits.tableBytes) {
    refuse('limit', 'tracks', 'the format extension is too large', `at most ${limits.tableBytes} bytes`)
  }
  const bytes = new Uint8Array(clusterSize)
  await readPadded(file, offset, bytes)
  const view = viewOf(bytes)
  if (view.getBigUint64(0, true) !== magic) {
    refuse('corrupt', 'ext_magic', 'Wrong parallels Format Extension magic', `0x${magic.toString(16)}`)
  }
  if (md5(bytes.subarray(sectionStart)).some((byte, i) => byte !== bytes[8 + i])) {
    refuse('corrupt', 'ext_md5', 'Wrong checksum in Format Extension header. Format extension is corrupted.', 'the MD5')
  }
  const bitmaps: StoredBitmap[] = []
  for (let at = sectionStart; at + 8 <= bytes.length; ) {
    const section = view.getBigUint64(at, true)
    if (section === 0n) break
    if (at + sectionHead > bytes.length)
      refuse('corrupt', 'section', 'a section passes the cluster', 'within the cluster')
    const flags = view.getBigUint64(at + 8, true)
    const length = view.getUint32(at + 16, true)
    const data = at + sectionHead
    if (data + length > bytes.length) refuse('corrupt', 'section', 'a section passes the cluster', 'within the cluster')
    if (section === bitmapMagic) bitmaps.push(readBitmap(file, header, bytes.subarray(0, data + length), data))
    else if ((flags & necessary) !== 0n) {
      refuse('unsupported', 'section', `unknown feature 0x${section.toString(16)} that is necessary`, 'known sections')
    }
    at = data + roundUp(length, 8)
  }
  return { offset, bytes, bitmaps }
}

function readBitmap(file: ByteSource, header: ParallelsHeader, bytes: Uint8Array, at: number): StoredBitmap {
  const refuse = (reason: string, rule: string): never => {
    throw parallelsFault(file.name, 'corrupt', `parallels: ${reason}`, { field: 'dirty bitmap', rule })
  }
  if (at + bitmapHead > bytes.length) refuse('Bitmap feature is too small', 'a header of 32 bytes')
  const view = viewOf(bytes)
  const size = u64le(view, at) * 512
  const granularity = view.getUint32(at + 24, true) * 512
  const count = view.getUint32(at + 28, true)
  const table = at + bitmapHead
  if (granularity < 512 || (granularity & (granularity - 1)) !== 0) {
    refuse('Bitmap granularity is invalid', 'a power of two of sectors')
  }
  if (!Number.isSafeInteger(size) || table + count * 8 > bytes.length) {
    refuse('Bitmap feature corrupted', 'an L1 table within its section')
  }
  const covered = header.clusterSize * 8 * granularity
  if (count !== Math.ceil(size / covered)) refuse('Bitmap L1 table has a wrong size', `${Math.ceil(size / covered)}`)
  const entries = Array.from({ length: count }, (_, i) => view.getBigUint64(table + i * 8, true))
  const id = Array.from(bytes.subarray(at + 8, at + 24), (byte) => byte.toString(16).padStart(2, '0')).join('')
  const name = [id.slice(0, 8), id.slice(8, 12), id.slice(12, 16), id.slice(16, 20), id.slice(20)].join('-')
  return { name, size, granularity, table, entries }
}

/** The clusters of bits that an extension names, as byte offsets. */
export function bitClusters({ bitmaps }: Extension): number[] {
  return bitmaps.flatMap(({ entries }) => entries.filter((entry) => entry > l1.set).map((entry) => Number(entry) * 512))
}

/** The bytes of an extension's cluster with the L1 tables as they are now, and the checksum over them. */
export function encodeExtension({ bytes, bitmaps }: Extension, allSet = false): Uint8Array {
  const copy = bytes.slice()
  const view = viewOf(copy)
  for (const { table, entries } of bitmaps) {
    for (const [i, entry] of entries.entries()) view.setBigUint64(table + i * 8, allSet ? l1.set : entry, true)
  }
  copy.set(md5(copy.subarray(sectionStart)), 8)
  return copy
}

/** The dirty bitmaps of an image. */
export class ParallelsBitmaps implements Bitmaps {
  readonly size: number
  readonly #file: ByteSource
  readonly #header: ParallelsHeader
  readonly #extension: Extension

  constructor(file: ByteSource, header: ParallelsHeader, extension: Extension) {
    this.#file = file
    this.#header = header
    this.#extension = extension
    this.size = header.diskSize
  }

  list(): readonly BitmapInfo[] {
    return this.#extension.bitmaps.map(({ name, granularity }) => ({
      name,
      granularity,
      enabled: true,
      inconsistent: false,
    }))
  }

  async *ranges(name: string, signal?: AbortSignal): AsyncIterable<DirtyRange[]> {
    const bitmap = this.#extension.bitmaps.find((known) => known.name === name)
    if (bitmap === undefined) {
      throw parallelsFault(this.#file.name, 'missing', `Bitmap '${name}' not found`, { field: 'bitmap', value: name })
    }
    const { granularity, entries } = bitmap
    const { clusterSize } = this.#header
    const end = Math.min(bitmap.size, this.size)
    let run: DirtyRange | undefined
    for (const [index, entry] of entries.entries()) {
      throwIfCancelled(signal, this.#file.name)
      const batch: DirtyRange[] = []
      const add = (offset: number, length: number): void => {
        const there = Math.min(length, end - offset)
        if (there <= 0) return
        if (run !== undefined && run.offset + run.length === offset) run.length += there
        else {
          if (run !== undefined) batch.push(run)
          run = { offset, length: there }
        }
      }
      const first = index * clusterSize * 8 * granularity
      if (entry === l1.set) add(first, clusterSize * 8 * granularity)
      else if (entry !== l1.clear) {
        const bits = await readBits(this.#file, this.#header, entry)
        for (let byte = 0; byte < bits.length; byte++) {
          const value = bits[byte] as number
          if (value === 0) continue
          if (value === 255) add(first + byte * 8 * granularity, 8 * granularity)
          else {
            for (let bit = 0; bit < 8; bit++) {
              if ((value & (1 << bit)) !== 0) add(first + (byte * 8 + bit) * granularity, granularity)
            }
          }
        }
      }
      if (batch.length > 0) yield batch
    }
    if (run !== undefined) yield [run]
  }
}

/** The cluster of bits of an L1 entry.
 *  @throws MoraineError `corrupt` when it lies outside the file. */
async function readBits(file: ByteSource, { clusterSize }: ParallelsHeader, entry: bigint): Promise<Uint8Array> {
  const offset = Number(entry) * 512
  if (offset >= file.size) {
    throw parallelsFault(file.name, 'corrupt', 'parallels: a cluster of a dirty bitmap lies outside the image', {
      field: 'dirty bitmap',
      value: entry,
      rule: `before byte ${file.size}`,
    })
  }
  const bits = new Uint8Array(clusterSize)
  await readPadded(file, offset, bits)
  return bits
}

/** Follows the writes of one opening. While it is open the file says that everything is dirty; when it is closed, what is. */
export class BitmapKeeper {
  readonly #store: ByteStore
  readonly #header: ParallelsHeader
  readonly #extension: Extension
  /** Guest ranges that were written, in clusters of the image: `[first, end)` by first. */
  readonly #written = new Set<number>()
  #begun = false

  constructor(store: ByteStore, header: ParallelsHeader, extension: Extension) {
    this.#store = store
    this.#header = header
    this.#extension = extension
  }

  /** Called before the first write of an opening. The caller flushes. */
  async begin(): Promise<void> {
    if (this.#begun || this.#extension.bitmaps.length === 0) return
    this.#begun = true
    await this.#store.write(this.#extension.offset, encodeExtension(this.#extension, true))
  }

  /** Notes a range of guest bytes that is about to change, in whole clusters of the image. */
  note(offset: number, length: number): void {
    if (this.#extension.bitmaps.length === 0 || length === 0) return
    const { clusterSize } = this.#header
    const end = Math.ceil((offset + length) / clusterSize)
    for (let cluster = Math.floor(offset / clusterSize); cluster < end; cluster++) this.#written.add(cluster)
  }

  /** Stores what was dirty before and what was noted. `take` gives a cluster of the file that reads as zeros, as a byte offset. */
  async end(take: () => Promise<number>): Promise<void> {
    if (!this.#begun) return
    const { clusterSize } = this.#header
    for (const { entries, granularity, size } of this.#extension.bitmaps) {
      const cover = clusterSize * 8 * granularity
      for (const index of entries.keys()) {
        if (entries[index] === l1.set) continue
        const first = index * cover
        const touched = [...this.#written].filter(
          (at) => at * clusterSize < first + cover && (at + 1) * clusterSize > first,
        )
        if (touched.length === 0) continue
        const old = entries[index] ?? l1.clear
        const bits = old === l1.clear ? new Uint8Array(clusterSize) : await readBits(this.#store, this.#header, old)
        for (const at of touched) {
          const from = Math.max(0, Math.floor((at * clusterSize - first) / granularity))
          const to = Math.ceil((Math.min((at + 1) * clusterSize, first + cover, size) - first) / granularity)
          for (let bit = from; bit < to; bit++) bits[bit >>> 3] = (bits[bit >>> 3] as number) | (1 << (bit & 7))
        }
        const place = old === l1.clear ? await take() : Number(old) * 512
        if (place % 512 !== 0)
          throw new MoraineError('corrupt', 'a cluster off the sectors', { path: this.#store.name })
        await this.#store.write(place, bits)
        entries[index] = BigInt(place / 512)
      }
    }
    await this.#store.flush()
    await this.#store.write(this.#extension.offset, encodeExtension(this.#extension))
    this.#written.clear()
    this.#begun = false
  }
}

/** For tests and tools: the bytes of an extension's cluster with one bitmap. `id` has 16 bytes, sizes are bytes. */
export function newExtension(
  clusterSize: number,
  bitmap: { id: Uint8Array; size: number; granularity: number; entries: readonly bigint[] },
): Uint8Array {
  const bytes = new Uint8Array(clusterSize)
  const view = viewOf(bytes)
  view.setBigUint64(0, magic, true)
  view.setBigUint64(sectionStart, bitmapMagic, true)
  view.setUint32(sectionStart + 16, bitmapHead + bitmap.entries.length * 8, true)
  const at = sectionStart + sectionHead
  setU64le(view, at, bitmap.size / 512)
  bytes.set(bitmap.id, at + 8)
  view.setUint32(at + 24, bitmap.granularity / 512, true)
  view.setUint32(at + 28, bitmap.entries.length, true)
  for (const [i, entry] of bitmap.entries.entries()) view.setBigUint64(at + bitmapHead + i * 8, entry, true)
  bytes.set(md5(bytes.subarray(sectionStart)), 8)
  return bytes
}
