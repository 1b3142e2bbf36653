/** The bytes of a qcow2 image with its places named, to be bent by tests. Offsets and names are those of QEMU's docs/interop/qcow2.txt. */
import { writeFileSync } from 'node:fs'

/** Header fields: offset and bytes. */
export const headerFields = {
  magic: [0, 4],
  version: [4, 4],
  backing_file_offset: [8, 8],
  backing_file_size: [16, 4],
  cluster_bits: [20, 4],
  size: [24, 8],
  crypt_method: [32, 4],
  l1_size: [36, 4],
  l1_table_offset: [40, 8],
  refcount_table_offset: [48, 8],
  refcount_table_clusters: [56, 4],
  nb_snapshots: [60, 4],
  snapshots_offset: [64, 8],
  incompatible_features: [72, 8],
  compatible_features: [80, 8],
  autoclear_features: [88, 8],
  refcount_order: [96, 4],
  header_length: [100, 4],
  compression_type: [104, 1],
} as const

/** A header field's name. */
export type HeaderField = keyof typeof headerFields

/** Where things lie, as byte offsets. */
export interface Places {
  l1: number
  l1Size: number
  /** L2 tables of the active disk by L1 index. */
  l2: Record<number, number>
  refcountTable: number
  refcountTableClusters: number
  refcountBlocks: number[]
  snapshotTable: number
  snapshotEntries: number[]
  bitmapDirectory: number
  bitmapDirectoryBytes: number
  bitmapEntries: number[]
  bitmapTables: number[]
  /** Header extensions by type: where their type field stands. */
  extensions: Record<number, number>
  /** Where the end marker stands. */
  extensionsEnd: number
}

/** An image in memory. */
export class Qcow2Image {
  bytes = new Uint8Array(0)
  readonly clusterSize: number
  readonly order: number
  readonly extendedL2: boolean
  readonly at: Places = {
    l1: 0,
    l1Size: 0,
    l2: {},
    refcountTable: 0,
    refcountTableClusters: 0,
    refcountBlocks: [],
    snapshotTable: 0,
    snapshotEntries: [],
    bitmapDirectory: 0,
    bitmapDirectoryBytes: 0,
    bitmapEntries: [],
    bitmapTables: [],
    extensions: {},
    extensionsEnd: 0,
  }
  /** What an external data file holds, by byte offset. */
  readonly dataFile = new Map<number, Uint8Array>()
  private room = new Uint8Array(0)

  constructor(clusterBits: number, order: number, extendedL2: boolean) {
    this.clusterSize = 1 << clusterBits
    this.order = order
    this.extendedL2 = extendedL2
  }

  /** Makes the image at least this long. */
  grow(length: number): void {
    if (length <= this.bytes.length) return
    if (length > this.room.length) {
      const room = new Uint8Array(Math.max(length, this.room.length * 2))
      room.set(this.bytes)
      this.room = room
    }
    this.bytes = this.room.subarray(0, length)
  }

  private get view(): DataView {
    return new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength)
  }

  getU32(offset: number): number {
    return this.view.getUint32(offset)
  }

  setU32(offset: number, value: number): this {
    this.view.setUint32(offset, value)
    return this
  }

  getU64(offset: number): bigint {
    return this.view.getBigUint64(offset)
  }

  setU64(offset: number, value: bigint): this {
    this.view.setBigUint64(offset, value)
    return this
  }

  setU16(offset: number, value: number): this {
    this.view.setUint16(offset, value)
    return this
  }

  /** Sets a header field. */
  set(field: HeaderField, value: bigint): this {
    const [offset, size] = headerFields[field]
    if (size === 8) this.setU64(offset, value)
    else if (size === 4) this.setU32(offset, Number(value))
    else this.bytes[offset] = Number(value)
    return this
  }

  /** A header field's value. */
  get(field: HeaderField): bigint {
    const [offset, size] = headerFields[field]
    if (size === 8) return this.getU64(offset)
    return size === 4 ? BigInt(this.getU32(offset)) : BigInt(this.bytes[offset] ?? 0)
  }

  /** Where the L2 entry of a guest cluster stands. */
  l2At(guestCluster: number): number {
    const width = this.extendedL2 ? 16 : 8
    const perTable = this.clusterSize / width
    const table = this.at.l2[Math.floor(guestCluster / perTable)]
    if (table === undefined) throw new Error(`guest cluster ${guestCluster} has no L2 table`)
    return table + (guestCluster % perTable) * width
  }

  /** The stored reference count of a host cluster. */
  getCount(cluster: number): bigint {
    const { byte, bit, width } = this.countAt(cluster)
    if (width < 8) return BigInt(((this.bytes[byte] ?? 0) >> bit) & ((1 << width) - 1))
    let value = 0n
    for (let i = 0; i < width / 8; i++) value = (value << 8n) | BigInt(this.bytes[byte + i] ?? 0)
    return value
  }

  /** Sets the stored reference count of a host cluster. */
  setCount(cluster: number, count: bigint): this {
    const { byte, bit, width } = this.countAt(cluster)
    if (count >= 1n << BigInt(width)) throw new Error(`a count of ${count} does not fit in ${width} bits`)
    if (width < 8) {
      const mask = ((1 << width) - 1) << bit
      this.bytes[byte] = ((this.bytes[byte] ?? 0) & ~mask) | (Number(count) << bit)
    } else {
      for (let i = 0; i < width / 8; i++) this.bytes[byte + i] = Number((count >> BigInt(width - 8 - i * 8)) & 0xffn)
    }
    return this
  }

  private countAt(cluster: number): { byte: number; bit: number; width: number } {
    const width = 1 << this.order
    const perBlock = (this.clusterSize * 8) / width
    const block = this.at.refcountBlocks[Math.floor(cluster / perBlock)]
    if (block === undefined) throw new Error(`cluster ${cluster} has no refcount block`)
    const bits = (cluster % perBlock) * width
    return { byte: block + Math.floor(bits / 8), bit: bits % 8, width }
  }

  /** Drops everything from `length` on. */
  cut(length: number): this {
    this.bytes = this.bytes.subarray(0, length)
    return this
  }

  /** Writes the image, and its external data file where it has one. */
  save(path: string, dataFile?: string): void {
    writeFileSync(path, this.bytes)
    if (dataFile === undefined) return
    let length = 0
    for (const [offset, bytes] of this.dataFile) length = Math.max(length, offset + bytes.length)
    const data = new Uint8Array(length)
    for (const [offset, bytes] of this.dataFile) data.set(bytes, offset)
    writeFileSync(dataFile, data)
  }
}
