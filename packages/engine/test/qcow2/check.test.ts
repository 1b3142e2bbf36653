/** Each kind of damage to a qcow2 image, looked at and repaired: the words, the counters and the repaired file are QEMU's. */

import { describe, it } from 'vitest'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { buildQcow2 } from '../support/qcow2-builder.ts'
import type { Qcow2Image } from '../support/qcow2-image.ts'
import type { Qcow2Spec } from '../support/qcow2-spec.ts'
import { expectSameVerdict, type Parting, type Repair } from './verdict.ts'

const folder = temporaryFolder()
const copied = 1n << 63n
const topBits = 0x3fn << 56n

interface Damage {
  name: string
  spec?: Qcow2Spec
  bend?: (image: Qcow2Image) => void
  /** Where the two tools part, by repair. */
  parting?: Partial<Record<Repair, Parting>>
}

const plain: Qcow2Spec = {
  clusterBits: 12,
  clusters: {
    0: { kind: 'data', bytes: 0x11 },
    1: { kind: 'compressed', bytes: 0x22 },
    2: { kind: 'zero' },
    3: { kind: 'zero-allocated', bytes: 0x33 },
    5: { kind: 'data', bytes: 0x55 },
  },
}
const extended: Qcow2Spec = {
  clusterBits: 14,
  extendedL2: true,
  clusters: {
    0: { kind: 'data', bytes: 0x11 },
    1: { kind: 'subclusters', bytes: 0x22, alloc: 0xff, zero: 0xff00 },
    2: { kind: 'compressed', bytes: 0x33 },
    3: { kind: 'zero-allocated', bytes: 0x44 },
  },
}
const snapshots: Qcow2Spec = {
  ...plain,
  snapshots: [
    { id: '1', name: 'a', clusters: 'share' },
    { id: '2', name: 'b', clusters: { 7: { kind: 'data', bytes: 7 } } },
  ],
}
const bitmaps: Qcow2Spec = {
  ...plain,
  bitmaps: [{ name: 'b', granularityBits: 16, flags: 2, table: [new Uint8Array(4096).fill(1)] }],
}

/** The L2 entry of a guest cluster changed. */
const l2 =
  (guest: number, change: (entry: bigint, image: Qcow2Image) => bigint) =>
  (image: Qcow2Image): void => {
    image.setU64(image.l2At(guest), change(image.getU64(image.l2At(guest)), image))
  }
/** The first L1 entry changed. */
const l1 =
  (change: (entry: bigint, image: Qcow2Image) => bigint) =>
  (image: Qcow2Image): void => {
    image.setU64(image.at.l1, change(image.getU64(image.at.l1), image))
  }
/** An entry of the refcount table changed. */
const table =
  (index: number, change: (entry: bigint, image: Qcow2Image) => bigint) =>
  (image: Qcow2Image): void => {
    const at = image.at.refcountTable + index * 8
    image.setU64(at, change(image.getU64(at), image))
  }
const host = (image: Qcow2Image, guest: number): number =>
  Number(image.getU64(image.l2At(guest)) & 0x00ff_ffff_ffff_f000n) / 4096

/** Nothing a repair may decide: the guest's data is where a broken pointer led. */
const remains: Damage['parting'] = {
  leaks: { bytes: 'freed space is kept where there is damage' },
  all: { remains: true, bytes: 'the same' },
}
const rewritten: Damage['parting'] = {
  leaks: { bytes: 'QEMU stores the bitmaps anew when it closes the image' },
  all: { bytes: 'the same' },
}
const grown: Parting = {
  why: 'QEMU makes the file longer until the block is inside, and builds the structures anew because that block is empty; here they are built anew at once',
}

const countDamage: Damage[] = [
  { name: 'none' },
  { name: 'a count too high', bend: (image) => image.setCount(host(image, 0), 3n) },
  { name: 'a count for a cluster that nobody uses', bend: (image) => image.grow(image.bytes.length + 8192) },
  {
    name: 'leaked clusters at the end, in the middle of the block and past the end of the file',
    bend(image) {
      const end = image.bytes.length / 4096
      image.grow(image.bytes.length + 5 * 4096)
      for (const cluster of [end, end + 1, end + 3, end + 4, 1000]) image.setCount(cluster, 1n)
    },
  },
  {
    name: 'a count too low',
    bend(image) {
      image.setU64(image.l2At(9), image.getU64(image.l2At(5)))
    },
  },
  { name: 'a data cluster counted 0', bend: (image) => image.setCount(host(image, 5), 0n) },
  { name: 'the L1 table counted 0', bend: (image) => image.setCount(image.at.l1 / 4096, 0n) },
  { name: 'the header counted 0', bend: (image) => image.setCount(0, 0n) },
  { name: 'the header counted 2', bend: (image) => image.setCount(0, 2n) },
  {
    name: 'all counts 0',
    bend: (image) => image.bytes.fill(0, image.at.refcountBlocks[0], (image.at.refcountBlocks[0] ?? 0) + 4096),
  },
  {
    name: 'all counts 65535',
    bend: (image) => image.bytes.fill(0xff, image.at.refcountBlocks[0], (image.at.refcountBlocks[0] ?? 0) + 4096),
  },
  { name: 'dirty, and nothing else', spec: { ...plain, incompatible: 1n } },
  {
    name: 'dirty and leaks',
    spec: { ...plain, incompatible: 1n },
    bend: (image) => image.setCount(host(image, 0), 2n),
  },
  { name: 'corrupt, and nothing else', spec: { ...plain, incompatible: 2n } },
  {
    name: 'dirty, corrupt and a count too low',
    spec: { ...plain, incompatible: 3n },
    bend: (image) => image.setU64(image.l2At(9), image.getU64(image.l2At(5))),
    parting: { leaks: { bytes: 'QEMU calls an image clean when it closes it, whatever the check said' } },
  },
  {
    name: 'an unknown autoclear bit, and a leak',
    spec: { ...plain, autoclear: 8n },
    bend: (image) => image.setCount(host(image, 0), 2n),
  },
]

const structureDamage: Damage[] = [
  { name: 'no refcount block', bend: table(0, () => 0n) },
  {
    name: 'a refcount table entry that is not aligned',
    bend: table(0, (entry) => entry + 512n),
    parting: {
      leaks: { bytes: 'both mark the image as corrupt; QEMU writes its whole header for that' },
      all: { why: 'QEMU cannot rebuild once it has called the image corrupt' },
    },
  },
  {
    name: 'a refcount table entry with reserved bits',
    bend: table(0, (entry) => entry | 1n),
    parting: { all: { why: 'QEMU refuses the new block, as it would lie on the old one that it did not count' } },
  },
  { name: 'a refcount block outside the file', bend: table(0, () => 1n << 30n), parting: { all: grown } },
  {
    name: 'a second refcount block outside the file',
    bend: table(1, () => 1n << 30n),
    parting: { all: grown },
  },
  {
    name: 'a refcount block at 2^62',
    bend: table(0, () => 1n << 62n),
    parting: { all: { why: 'QEMU tells that it could not make the file as long as that' } },
  },
  {
    name: 'two refcount table entries with one block',
    bend: table(1, (_, image) => BigInt(image.at.refcountBlocks[0] ?? 0)),
  },
  { name: 'a refcount block that is the L2 table', bend: table(0, (_, image) => BigInt(image.at.l2[0] ?? 0)) },
  { name: 'a refcount block that is the refcount table', bend: table(0, (_, image) => BigInt(image.at.refcountTable)) },
  {
    name: 'a refcount table of 0 clusters',
    bend: (image) => image.set('refcount_table_clusters', 0n),
  },
]

const entryDamage: Damage[] = [
  { name: 'an L1 entry without COPIED', bend: l1((entry) => entry & ~copied) },
  { name: 'an L1 entry with reserved low bits', bend: l1((entry) => entry | 5n), parting: remains },
  { name: 'an L1 entry with reserved high bits', bend: l1((entry) => entry | topBits), parting: remains },
  {
    name: 'an L1 entry that is not aligned',
    bend: l1((entry) => entry + 512n),
    parting: {
      leaks: { bytes: 'freed space is kept where there is damage' },
      all: { remains: true, bytes: 'the same' },
    },
  },
  { name: 'an L1 entry past the end of the file', bend: l1(() => copied | (1n << 40n)), parting: remains },
  { name: 'an L1 entry that is COPIED and 0', bend: l1(() => copied), parting: remains },
  { name: 'no L1 entry', bend: l1(() => 0n) },
  {
    name: 'two L1 entries that share a table',
    spec: { ...plain, l1Size: 2 },
    bend: (image) => image.set('size', 4n << 20n).setU64(image.at.l1 + 8, image.getU64(image.at.l1)),
  },
  { name: 'a data cluster without COPIED', bend: l2(0, (entry) => entry & ~copied) },
  { name: 'a reserved zero cluster without COPIED', bend: l2(3, (entry) => entry & ~copied) },
  { name: 'L2 entries with reserved bits', bend: l2(0, (entry) => entry | 0x1fen | topBits), parting: remains },
  { name: 'a data cluster that is not aligned', bend: l2(0, (entry) => entry + 512n), parting: remains },
  { name: 'a reserved zero cluster that is not aligned', bend: l2(3, (entry) => entry + 512n) },
  { name: 'a data cluster past the end of the file', bend: l2(0, () => copied | (1n << 40n)), parting: remains },
  {
    name: 'a data cluster right behind the end of the file',
    bend: l2(0, (_, image) => copied | BigInt(image.bytes.length)),
    parting: remains,
  },
  { name: 'a data cluster in the L2 table', bend: l2(0, (_, image) => copied | BigInt(image.at.l2[0] ?? 0)) },
  { name: 'a packed cluster with COPIED', bend: l2(1, (entry) => entry | copied), parting: remains },
  { name: 'a packed cluster past the end of the file', bend: l2(1, () => (1n << 62n) | (1n << 40n)), parting: remains },
  { name: 'a packed cluster past 2^53', bend: l2(1, () => (1n << 62n) | (1n << 56n) | 3n), parting: remains },
  { name: 'a packed cluster that begins in the header', bend: l2(1, () => (1n << 62n) | 100n) },
  {
    name: 'subclusters both allocated and zero',
    spec: extended,
    bend: (image) => image.setU64(image.l2At(0) + 8, 0x1_ffff_ffffn),
    parting: remains,
  },
  {
    name: 'allocated subclusters of no cluster',
    spec: extended,
    bend: (image) => image.setU64(image.l2At(9) + 8, 1n),
    parting: remains,
  },
  {
    name: 'subclusters of a packed cluster',
    spec: extended,
    bend: (image) => image.setU64(image.l2At(2) + 8, 1n),
    parting: remains,
  },
  { name: 'the zero flag with extended entries', spec: extended, bend: l2(0, (entry) => entry | 1n) },
  { name: 'reserved zero subclusters that are not aligned', spec: extended, bend: l2(3, (entry) => entry + 512n) },
  {
    name: 'data in subclusters that is not aligned',
    spec: extended,
    bend: l2(0, (entry) => entry + 512n),
    parting: remains,
  },
  {
    name: 'the zero flag in version 2',
    spec: { ...plain, version: 2, clusters: { 0: { kind: 'data', bytes: 1 } } },
    bend: l2(0, (entry) => entry | 1n),
  },
  { name: 'a file cut in its last cluster', bend: (image) => image.cut(image.bytes.length - 1000) },
  {
    name: 'a file cut before its last two clusters',
    bend: (image) => image.cut(image.bytes.length - 2 * 4096),
    parting: remains,
  },
]

const snapshotDamage: Damage[] = [
  { name: 'none', spec: snapshots },
  { name: 'shared clusters with COPIED', spec: snapshots, bend: l2(0, (entry) => entry | copied) },
  { name: 'a count that forgets a snapshot', spec: snapshots, bend: (image) => image.setCount(host(image, 0), 1n) },
  {
    name: 'an L1 table that is not aligned',
    spec: snapshots,
    bend: (image) =>
      image.setU64(image.at.snapshotEntries[0] ?? 0, image.getU64(image.at.snapshotEntries[0] ?? 0) + 8n),
    parting: remains,
  },
  {
    name: 'an L1 table at the top of its 64 bits',
    spec: snapshots,
    bend: (image) => image.setU64(image.at.snapshotEntries[0] ?? 0, 0xffff_ffff_ffff_fff8n),
    parting: remains,
  },
  {
    name: 'an L1 table that is too large',
    spec: snapshots,
    bend: (image) => image.setU32((image.at.snapshotEntries[0] ?? 0) + 8, 0x40_0001),
    parting: remains,
  },
  {
    name: 'an L1 table that is the active one',
    spec: snapshots,
    bend: (image) => image.setU64(image.at.snapshotEntries[1] ?? 0, BigInt(image.at.l1)),
  },
  {
    name: 'extra data that is too short for version 3',
    spec: {
      ...plain,
      snapshots: [0, 8, 16].map((extraSize, i) => ({ id: `${i}`, name: 'x', clusters: 'share', extraSize })),
    },
  },
  {
    name: 'no extra data in version 2',
    spec: {
      version: 2,
      clusterBits: 12,
      clusters: { 0: { kind: 'data', bytes: 1 } },
      snapshots: [{ id: '1', name: 'x', clusters: 'share', extraSize: 0 }],
    },
  },
  {
    name: 'extra data that is too long',
    spec: { ...plain, snapshots: [{ id: '1', name: 'long', clusters: 'share', extraSize: 1200 }] },
  },
  {
    name: 'extra data that is kept',
    spec: { ...plain, snapshots: [{ id: '1', name: 'x', clusters: 'share', extraSize: 1024 }] },
  },
  {
    name: 'a table that is not aligned',
    spec: snapshots,
    bend: (image) => image.set('snapshots_offset', 8n),
    parting: { all: { remains: true } },
  },
  {
    name: 'too many snapshots',
    spec: snapshots,
    bend: (image) => image.set('nb_snapshots', 65_600n),
    parting: { all: { why: 'QEMU takes the zeros past the end of the file for snapshots; here they are dropped' } },
  },
  {
    name: 'a table that is cut off',
    spec: snapshots,
    bend: (image) => image.set('nb_snapshots', 150n),
    parting: {
      none: { why: 'QEMU takes the zeros past the end of the file for snapshots' },
      leaks: { why: 'the same' },
      all: { why: 'the same' },
    },
  },
]

const bitmapDamage: Damage[] = [
  { name: 'none', spec: bitmaps, parting: rewritten },
  {
    name: 'a leak',
    spec: bitmaps,
    bend: (image) => image.setCount(host(image, 0), 2n),
    parting: rewritten,
  },
  {
    name: 'a table counted 0',
    spec: bitmaps,
    bend: (image) => image.setCount((image.at.bitmapTables[0] ?? 0) / 4096, 0n),
    parting: rewritten,
  },
  {
    name: 'data past the end of the file',
    spec: bitmaps,
    bend: (image) => image.setU64(image.at.bitmapTables[0] ?? 0, 1n << 40n),
    parting: {
      leaks: { why: 'QEMU stores the bitmap anew, and makes the file a terabyte long' },
      all: { why: 'the same', remains: true },
    },
  },
  {
    name: 'nobody vouches for them',
    spec: bitmaps,
    bend: (image) => image.set('autoclear_features', 0n),
    parting: {
      none: { why: 'QEMU also warns when it opens the image' },
      leaks: { why: 'the same' },
      all: { why: 'the same' },
    },
  },
]

/** Narrow counts run over; wide ones hold what no number does. */
const widthDamage: Damage[] = [0, 1, 2, 3, 4, 5, 6].flatMap((refcountOrder): Damage[] => {
  const spec: Qcow2Spec = {
    ...plain,
    refcountOrder,
    clusters: { 0: { kind: 'data', bytes: 1 }, 5: { kind: 'data', bytes: 5 } },
  }
  const bits = 1 << refcountOrder
  return [
    { name: `${bits}-bit counts`, spec },
    {
      name: `${bits}-bit counts, the highest`,
      spec,
      bend: (image) => image.setCount(host(image, 0), (1n << BigInt(bits)) - 1n),
    },
    { name: `${bits}-bit counts, one is 0`, spec, bend: (image) => image.setCount(host(image, 0), 0n) },
    {
      name: `${bits}-bit counts, five entries for one cluster`,
      spec,
      bend(image) {
        for (const guest of [9, 10, 11, 12]) image.setU64(image.l2At(guest), image.getU64(image.l2At(0)))
      },
      ...(bits < 4 ? { parting: { all: { remains: true } } } : {}),
    },
  ]
})

const groups: [string, Damage[]][] = [
  ['counts', countDamage],
  ['refcount structures', structureDamage],
  ['entries', entryDamage],
  ['snapshots', snapshotDamage],
  ['bitmaps', bitmapDamage],
  ['widths', widthDamage],
]

describeWith(['qemu-img'], 'damage as qemu-img check sees and repairs it', () => {
  describe.each(groups)('%s', (_group, list) => {
    it.each(list.map((damage) => [damage.name, damage] as const))('%s', async (_name, damage) => {
      const image = buildQcow2(damage.spec ?? plain)
      damage.bend?.(image)
      const file = folder.fresh('.qcow2')
      image.save(file)
      for (const repair of ['none', 'leaks', 'all'] as const) {
        await expectSameVerdict(file, repair, damage.parting?.[repair])
      }
    })
  })
})
