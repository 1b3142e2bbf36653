/** Malformed L1, L2 and refcount tables, and files cut short. */
import { deflateRawSync, zstdCompressSync } from 'node:zlib'
import { buildQcow2 } from '../../support/qcow2-builder.ts'
import type { Qcow2Image } from '../../support/qcow2-image.ts'
import { bent, extended, plain, type Refusal, type Row } from './row.ts'

const copied = 1n << 63n
const packedFlag = 1n << 62n

const l1: Refusal = ['corrupt', 'L1 entry']
const l2: Refusal = ['corrupt', 'L2 entry']

/** The first L1 entry changed. */
function withL1(change: (entry: bigint, image: Qcow2Image) => bigint, spec = plain): Row['make'] {
  return bent((image) => image.setU64(image.at.l1, change(image.getU64(image.at.l1), image)), spec)
}

/** The L2 entry of a guest cluster changed. */
function withL2(cluster: number, change: (entry: bigint, image: Qcow2Image) => bigint, spec = plain): Row['make'] {
  return bent((image) => {
    const at = image.l2At(cluster)
    image.setU64(at, change(image.getU64(at), image))
  }, spec)
}

/** The first entry of the refcount table changed. */
function withRefcountTable(change: (entry: bigint, image: Qcow2Image) => bigint): Row['make'] {
  return bent((image) => image.setU64(image.at.refcountTable, change(image.getU64(image.at.refcountTable), image)))
}

const l1Rows: Row[] = [
  { name: 'L1 entry with reserved low bits', make: withL1((entry) => entry | 0x1ffn) },
  { name: 'L1 entry with reserved high bits', make: withL1((entry) => entry | (0x7fn << 56n)) },
  { name: 'L1 entry that is not aligned to a cluster', make: withL1((entry) => entry + 512n), read: l1 },
  { name: 'L1 entry past the end of the file', make: withL1(() => copied | (1n << 40n)) },
  {
    name: 'L1 entry at the top of its 56 bits',
    make: withL1(() => copied | (((1n << 56n) - 1n) & ~0xfffn)),
  },
  { name: 'L1 entry at 2^53', make: withL1(() => copied | (1n << 53n)) },
  { name: 'L1 entry that is COPIED and 0', make: withL1(() => copied) },
  { name: 'L1 entry without COPIED', make: withL1((entry) => entry & ~copied) },
  {
    name: 'L1 table in the header',
    make: bent((image) => image.set('l1_table_offset', 0n)),
  },
  { name: 'L1 entry that points at the L1 table', make: withL1((_, image) => BigInt(image.at.l1) | copied) },
  {
    name: 'L1 entry that points at the refcount table',
    make: withL1((_, image) => BigInt(image.at.refcountTable) | copied),
  },
  {
    name: 'L1 entry that points at a refcount block',
    make: withL1((_, image) => BigInt(image.at.refcountBlocks[0] ?? 0) | copied),
  },
  {
    name: 'two L1 entries that share one L2 table',
    make: bent((image) => image.set('size', 4n << 20n).setU64(image.at.l1 + 8, image.getU64(image.at.l1)), {
      ...plain,
      l1Size: 2,
    }),
  },
  {
    name: 'an L1 table of 512 entries that share one L2 table',
    make: bent(
      (image) => {
        for (let i = 0; i < 512; i++) image.setU64(image.at.l1 + i * 8, image.getU64(image.at.l1) & ~copied)
        image.set('size', 16n << 20n)
      },
      { ...plain, clusterBits: 12, l1Size: 512 },
    ),
  },
]

const l2Rows: Row[] = [
  { name: 'L2 entry that is not aligned to a cluster', make: withL2(0, (entry) => entry + 512n), read: l2 },
  { name: 'L2 zero entry that is not aligned to a cluster', make: withL2(3, (entry) => entry + 512n), read: l2 },
  { name: 'L2 entry with reserved low bits', make: withL2(0, (entry) => entry | 0x1fen) },
  { name: 'L2 entry with reserved high bits', make: withL2(0, (entry) => entry | (0x3fn << 56n)) },
  { name: 'L2 entry past the end of the file', make: withL2(0, () => copied | (1n << 40n)) },
  {
    name: 'L2 entry at the top of its 56 bits',
    make: withL2(0, () => copied | (((1n << 56n) - 1n) & ~0xfffn)),
  },
  { name: 'L2 entry that is COPIED and 0', make: withL2(0, () => copied) },
  { name: 'L2 entry without COPIED', make: withL2(0, (entry) => entry & ~copied) },
  { name: 'L2 entry that points at the header', make: withL2(0, () => 0n) },
  {
    name: 'L2 entry that points at its own table',
    make: withL2(0, (_, image) => BigInt(image.at.l2[0] ?? 0) | copied),
  },
  { name: 'L2 entry that points at the L1 table', make: withL2(0, (_, image) => BigInt(image.at.l1) | copied) },
  {
    name: 'L2 entry that points at the refcount table',
    make: withL2(0, (_, image) => BigInt(image.at.refcountTable) | copied),
  },
  {
    name: 'L2 entry that points at a refcount block',
    make: withL2(0, (_, image) => BigInt(image.at.refcountBlocks[0] ?? 0) | copied),
  },
  { name: 'two L2 entries that share one cluster', make: withL2(5, (_, image) => image.getU64(image.l2At(0))) },
  {
    name: 'an L2 table in which every entry shares one cluster',
    make: bent((image) => {
      for (let i = 0; i < 256; i++) image.setU64(image.l2At(i), image.getU64(image.l2At(0)))
    }),
  },
  {
    name: 'zero flag in a version 2 image',
    make: withL2(0, (entry) => entry | 1n, { ...plain, version: 2, clusters: { 0: { kind: 'data', bytes: 1 } } }),
    read: l2,
  },
  {
    name: 'plain zero flag in a version 2 image',
    make: withL2(1, () => 1n, { ...plain, version: 2, clusters: { 0: { kind: 'data', bytes: 1 } } }),
    read: l2,
  },
]

/** The L2 entry of a packed cluster with its offset and length in sectors replaced; 4 KiB clusters. */
function packed(offset: bigint, sectors: bigint): bigint {
  return packedFlag | (sectors << 58n) | offset
}

/** A packed cluster whose stream is replaced. */
function withStream(stream: (image: Qcow2Image) => Uint8Array, compression: 'zlib' | 'zstd' = 'zlib'): Row['make'] {
  return bent(
    (image) => {
      const bytes = stream(image)
      const host = image.bytes.length
      image.grow(host + 4096)
      image.bytes.fill(0, host)
      image.bytes.set(bytes, host)
      image.setU64(image.l2At(1), packed(BigInt(host), BigInt(Math.floor((bytes.length - 1) / 512))))
      image.setCount(host / 4096, 1n)
    },
    { ...plain, compression },
  )
}

const cluster = new Uint8Array(4096).map((_, i) => (i % 251) ^ (i >> 8))
const deflated = deflateRawSync(cluster, { windowBits: 12 })
const zstd = zstdCompressSync(cluster)
const badStream: Refusal = ['corrupt', 'compressed cluster']

const packedRows: Row[] = [
  { name: 'packed cluster with COPIED', make: withL2(1, (entry) => entry | copied) },
  { name: 'packed cluster at 0', make: withL2(1, () => packed(0n, 0n)), read: badStream, map: 'works' },
  { name: 'packed cluster inside the header', make: withL2(1, () => packed(100n, 1n)), read: badStream, map: 'works' },
  {
    name: 'packed cluster past the end of the file',
    make: withL2(1, () => packed(1n << 40n, 1n)),
    read: badStream,
    map: 'works',
  },
  {
    name: 'packed cluster that ends past the end of the file',
    make: bent((image) => image.cut(image.bytes.length - 4096), {
      ...plain,
      clusters: { 0: { kind: 'data', bytes: 1 }, 1: { kind: 'compressed', bytes: cluster } },
    }),
    read: badStream,
    map: 'works',
  },
  {
    name: 'packed cluster with an offset past 2^56',
    make: withL2(1, () => packed(1n << 57n, 1n)),
    read: badStream,
    map: 'works',
  },
  {
    name: 'packed cluster of noise',
    make: withStream(() => new Uint8Array(600).fill(0xff)),
    read: badStream,
    map: 'works',
  },
  {
    name: 'packed cluster that is cut',
    make: withStream(() => deflated.subarray(0, 40)),
    read: badStream,
    map: 'works',
  },
  {
    name: 'packed cluster that holds half a cluster',
    make: withStream(() => deflateRawSync(cluster.subarray(0, 2048))),
    read: badStream,
    map: 'works',
  },
  {
    name: 'packed cluster that holds two clusters',
    make: withStream(() => deflateRawSync(new Uint8Array(8192).fill(7), { windowBits: 12 })),
  },
  {
    name: 'packed cluster followed by noise',
    make: withStream(() => new Uint8Array([...deflated, ...Array(90).fill(0xa5)])),
  },
  { name: 'packed cluster of a 32 KiB window', make: withStream(() => deflateRawSync(cluster)) },
  {
    name: 'zstd cluster of noise',
    make: withStream(() => new Uint8Array(600).fill(0xff), 'zstd'),
    read: badStream,
    map: 'works',
  },
  {
    name: 'zstd cluster that is cut',
    make: withStream(() => zstd.subarray(0, 40), 'zstd'),
    read: badStream,
    map: 'works',
  },
  {
    name: 'zstd cluster that holds half a cluster',
    make: withStream(() => zstdCompressSync(cluster.subarray(0, 2048)), 'zstd'),
    read: badStream,
    map: 'works',
  },
  {
    name: 'zstd cluster that holds two clusters',
    make: withStream(() => zstdCompressSync(new Uint8Array(8192).fill(7)), 'zstd'),
    differs: { read: 'decoding stops when the cluster is full; QEMU wants the frame to end there' },
  },
  {
    name: 'zstd cluster of two frames',
    make: withStream(
      () =>
        new Uint8Array([...zstdCompressSync(cluster.subarray(0, 2048)), ...zstdCompressSync(cluster.subarray(2048))]),
      'zstd',
    ),
  },
  {
    name: 'zstd cluster followed by noise',
    make: withStream(() => new Uint8Array([...zstd, ...Array(90).fill(0xa5)]), 'zstd'),
  },
  { name: 'deflate in an image of zstd', make: withStream(() => deflated, 'zstd'), read: badStream, map: 'works' },
  { name: 'zstd in an image of deflate', make: withStream(() => zstd), read: badStream, map: 'works' },
  {
    name: 'packed cluster of a bomb (1 MiB from 1 KiB)',
    make: withStream(() => deflateRawSync(new Uint8Array(1 << 20))),
  },
]

/** The bitmap of the L2 entry of a guest cluster, with extended entries. */
function withBitmap(guest: number, bitmap: bigint): Row['make'] {
  return bent((image) => image.setU64(image.l2At(guest) + 8, bitmap), extended)
}

const extendedRows: Row[] = [
  { name: 'subclusters that are allocated and zero', make: withBitmap(0, 0x0000_0001_ffff_ffffn), read: l2 },
  { name: 'allocated subclusters of an unallocated cluster', make: withBitmap(5, 1n), read: l2 },
  { name: 'zero subclusters of an unallocated cluster', make: withBitmap(5, 0x0f0f_0000_0000n) },
  { name: 'a packed cluster with a subcluster bitmap', make: withBitmap(2, 1n) },
  { name: 'the zero flag in an extended L2 entry', make: withL2(0, (entry) => entry | 1n, extended) },
]

const refcountRows: Row[] = [
  { name: 'refcount table entry that is not aligned', make: withRefcountTable((entry) => entry + 512n) },
  { name: 'refcount table entry with reserved bits', make: withRefcountTable((entry) => entry | 0x1ffn) },
  { name: 'refcount table entry past the end of the file', make: withRefcountTable(() => 1n << 40n) },
  { name: 'refcount table entry at 2^63', make: withRefcountTable(() => 1n << 63n) },
  { name: 'refcount table entry 0', make: withRefcountTable(() => 0n) },
  {
    name: 'refcount block that is the refcount table',
    make: withRefcountTable((_, image) => BigInt(image.at.refcountTable)),
  },
  { name: 'refcount block that is the L2 table', make: withRefcountTable((_, image) => BigInt(image.at.l2[0] ?? 0)) },
  {
    name: 'two refcount table entries with one block',
    make: bent((image) => image.setU64(image.at.refcountTable + 8, image.getU64(image.at.refcountTable))),
  },
  {
    name: 'all counts 0',
    make: bent((image) => image.bytes.fill(0, image.at.refcountBlocks[0], (image.at.refcountBlocks[0] ?? 0) + 4096)),
  },
  {
    name: 'all counts 65535',
    make: bent((image) => image.bytes.fill(0xff, image.at.refcountBlocks[0], (image.at.refcountBlocks[0] ?? 0) + 4096)),
  },
  {
    name: 'a data cluster counted 0',
    make: bent((image) => image.setCount(Number(image.getU64(image.l2At(0)) & 0xff_ffff_f000n) / 4096, 0n)),
  },
  {
    name: 'a data cluster counted 2',
    make: bent((image) => image.setCount(Number(image.getU64(image.l2At(0)) & 0xff_ffff_f000n) / 4096, 2n)),
  },
  { name: 'the L1 table counted 0', make: bent((image) => image.setCount(image.at.l1 / 4096, 0n)) },
  { name: 'the header counted 0', make: bent((image) => image.setCount(0, 0n)) },
  {
    name: 'a refcount table in which 1024 entries name clusters past the end',
    make: bent((image) => {
      for (let i = 1; i < 512; i++) image.setU64(image.at.refcountTable + i * 8, BigInt(i) << 30n)
    }),
  },
]

const cut = (where: (image: Qcow2Image) => number, spec = plain): Row['make'] =>
  bent((image) => image.cut(where(image)), spec)

const cutRows: Row[] = [
  { name: 'cut after the header', make: cut(() => 4096) },
  { name: 'cut inside the header cluster', make: cut(() => 200) },
  { name: 'cut inside the refcount table', make: cut((image) => image.at.refcountTable + 100) },
  { name: 'cut inside a refcount block', make: cut((image) => (image.at.refcountBlocks[0] ?? 0) + 3) },
  { name: 'cut inside the L1 table', make: cut((image) => image.at.l1 + 3) },
  {
    name: 'cut inside an L2 table',
    make: cut((image) => (image.at.l2[0] ?? 0) + 44),
    read: badStream,
    map: 'works',
  },
  { name: 'cut inside the last data cluster', make: cut((image) => image.bytes.length - 1000) },
  {
    name: 'a header and L1, L2 and blocks of nothing but ones',
    make: bent((image) => image.bytes.fill(0xff, 4096)),
    read: l1,
  },
  { name: 'nothing but zeros after the header', make: bent((image) => image.bytes.fill(0, 4096)) },
]

/** A disk of 8 EiB less 2 MiB would want a larger L1 than is allowed; this is the largest legal one at 2 MiB clusters. */
const giant: Row[] = [
  {
    name: 'a virtual size of 4 PiB with an L1 table past the end of the file',
    make: bent((image) => image.set('size', 1n << 52n).set('l1_size', BigInt(2 ** 52 / 2 ** 39)), {
      clusterBits: 21,
      size: 1n << 21n,
    }),
  },
  {
    name: 'a virtual size of 32 GiB, every L1 entry the same L2 table full of one cluster',
    make: () => {
      const image = buildQcow2({ clusterBits: 16, size: 1n << 35n, clusters: { 0: { kind: 'data', bytes: 0x11 } } })
      const table = image.at.l2[0] ?? 0
      for (let i = 0; i < 8192; i++) image.setU64(table + i * 8, image.getU64(table))
      for (let i = 0; i < 64; i++) image.setU64(image.at.l1 + i * 8, BigInt(table))
      return { 'image.qcow2': image }
    },
  },
]

export const tableRows: Row[] = [
  ...l1Rows,
  ...l2Rows,
  ...packedRows,
  ...extendedRows,
  ...refcountRows,
  ...cutRows,
  ...giant,
]
