/** Malformed snapshots and bitmaps, and files that name other files. */
import { buildQcow2 } from '../../support/qcow2-builder.ts'
import type { Qcow2Image } from '../../support/qcow2-image.ts'
import type { Qcow2Spec } from '../../support/qcow2-spec.ts'
import { bent, plain, type Row } from './row.ts'

const withSnapshots: Qcow2Spec = {
  ...plain,
  snapshots: [
    { id: '1', name: 'one', clusters: { 0: { kind: 'data', bytes: 0x77 } } },
    { id: '2', name: 'two', clusters: {} },
  ],
}

const pastNumbers = 'an offset past 2^53 − 1 counts as not aligned; QEMU gives up, or looks there'
const pastEnd = 'QEMU takes the zeros past the end of the file for snapshots'

/** The first snapshot's entry bent: `at` is where it stands. */
function snapshot(bend: (image: Qcow2Image, at: number) => void, spec = withSnapshots): Row['make'] {
  return bent((image) => bend(image, image.at.snapshotEntries[0] ?? 0), spec)
}

const snapshotRows: Row[] = [
  {
    name: 'snapshot L1 table that is not aligned',
    make: snapshot((image, at) => image.setU64(at, image.getU64(at) + 8n)),
    snapshots: ['corrupt', 'snapshot 1'],
  },
  { name: 'snapshot L1 table past the end of the file', make: snapshot((image, at) => image.setU64(at, 1n << 40n)) },
  {
    name: 'snapshot L1 table at 2^64 - 4096',
    make: snapshot((image, at) => image.setU64(at, 0xffff_ffff_ffff_f000n)),
    snapshots: ['corrupt', 'snapshot 1'],
    differs: { check: pastNumbers },
  },
  {
    name: 'snapshot L1 table of 2^32 - 1 entries',
    make: snapshot((image, at) => image.setU32(at + 8, 0xffff_ffff)),
    snapshots: ['corrupt', 'snapshot 1'],
  },
  {
    name: 'snapshot L1 table of 0 entries',
    make: snapshot((image, at) => image.setU32(at + 8, 0)),
    snapshots: ['corrupt', 'snapshot 1'],
  },
  {
    name: 'snapshot L1 table that is the active one',
    make: snapshot((image, at) => image.setU64(at, BigInt(image.at.l1))),
  },
  {
    name: 'snapshot whose id runs past the table',
    make: snapshot((image, at) => image.setU16(at + 12, 0xffff)),
    open: ['invalid', 'snapshot 1 header'],
    differs: { open: pastEnd, check: pastEnd },
  },
  {
    name: 'snapshot with an empty id and name',
    make: snapshot((image, at) => image.setU16(at + 12, 0).setU16(at + 14, 0)),
    differs: { check: pastNumbers },
  },
  {
    name: 'snapshot with 1025 bytes of extra data',
    make: snapshot((image, at) => image.setU32(at + 36, 1025)),
    open: ['limit', 'snapshot 0 extra_data_size'],
  },
  {
    name: 'snapshot with 2^32 - 1 bytes of extra data',
    make: snapshot((image, at) => image.setU32(at + 36, 0xffff_ffff)),
    open: ['limit', 'snapshot 0 extra_data_size'],
  },
  {
    name: 'snapshot with 8 bytes of extra data in version 3',
    make: snapshot(() => {}, { ...plain, snapshots: [{ id: '1', name: 'one', clusters: {}, extraSize: 8 }] }),
  },
  {
    name: 'snapshot with a disk size of 2^64 - 1',
    make: snapshot((image, at) => image.setU64(at + 48, 0xffff_ffff_ffff_ffffn)),
    snapshots: ['corrupt', 'snapshot 1'],
  },
  {
    name: 'snapshot with a machine state of 2^63 bytes',
    make: snapshot((image, at) => image.setU64(at + 40, 1n << 63n)),
  },
  {
    name: 'two snapshots with one id',
    make: snapshot(() => {}, {
      ...plain,
      snapshots: [
        { id: '1', name: 'a', clusters: {} },
        { id: '1', name: 'b', clusters: 'share' },
      ],
    }),
  },
  {
    name: 'snapshot table past the end of the file',
    make: bent((image) => image.set('snapshots_offset', 1n << 40n), withSnapshots),
    open: ['invalid', 'snapshot 0 header'],
    differs: { open: pastEnd, check: pastEnd },
  },
  {
    name: 'snapshot table that is cut',
    make: bent((image) => image.cut((image.at.snapshotEntries[1] ?? 0) + 20), withSnapshots),
  },
  {
    name: 'more snapshots counted than there are',
    make: bent((image) => image.set('nb_snapshots', 60_000n), withSnapshots),
    open: ['invalid', 'snapshot 101 header'],
    differs: { all: 'QEMU takes the zeros past the end of the file for 60,000 snapshots, one by one' },
  },
  {
    name: 'snapshots of an image with an external data file',
    make: () => ({
      'image.qcow2': buildQcow2({
        ...withSnapshots,
        dataFile: { name: 'data' },
        clusters: {},
        snapshots: [{ id: '1', name: 'a', clusters: {} }],
      }),
      data: new Uint8Array(1 << 20),
    }),
  },
]

const withBitmaps: Qcow2Spec = {
  ...plain,
  bitmaps: [
    { name: 'one', granularityBits: 16, flags: 2, table: [new Uint8Array([0xff, 0x0f])] },
    { name: 'two', granularityBits: 12, flags: 0, table: ['ones'] },
  ],
}

const lateBitmaps = 'QEMU loads the tables of all bitmaps when it opens an image; here they are read when they are used'

/** The first bitmap's directory entry bent. */
function bitmap(bend: (image: Qcow2Image, at: number) => void): Row['make'] {
  return bent((image) => bend(image, image.at.bitmapEntries[0] ?? 0), withBitmaps)
}

const bitmapRows: Row[] = [
  {
    name: 'bitmap with an empty name',
    make: bitmap((image, at) => image.setU16(at + 18, 0)),
    open: ['invalid', 'bitmap directory: name_size'],
  },
  {
    name: 'bitmap with a name of 1024 bytes',
    make: bitmap((image, at) => image.setU16(at + 18, 1024)),
    open: ['invalid', 'bitmap directory: name_size'],
  },
  {
    name: 'bitmap whose name runs past the directory',
    make: bitmap((image, at) => image.setU16(at + 18, 1000)),
    open: ['invalid', 'bitmap directory: name_size'],
  },
  {
    name: 'bitmap of an unknown type',
    make: bitmap((image, at) => {
      image.bytes[at + 16] = 2
    }),
    open: ['invalid', 'bitmap directory: type'],
  },
  ...[0, 8, 32, 64, 255].map(
    (bits): Row => ({
      name: `bitmap of granularity 2^${bits}`,
      open: ['invalid', 'bitmap directory: granularity_bits'],
      make: bitmap((image, at) => {
        image.bytes[at + 17] = bits
      }),
    }),
  ),
  {
    name: 'bitmap with unknown flags',
    make: bitmap((image, at) => image.setU32(at + 12, 0xffff_fff8)),
    open: ['invalid', 'bitmap directory: flags'],
  },
  { name: 'bitmap in use', make: bitmap((image, at) => image.setU32(at + 12, 3)) },
  {
    name: 'bitmap with extra data',
    make: bitmap((image, at) => image.setU32(at + 20, 8)),
    open: ['invalid', 'bitmap directory: extra_data_size'],
  },
  {
    name: 'bitmap with 2^32 - 1 bytes of extra data',
    make: bitmap((image, at) => image.setU32(at + 20, 0xffff_ffff)),
    open: ['invalid', 'bitmap directory: name_size'],
  },
  {
    name: 'bitmap table of 0 entries',
    make: bitmap((image, at) => image.setU32(at + 8, 0)),
    open: ['invalid', 'bitmap directory: bitmap_table_size'],
  },
  {
    name: 'bitmap table of 2^32 - 1 entries',
    make: bitmap((image, at) => image.setU32(at + 8, 0xffff_ffff)),
    open: ['invalid', 'bitmap directory: bitmap_table_size'],
  },
  {
    name: 'bitmap table that is not aligned',
    make: bitmap((image, at) => image.setU64(at, image.getU64(at) + 8n)),
    open: ['invalid', 'bitmap directory: bitmap_table_offset'],
  },
  { name: 'bitmap table past the end of the file', make: bitmap((image, at) => image.setU64(at, 1n << 40n)) },
  {
    name: 'bitmap table at 0',
    make: bitmap((image, at) => image.setU64(at, 0n)),
    open: ['invalid', 'bitmap directory: bitmap_table_offset'],
  },
  {
    name: 'bitmap table entry with reserved bits',
    make: bent((image) => {
      const at = image.at.bitmapTables[0] ?? 0
      image.setU64(at, image.getU64(at) | 0x1fen)
    }, withBitmaps),
    differs: { open: lateBitmaps, read: lateBitmaps, check: lateBitmaps },
  },
  {
    name: 'bitmap table entry that is not aligned',
    make: bent((image) => {
      const at = image.at.bitmapTables[0] ?? 0
      image.setU64(at, image.getU64(at) + 512n)
    }, withBitmaps),
    differs: { open: lateBitmaps, read: lateBitmaps, check: lateBitmaps },
  },
  {
    name: 'bitmap table entry past the end of the file',
    make: bent((image) => image.setU64(image.at.bitmapTables[0] ?? 0, 1n << 40n), withBitmaps),
  },
  {
    name: 'two bitmaps of one name',
    make: bitmap((image, at) => image.bytes.set(new TextEncoder().encode('two'), at + 24)),
    open: ['invalid', 'bitmap directory: name'],
  },
  {
    name: 'bitmap directory past the end of the file',
    make: bent((image) => image.setU64((image.at.extensions[0x23852875] ?? 0) + 24, 1n << 40n), withBitmaps),
    open: ['invalid', 'bitmap directory: name_size'],
  },
  {
    name: 'bitmap directory shorter than its count',
    make: bent((image) => image.setU64((image.at.extensions[0x23852875] ?? 0) + 16, 32n), withBitmaps),
    open: ['invalid', 'bitmap directory: count'],
  },
  {
    name: 'bitmap directory longer than its count',
    make: bent((image) => image.setU32((image.at.extensions[0x23852875] ?? 0) + 8, 1), withBitmaps),
    open: ['invalid', 'bitmap directory: count'],
  },
  {
    name: 'bitmaps that nobody vouches for (autoclear bit gone)',
    make: bent((image) => image.set('autoclear_features', 0n), withBitmaps),
  },
]

const over = (name: string | Uint8Array, format?: string): Qcow2Image =>
  buildQcow2({ ...plain, backing: { name, ...(format === undefined ? {} : { format }) } })

const loop: Row['open'] = ['invalid', 'backing file']
/** Opening is refused; info and check look at the image alone. QEMU's check opens what lies under it too. */
const alone = {
  info: 'works',
  check: 'works',
  differs: { check: 'the image is checked without what lies under it' },
} as const

const selfData = 'QEMU reads the image itself as its data; here no image stands twice in a chain'

const chainRows: Row[] = [
  {
    name: 'backing file that is the image itself',
    make: () => ({ 'image.qcow2': over('image.qcow2', 'qcow2') }),
    open: loop,
    ...alone,
    differs: { all: 'QEMU opens the loop until it has no memory left' },
  },
  {
    name: 'backing file that is the image itself, by another spelling',
    make: () => ({ 'image.qcow2': over('./../malformed/./image.qcow2', 'qcow2') }),
    open: loop,
    ...alone,
    differs: { all: 'QEMU opens the loop until it has no memory left' },
  },
  {
    name: 'a loop of two',
    make: () => ({ 'image.qcow2': over('b', 'qcow2'), b: over('image.qcow2', 'qcow2') }),
    open: loop,
    ...alone,
    differs: { all: 'QEMU opens the loop until it has no memory left' },
  },
  {
    name: 'a loop of three',
    make: () => ({ 'image.qcow2': over('b', 'qcow2'), b: over('c', 'qcow2'), c: over('image.qcow2', 'qcow2') }),
    open: loop,
    ...alone,
    differs: { all: 'QEMU opens the loop until it has no memory left' },
  },
  {
    name: 'a loop below the image',
    make: () => ({ 'image.qcow2': over('b', 'qcow2'), b: over('c', 'qcow2'), c: over('b', 'qcow2') }),
    open: loop,
    ...alone,
    differs: { all: 'QEMU opens the loop until it has no memory left' },
  },
  {
    name: 'a backing file that is not there',
    make: () => ({ 'image.qcow2': over('absent', 'raw') }),
    open: ['missing', undefined],
    ...alone,
  },
  {
    name: 'a backing file name with a NUL in it',
    make: () => ({
      'image.qcow2': over(new TextEncoder().encode('ba\0se'), 'raw'),
      ba: new Uint8Array(4096 * 20).fill(0xba),
    }),
  },
  { name: 'an empty backing file name', make: () => ({ 'image.qcow2': over('') }) },
  {
    name: 'a backing file name of 1023 bytes',
    make: () => ({ 'image.qcow2': over('n'.repeat(1023), 'raw') }),
    open: ['io', undefined],
    ...alone,
  },
  {
    name: 'a backing file that is a folder',
    make: () => ({ 'image.qcow2': over('..', 'raw') }),
    open: ['invalid', undefined],
    ...alone,
  },
  {
    name: 'a backing format nobody knows',
    make: () => ({ 'image.qcow2': over('base', 'nonsense'), base: new Uint8Array(4096) }),
    open: ['invalid', 'format'],
    ...alone,
  },
  {
    name: 'a backing file that is no qcow2 image',
    make: () => ({ 'image.qcow2': over('base', 'qcow2'), base: new Uint8Array(4096).fill(0xbb) }),
    open: ['not-this-format', 'magic'],
    ...alone,
  },
  {
    name: 'a backing file that is broken',
    make: () => ({ 'image.qcow2': over('base', 'qcow2'), base: buildQcow2(plain).set('cluster_bits', 40n) }),
    open: ['invalid', 'cluster_bits'],
    ...alone,
  },
  { name: 'a backing file of 0 bytes', make: () => ({ 'image.qcow2': over('base', 'raw'), base: new Uint8Array() }) },
  {
    name: 'a backing file whose name is JSON',
    make: () => ({ 'image.qcow2': over('json:{"driver":"null-co"}') }),
    open: ['unsupported', 'protocol'],
    ...alone,
    differs: { ...alone.differs, open: 'QEMU has a null-co driver' },
  },
  {
    name: 'a backing file of an unknown protocol',
    make: () => ({ 'image.qcow2': over('zzz://host/x', 'raw') }),
    open: ['unsupported', 'protocol'],
    ...alone,
  },
  {
    name: 'a chain of 250 images',
    make: () => {
      const files: Record<string, Qcow2Image> = {}
      for (let i = 0; i < 250; i++)
        files[i === 0 ? 'image.qcow2' : `b${i}`] = buildQcow2({
          clusterBits: 9,
          size: 4096n,
          backing: { name: `b${i + 1}`, format: i === 249 ? 'raw' : 'qcow2' },
        })
      return { ...files, b250: new Uint8Array(4096).fill(0xbb) }
    },
    open: ['limit', 'chain depth'],
    ...alone,
    differs: { ...alone.differs, open: 'the depth of a chain is bounded' },
  },
  {
    name: 'a data file that is not there',
    make: () => ({ 'image.qcow2': buildQcow2({ ...plain, clusters: {}, dataFile: { name: 'absent' } }) }),
    open: ['missing', undefined],
    info: 'works',
  },
  {
    name: 'a data file without a name',
    make: () => ({ 'image.qcow2': buildQcow2({ ...plain, clusters: {}, dataFile: {} }) }),
    open: ['missing', 'data file'],
    info: 'works',
  },
  {
    name: 'a data file that is the image itself',
    make: () => ({
      'image.qcow2': buildQcow2({
        ...plain,
        clusters: { 0: { kind: 'data', bytes: 1 } },
        dataFile: { name: 'image.qcow2' },
      }),
    }),
    open: ['invalid', 'data-file'],
    info: 'works',
    differs: { open: selfData, read: selfData, check: selfData },
  },
  {
    name: 'a data file shorter than the disk',
    make: () => ({
      'image.qcow2': buildQcow2({
        ...plain,
        clusters: { 0: { kind: 'data', bytes: 1 }, 9: { kind: 'data', bytes: 9 } },
        dataFile: { name: 'data' },
      }),
      data: new Uint8Array(5000).fill(0xda),
    }),
  },
  {
    name: 'a packed cluster with an external data file',
    make: () => {
      const image = buildQcow2({ ...plain, clusters: { 0: { kind: 'data', bytes: 1 } }, dataFile: { name: 'data' } })
      image.setU64(image.l2At(0), (1n << 62n) | 4096n)
      return { 'image.qcow2': image, data: new Uint8Array(8192) }
    },
    read: ['corrupt', 'L2 entry'],
  },
  {
    name: 'a data cluster at another offset of its data file',
    make: () => {
      const image = buildQcow2({ ...plain, clusters: { 0: { kind: 'data', bytes: 1 } }, dataFile: { name: 'data' } })
      image.setU64(image.l2At(0), (1n << 63n) | 4096n)
      return { 'image.qcow2': image, data: new Uint8Array(8192).fill(0xda) }
    },
    read: ['corrupt', 'L2 entry'],
  },
  {
    name: 'a raw data file bit without a data file',
    make: () => ({ 'image.qcow2': buildQcow2({ ...plain, autoclear: 2n }) }),
    open: ['invalid', 'autoclear_features'],
  },
]

export const nameRows: Row[] = [...snapshotRows, ...bitmapRows, ...chainRows]
