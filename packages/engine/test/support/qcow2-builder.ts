/** Builds qcow2 images byte by byte, from the published layout alone (QEMU's docs/interop/qcow2.txt): an independent maker, so that
 *  the engine's reader is not tested against the engine's own idea of the format. Everything can be bent afterwards with `Qcow2Image`. */
import { deflateRawSync, zstdCompressSync } from 'node:zlib'
import { Qcow2Image } from './qcow2-image.ts'
import {
  type BitmapSpec,
  type ClusterSpec,
  type Clusters,
  featureTable,
  fill,
  type Qcow2Spec,
  type SnapshotSpec,
  usualNames,
} from './qcow2-spec.ts'

const copied = 1n << 63n
const text = new TextEncoder()

/** Builds an image. */
export function buildQcow2(spec: Qcow2Spec = {}): Qcow2Image {
  let table = 1
  let blocks = 1
  for (;;) {
    const layout = new Layout(spec, table, blocks)
    const image = layout.build()
    const needBlocks = Math.ceil(layout.used / layout.perBlock)
    const needTable = Math.ceil((needBlocks * 8) / layout.clusterSize)
    if (needBlocks <= blocks && needTable <= table) return image
    blocks = Math.max(blocks, needBlocks)
    table = Math.max(table, needTable)
  }
}

class Layout {
  readonly spec: Qcow2Spec
  readonly version: number
  readonly clusterBits: number
  readonly clusterSize: number
  readonly perBlock: number
  readonly perL2: number
  readonly order: number
  readonly image: Qcow2Image
  /** Clusters in use; the next one is free. */
  used: number
  /** Reference counts by cluster. */
  readonly counts = new Map<number, number>()
  private packedAt = 0
  private packedRoom = 0

  constructor(spec: Qcow2Spec, tableClusters: number, blocks: number) {
    this.spec = spec
    this.version = spec.version ?? 3
    this.clusterBits = spec.clusterBits ?? 16
    this.clusterSize = 1 << this.clusterBits
    this.order = spec.refcountOrder ?? 4
    this.perBlock = (this.clusterSize * 8) / (1 << this.order)
    this.perL2 = this.clusterSize / (spec.extendedL2 ? 16 : 8)
    this.image = new Qcow2Image(this.clusterBits, this.order, spec.extendedL2 === true)
    this.used = 1
    this.count(0, 1)
    this.image.at.refcountTable = this.take(tableClusters)
    this.image.at.refcountTableClusters = tableClusters
    for (let i = 0; i < blocks; i++) this.image.at.refcountBlocks.push(this.take(1))
  }

  build(): Qcow2Image {
    const { spec, image } = this
    const size = Number(spec.size ?? 1n << 20n)
    const perL1 = this.clusterSize * this.perL2
    const l1Size = spec.l1Size ?? Math.ceil(size / perL1)
    const active = this.mapping(spec.clusters ?? {}, l1Size)
    image.at.l1 = active.l1
    image.at.l1Size = l1Size
    image.at.l2 = active.l2
    const snapshots = (spec.snapshots ?? []).map((snapshot) => this.snapshot(snapshot, active, l1Size))
    if (snapshots.length > 0) this.snapshotTable(snapshots, size)
    if (spec.bitmaps !== undefined) this.bitmaps(spec.bitmaps)
    image.grow(this.used * this.clusterSize)
    this.setCopied(active)
    this.writeCounts()
    this.header(size, l1Size)
    return image
  }

  private take(clusters: number): number {
    const offset = this.used * this.clusterSize
    for (let i = 0; i < clusters; i++) this.count(this.used + i, 1)
    this.used += clusters
    this.image.grow(this.used * this.clusterSize)
    return offset
  }

  private count(cluster: number, by: number): void {
    this.counts.set(cluster, (this.counts.get(cluster) ?? 0) + by)
  }

  /** Lays out one L1 with its L2 tables and data. */
  private mapping(clusters: Clusters, l1Size: number): Mapping {
    const { image } = this
    const l1 = l1Size === 0 ? 0 : this.take(Math.ceil((l1Size * 8) / this.clusterSize))
    const l2: Record<number, number> = {}
    const hosts: number[] = []
    for (const [key, cluster] of Object.entries(clusters)) {
      const guest = Number(key)
      const index = Math.floor(guest / this.perL2)
      let table = l2[index]
      if (table === undefined) {
        table = this.take(1)
        l2[index] = table
        image.setU64(l1 + index * 8, BigInt(table))
      }
      const width = this.spec.extendedL2 ? 16 : 8
      const at = table + (guest % this.perL2) * width
      const { entry, bitmap } = this.entry(guest, cluster, hosts)
      image.setU64(at, entry)
      if (this.spec.extendedL2) image.setU64(at + 8, bitmap)
    }
    return { l1, l2, hosts }
  }

  private entry(guest: number, cluster: ClusterSpec, hosts: number[]): { entry: bigint; bitmap: bigint } {
    const all = 0xffff_ffffn
    const store = (bytes: Uint8Array | number, at?: number): bigint => {
      if (this.spec.dataFile !== undefined) {
        this.image.dataFile.set(guest * this.clusterSize, fill(bytes, this.clusterSize))
        return BigInt(guest * this.clusterSize) | copied
      }
      const host = at ?? this.take(1)
      this.image.grow(host + this.clusterSize)
      this.image.bytes.set(fill(bytes, this.clusterSize), host)
      if (at === undefined) hosts.push(host)
      return BigInt(host)
    }
    switch (cluster.kind) {
      case 'data':
        return { entry: store(cluster.bytes, cluster.at), bitmap: all }
      case 'zero':
        return this.spec.extendedL2 ? { entry: 0n, bitmap: all << 32n } : { entry: 1n, bitmap: 0n }
      case 'zero-allocated':
        return this.spec.extendedL2
          ? { entry: store(cluster.bytes), bitmap: all << 32n }
          : { entry: store(cluster.bytes) | 1n, bitmap: 0n }
      case 'subclusters':
        return {
          entry: cluster.bytes === undefined ? 0n : store(cluster.bytes),
          bitmap: BigInt(cluster.alloc >>> 0) | (BigInt(cluster.zero >>> 0) << 32n),
        }
      case 'compressed':
        return { entry: this.packed(fill(cluster.bytes, this.clusterSize), hosts), bitmap: 0n }
      case 'entry':
        return { entry: cluster.entry, bitmap: cluster.bitmap ?? 0n }
    }
  }

  /** Packs a cluster directly after the one before, so that clusters share host clusters. */
  private packed(bytes: Uint8Array, hosts: number[]): bigint {
    const stream =
      this.spec.compression === 'zstd'
        ? zstdCompressSync(bytes)
        : deflateRawSync(bytes, { windowBits: 12, memLevel: 9 })
    if (stream.length >= this.clusterSize) throw new Error('this content does not pack')
    if (this.packedRoom < stream.length || this.order < 3) {
      this.packedAt = this.used * this.clusterSize
      this.packedRoom = this.clusterSize
      this.used++
      this.image.grow(this.used * this.clusterSize)
    }
    const offset = this.packedAt
    this.image.bytes.set(stream, offset)
    this.packedAt += stream.length
    this.packedRoom -= stream.length
    const sectors = Math.floor((offset + stream.length - 1) / 512) - Math.floor(offset / 512)
    const first = Math.floor(offset / this.clusterSize)
    const last = Math.floor((Math.floor(offset / 512) * 512 + sectors * 512 + 511) / this.clusterSize)
    for (let k = first; k <= last; k++) {
      this.count(k, 1)
      hosts.push(-1 - k)
    }
    const shift = BigInt(62 - (this.clusterBits - 8))
    return (1n << 62n) | (BigInt(sectors) << shift) | BigInt(offset)
  }

  private snapshot(
    spec: SnapshotSpec,
    active: Mapping,
    l1Size: number,
  ): { spec: SnapshotSpec; l1: number; l1Size: number } {
    if (spec.clusters !== 'share') {
      const own = this.mapping(spec.clusters, l1Size)
      return { spec, l1: own.l1, l1Size }
    }
    const l1 = l1Size === 0 ? 0 : this.take(Math.ceil((l1Size * 8) / this.clusterSize))
    for (const [index, table] of Object.entries(active.l2)) {
      this.image.setU64(l1 + Number(index) * 8, BigInt(table))
      this.count(table / this.clusterSize, 1)
    }
    for (const host of active.hosts) this.count(host < 0 ? -1 - host : host / this.clusterSize, 1)
    return { spec, l1, l1Size }
  }

  private snapshotTable(list: { spec: SnapshotSpec; l1: number; l1Size: number }[], size: number): void {
    const { image } = this
    const parts: Uint8Array[] = []
    for (const { spec, l1, l1Size } of list) {
      const id = text.encode(spec.id)
      const name = text.encode(spec.name)
      const extra = spec.extraSize ?? 24
      const bytes = new Uint8Array(Math.ceil((40 + extra + id.length + name.length) / 8) * 8)
      const view = new DataView(bytes.buffer)
      view.setBigUint64(0, BigInt(l1))
      view.setUint32(8, l1Size)
      view.setUint16(12, id.length)
      view.setUint16(14, name.length)
      view.setUint32(16, spec.seconds ?? 1_700_000_000)
      view.setUint32(20, spec.nanoseconds ?? 5)
      view.setBigUint64(24, spec.vmClock ?? 0n)
      view.setUint32(32, Number((spec.vmStateSize ?? 0n) & 0xffff_ffffn))
      view.setUint32(36, extra)
      if (extra >= 8) view.setBigUint64(40, spec.vmStateSize ?? 0n)
      if (extra >= 16) view.setBigUint64(48, spec.diskSize ?? BigInt(size))
      if (extra >= 24) view.setBigInt64(56, spec.icount ?? -1n)
      bytes.set(id, 40 + extra)
      bytes.set(name, 40 + extra + id.length)
      parts.push(bytes)
    }
    const length = parts.reduce((sum, part) => sum + part.length, 0)
    let at = this.take(Math.ceil(length / this.clusterSize))
    image.at.snapshotTable = at
    for (const part of parts) {
      image.at.snapshotEntries.push(at)
      image.bytes.set(part, at)
      at += part.length
    }
  }

  private bitmaps(list: BitmapSpec[]): void {
    const { image } = this
    const entries = list.map((bitmap) => {
      const table = this.take(Math.max(1, Math.ceil((bitmap.table.length * 8) / this.clusterSize)))
      bitmap.table.forEach((item, i) => {
        let entry = item === 'ones' ? 1n : 0n
        if (item instanceof Uint8Array) {
          const data = this.take(1)
          image.bytes.set(item, data)
          entry = BigInt(data)
        }
        image.setU64(table + i * 8, entry)
      })
      image.at.bitmapTables.push(table)
      const name = text.encode(bitmap.name)
      const bytes = new Uint8Array(Math.ceil((24 + name.length) / 8) * 8)
      const view = new DataView(bytes.buffer)
      view.setBigUint64(0, BigInt(table))
      view.setUint32(8, bitmap.table.length)
      view.setUint32(12, bitmap.flags)
      view.setUint8(16, bitmap.type ?? 1)
      view.setUint8(17, bitmap.granularityBits)
      view.setUint16(18, name.length)
      bytes.set(name, 24)
      return bytes
    })
    const length = entries.reduce((sum, part) => sum + part.length, 0)
    let at = this.take(Math.max(1, Math.ceil(length / this.clusterSize)))
    image.at.bitmapDirectory = at
    image.at.bitmapDirectoryBytes = length
    for (const entry of entries) {
      image.at.bitmapEntries.push(at)
      image.bytes.set(entry, at)
      at += entry.length
    }
  }

  private setCopied(active: Mapping): void {
    const { image } = this
    for (const [index, table] of Object.entries(active.l2)) {
      if (this.counts.get(table / this.clusterSize) === 1)
        image.setU64(active.l1 + Number(index) * 8, BigInt(table) | copied)
    }
    if (this.spec.dataFile !== undefined) return
    for (const [key, cluster] of Object.entries(this.spec.clusters ?? {})) {
      if (cluster.kind === 'entry' || cluster.kind === 'compressed') continue
      const at = image.l2At(Number(key))
      const entry = image.getU64(at)
      const host = Number(entry & 0x00ff_ffff_ffff_fe00n)
      if (host !== 0 && this.counts.get(host / this.clusterSize) === 1) image.setU64(at, entry | copied)
    }
  }

  private writeCounts(): void {
    const { image } = this
    image.at.refcountBlocks.forEach((block, i) => {
      image.setU64(image.at.refcountTable + i * 8, BigInt(block))
    })
    for (const [cluster, count] of this.counts) {
      if (Math.floor(cluster / this.perBlock) < image.at.refcountBlocks.length) image.setCount(cluster, BigInt(count))
    }
  }

  private header(size: number, l1Size: number): void {
    const { image, spec } = this
    const v3 = this.version >= 3
    const length = v3 ? (spec.headerLength ?? 112) : 72
    image.bytes.set([0x51, 0x46, 0x49, 0xfb])
    image.set('version', BigInt(this.version))
    image.set('cluster_bits', BigInt(this.clusterBits))
    image.set('size', spec.size ?? BigInt(size))
    image.set('l1_size', BigInt(l1Size))
    image.set('l1_table_offset', BigInt(image.at.l1))
    image.set('refcount_table_offset', BigInt(image.at.refcountTable))
    image.set('refcount_table_clusters', BigInt(image.at.refcountTableClusters))
    image.set('nb_snapshots', BigInt(spec.snapshots?.length ?? 0))
    image.set('snapshots_offset', BigInt(image.at.snapshotTable))
    if (v3) {
      let incompatible = spec.incompatible ?? 0n
      if (spec.dataFile !== undefined) incompatible |= 4n
      if (spec.compression === 'zstd') incompatible |= 8n
      if (spec.extendedL2) incompatible |= 16n
      let autoclear = spec.autoclear ?? 0n
      if (spec.bitmaps !== undefined) autoclear |= 1n
      if (spec.dataFile?.raw) autoclear |= 2n
      image.set('incompatible_features', incompatible)
      image.set('compatible_features', spec.compatible ?? 0n)
      image.set('autoclear_features', autoclear)
      image.set('refcount_order', BigInt(this.order))
      image.set('header_length', BigInt(length))
      if (length > 104) image.bytes[104] = spec.compression === 'zstd' ? 1 : 0
    }
    const extensions: { type: number; data: Uint8Array }[] = []
    if (spec.backing?.format !== undefined)
      extensions.push({ type: 0xe2792aca, data: text.encode(spec.backing.format) })
    if (spec.dataFile?.name !== undefined) extensions.push({ type: 0x44415441, data: text.encode(spec.dataFile.name) })
    const names = spec.featureNames ?? (v3 && this.clusterSize > 4096 ? usualNames : false)
    if (names !== false) extensions.push({ type: 0x6803f857, data: featureTable(names) })
    if (spec.bitmaps !== undefined)
      extensions.push({ type: 0x23852875, data: this.bitmapsExtension(spec.bitmaps.length) })
    extensions.push(...(spec.extensions ?? []))
    let at = length
    for (const { type, data } of extensions) {
      image.at.extensions[type] = at
      image.setU32(at, type)
      image.setU32(at + 4, data.length)
      image.bytes.set(data, at + 8)
      at += 8 + Math.ceil(data.length / 8) * 8
    }
    image.at.extensionsEnd = at
    at += 8
    if (spec.backing !== undefined) {
      const name = typeof spec.backing.name === 'string' ? text.encode(spec.backing.name) : spec.backing.name
      image.bytes.set(name, at)
      image.set('backing_file_offset', BigInt(at))
      image.set('backing_file_size', BigInt(name.length))
      at += name.length
    }
    if (at > this.clusterSize) throw new Error('the header does not fit in its cluster')
  }

  private bitmapsExtension(count: number): Uint8Array {
    const data = new Uint8Array(24)
    const view = new DataView(data.buffer)
    view.setUint32(0, count)
    view.setBigUint64(8, BigInt(this.image.at.bitmapDirectoryBytes))
    view.setBigUint64(16, BigInt(this.image.at.bitmapDirectory))
    return data
  }
}

interface Mapping {
  l1: number
  l2: Record<number, number>
  /** Host offsets of plain clusters; −1 − k for each host cluster k that a packed one touches. */
  hosts: number[]
}
