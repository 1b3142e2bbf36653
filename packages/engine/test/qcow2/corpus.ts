/** Small sound images with every feature, to be mutated. */
import { buildQcow2 } from '../support/qcow2-builder.ts'
import type { Qcow2Image } from '../support/qcow2-image.ts'
import type { Clusters, Qcow2Spec } from '../support/qcow2-spec.ts'

const clusters: Clusters = {
  0: { kind: 'data', bytes: 0x11 },
  1: { kind: 'compressed', bytes: 0x22 },
  2: { kind: 'compressed', bytes: 0x23 },
  3: { kind: 'zero' },
  4: { kind: 'zero-allocated', bytes: 0x55 },
  9: { kind: 'data', bytes: 0x99 },
  14: { kind: 'data', bytes: 0xee },
}
const subclusters: Clusters = {
  0: { kind: 'data', bytes: 0x11 },
  1: { kind: 'subclusters', bytes: 0x22, alloc: 0xf0, zero: 0x0f00 },
  2: { kind: 'subclusters', alloc: 0, zero: 0x8000_0001 },
  3: { kind: 'compressed', bytes: 0x33 },
}
const snapshots: Qcow2Spec['snapshots'] = [
  { id: '1', name: 'one', clusters: 'share' },
  { id: '2', name: 'two', clusters: { 0: { kind: 'data', bytes: 0x77 } } },
]
const bitmaps: Qcow2Spec['bitmaps'] = [
  { name: 'a', granularityBits: 12, flags: 2, table: [new Uint8Array([0xff, 0x0f])] },
  { name: 'b', granularityBits: 9, flags: 0, table: ['ones'] },
]
const small = { clusterBits: 9, size: 65536n }
const middle = { clusterBits: 12, size: 1n << 18n }

/** What the images are; none names another file. */
export const corpus: Record<string, Qcow2Spec> = {
  'small clusters': { ...small, clusters },
  'zstd, snapshots': { ...middle, compression: 'zstd', clusters, snapshots },
  'version 2, snapshots': {
    ...middle,
    version: 2,
    clusters: { 0: { kind: 'data', bytes: 1 }, 1: { kind: 'compressed', bytes: 2 } },
    snapshots: [{ id: '1', name: 'one', clusters: 'share' }],
  },
  'bitmaps, narrow counts': { ...middle, refcountOrder: 3, clusters, bitmaps },
  'wide counts, extensions': {
    ...small,
    refcountOrder: 6,
    clusters,
    extensions: [{ type: 7, data: new Uint8Array(9) }],
  },
  'counts of one bit': { ...small, refcountOrder: 0, clusters: { 0: { kind: 'data', bytes: 1 }, 5: { kind: 'zero' } } },
  'extended L2': { clusterBits: 14, size: 1n << 18n, extendedL2: true, clusters: subclusters },
  'extended L2, snapshots, bitmaps': {
    clusterBits: 14,
    size: 1n << 18n,
    extendedL2: true,
    clusters: subclusters,
    snapshots,
    bitmaps,
  },
  'two L2 tables': { ...small, clusters: { ...clusters, 70: { kind: 'data', bytes: 0x70 } } },
  dirty: { ...middle, incompatible: 1n, compatible: 1n, clusters },
}

/** Byte offsets worth hitting: fields and entries of every table of the image. */
export function tenderSpots(image: Qcow2Image): number[] {
  const { at } = image
  const spots: number[] = []
  for (let i = 0; i < 112; i += 4) spots.push(i)
  for (const offset of Object.values(at.extensions)) for (let i = 0; i < 40; i += 4) spots.push(offset + i)
  for (let i = 0; i < 16; i += 4) spots.push(at.l1 + i, at.refcountTable + i)
  for (const table of Object.values(at.l2)) for (let i = 0; i < 160; i += 4) spots.push(table + i)
  for (const block of at.refcountBlocks) for (let i = 0; i < 64; i += 2) spots.push(block + i)
  for (const entry of [...at.snapshotEntries, ...at.bitmapEntries])
    for (let i = 0; i < 64; i += 2) spots.push(entry + i)
  for (const table of at.bitmapTables) spots.push(table, table + 4)
  return spots.filter((spot) => spot < image.bytes.length)
}

/** One change to an image. `where` and `value` are taken modulo what there is. */
export interface Mutation {
  kind: 'byte' | 'bit' | 'word' | 'long' | 'copy' | 'cut' | 'shuffle'
  tender: boolean
  where: number
  value: number
}

/** Values that break things more often than others. */
const nasty = [
  0n,
  1n,
  0x1ffn,
  0x200n,
  0xffffn,
  0x1_0000n,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_ffffn,
  1n << 40n,
  (1n << 53n) - 1n,
  1n << 53n,
  1n << 55n,
  1n << 62n,
  1n << 63n,
  0xffff_ffff_ffff_fe00n,
  0xffff_ffff_ffff_ffffn,
]

/** The image `name` of the corpus with these changes. */
export function mutated(name: string, mutations: readonly Mutation[]): Uint8Array {
  const image = buildQcow2(corpus[name])
  const spots = tenderSpots(image)
  let bytes = new Uint8Array(image.bytes)
  for (const { kind, tender, where, value } of mutations) {
    if (bytes.length < 16) break
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const at = Math.min(tender ? (spots[where % spots.length] ?? 0) : where % bytes.length, bytes.length - 8)
    const long = nasty[value % nasty.length] ?? 0n
    if (kind === 'byte') bytes[at] = value
    else if (kind === 'bit')
      bytes[at + (value % 4)] = (bytes[at + (value % 4)] ?? 0) ^ (1 << (Math.floor(value / 4) % 8))
    else if (kind === 'word') view.setUint32(at, Number(long & 0xffff_ffffn))
    // Half of them look like a place within the image.
    else if (kind === 'long') {
      view.setBigUint64(at, value % 2 === 0 ? long : (long & (1n << 63n)) | BigInt((value % 64) * image.clusterSize))
    } else if (kind === 'copy') bytes.copyWithin(at, value % bytes.length, (value % bytes.length) + 64)
    else if (kind === 'cut') bytes = bytes.slice(0, tender ? at : where % bytes.length)
    else bytes.subarray(at, at + 32).reverse()
  }
  return bytes
}
