/** Malformed headers. */
import { buildQcow2 } from '../../support/qcow2-builder.ts'
import { bent, plain, type Row, withField } from './row.ts'

const huge = 0xffff_ffffn
const top = 0xffff_ffff_ffff_ffffn

const cutHeaders: Row[] = [
  { name: 'an empty file', make: () => ({ 'image.qcow2': new Uint8Array() }), open: ['not-this-format', 'magic'] },
  { name: 'the magic alone', make: bent((image) => image.cut(4)), open: ['unsupported', 'version'] },
  { name: 'a header cut at 71 bytes', make: bent((image) => image.cut(71)), open: ['invalid', 'header_length'] },
  {
    name: 'a version 3 header cut at 100 bytes',
    make: bent((image) => image.cut(100)),
    open: ['invalid', 'header_length'],
  },
  { name: 'another magic', make: withField('magic', 0x514649fcn), open: ['not-this-format', 'magic'] },
]

const geometry: Row[] = [
  ...[0n, 1n, 4n, huge].map(
    (value): Row => ({ name: `version ${value}`, make: withField('version', value), open: ['unsupported', 'version'] }),
  ),
  ...[0n, 8n, 22n, 31n, 32n, 63n, 64n, huge].map(
    (value): Row => ({
      name: `cluster_bits ${value}`,
      make: withField('cluster_bits', value),
      open: ['invalid', 'cluster_bits'],
    }),
  ),
  { name: 'size past what the L1 table covers', make: withField('size', 1n << 30n), open: ['invalid', 'l1_size'] },
  { name: 'size 2^63 - 512 in a tiny file', make: withField('size', (1n << 63n) - 512n), open: ['limit', 'size'] },
  { name: 'size 2^63', make: withField('size', 1n << 63n), open: ['limit', 'size'] },
  { name: 'size 2^64 - 1', make: withField('size', top), open: ['limit', 'size'] },
  { name: 'size that is no multiple of 512', make: withField('size', 1000n) },
  ...[3n, 255n, huge].map(
    (value): Row => ({
      name: `crypt_method ${value}`,
      make: withField('crypt_method', value),
      open: ['unsupported', 'crypt_method'],
    }),
  ),
  {
    name: 'crypt_method 1 (AES)',
    make: withField('crypt_method', 1n),
    open: ['denied', 'encrypt.key-secret'],
    info: 'works',
    check: 'works',
    differs: { check: 'QEMU wants the password before it checks' },
  },
  {
    name: 'crypt_method 2 (LUKS) without its header',
    make: withField('crypt_method', 2n),
    open: ['invalid', 'crypt_method'],
  },
]

const tables: Row[] = [
  { name: 'l1_size 0 for a disk that has one', make: withField('l1_size', 0n), open: ['invalid', 'l1_size'] },
  { name: 'l1_size 2^32 - 1', make: withField('l1_size', huge), open: ['limit', 'l1_size'] },
  { name: 'l1_size one more than 32 MiB', make: withField('l1_size', 4_194_305n), open: ['limit', 'l1_size'] },
  { name: 'l1_size of 32 MiB, all of it past the end of the file', make: withField('l1_size', 4_194_304n) },
  {
    name: 'l1_table_offset not aligned',
    make: bent((image) => image.set('l1_table_offset', BigInt(image.at.l1 + 8))),
    open: ['invalid', 'l1_table_offset'],
  },
  { name: 'l1_table_offset 2^63', make: withField('l1_table_offset', 1n << 63n), open: ['invalid', 'l1_table_offset'] },
  {
    name: 'l1_table_offset that wraps',
    make: withField('l1_table_offset', top - 4095n),
    open: ['invalid', 'l1_table_offset'],
  },
  { name: 'l1_table_offset past the end of the file', make: withField('l1_table_offset', 1n << 40n) },
  {
    name: 'refcount_table_offset not aligned',
    make: withField('refcount_table_offset', 4097n),
    open: ['invalid', 'refcount_table_offset'],
  },
  {
    name: 'refcount_table_offset 2^63',
    make: withField('refcount_table_offset', 1n << 63n),
    open: ['invalid', 'refcount_table_offset'],
  },
  {
    name: 'refcount_table_offset that wraps',
    make: withField('refcount_table_offset', top - 4095n),
    open: ['invalid', 'refcount_table_offset'],
  },
  { name: 'refcount_table_offset past the end of the file', make: withField('refcount_table_offset', 1n << 40n) },
  { name: 'refcount_table_offset 0', make: withField('refcount_table_offset', 0n) },
  {
    name: 'refcount_table_clusters 0',
    make: withField('refcount_table_clusters', 0n),
    open: ['invalid', 'refcount_table_clusters'],
    check: 'works',
  },
  {
    name: 'refcount_table_clusters past 8 MiB',
    make: withField('refcount_table_clusters', 2049n),
    open: ['limit', 'refcount_table_clusters'],
  },
  {
    name: 'refcount_table_clusters 2^32 - 1',
    make: withField('refcount_table_clusters', huge),
    open: ['limit', 'refcount_table_clusters'],
  },
  {
    name: 'refcount_table_clusters of 8 MiB, past the end of the file',
    make: withField('refcount_table_clusters', 2048n),
  },
  ...[7n, 8n, 31n, 32n, huge].map(
    (value): Row => ({
      name: `refcount_order ${value}`,
      make: withField('refcount_order', value),
      open: ['invalid', 'refcount_order'],
    }),
  ),
  { name: 'nb_snapshots 65537', make: withField('nb_snapshots', 65537n), open: ['limit', 'nb_snapshots'] },
  { name: 'nb_snapshots 2^32 - 1', make: withField('nb_snapshots', huge), open: ['limit', 'nb_snapshots'] },
  {
    name: 'snapshots_offset not aligned',
    make: bent((image) => image.set('nb_snapshots', 1n).set('snapshots_offset', 4097n)),
    open: ['invalid', 'snapshots_offset'],
  },
  {
    name: 'snapshots_offset that wraps',
    make: bent((image) => image.set('nb_snapshots', 1n).set('snapshots_offset', top - 4095n)),
    open: ['invalid', 'snapshots_offset'],
  },
]

const backingNames: Row[] = [
  {
    name: 'backing_file_offset past the first cluster',
    make: withField('backing_file_offset', 4097n),
    open: ['invalid', 'backing_file_offset'],
  },
  {
    name: 'backing_file_offset 2^63',
    make: withField('backing_file_offset', 1n << 63n),
    open: ['invalid', 'backing_file_offset'],
  },
  {
    name: 'backing_file_size 1024',
    make: bent((image) => image.set('backing_file_offset', 512n).set('backing_file_size', 1024n)),
    open: ['invalid', 'backing_file_size'],
  },
  {
    name: 'backing_file_size 2^32 - 1',
    make: bent((image) => image.set('backing_file_offset', 512n).set('backing_file_size', huge)),
    open: ['invalid', 'backing_file_size'],
  },
  {
    name: 'a backing file name that leaves its cluster',
    make: bent((image) => image.set('backing_file_offset', 4090n).set('backing_file_size', 7n)),
    open: ['invalid', 'backing_file_size'],
  },
  {
    name: 'a backing file name that passes the end of the file',
    make: bent((image) => image.cut(600).set('backing_file_offset', 590n).set('backing_file_size', 20n)),
  },
]

const features: Row[] = [
  { name: 'unknown compatible features', make: bent((image) => image.set('compatible_features', top - 1n)) },
  { name: 'unknown autoclear features', make: bent((image) => image.set('autoclear_features', top - 3n)) },
  { name: 'the dirty bit', make: withField('incompatible_features', 1n) },
  {
    name: 'the corrupt bit',
    make: withField('incompatible_features', 2n),
    write: ['corrupt', 'incompatible_features'],
  },
  {
    name: 'extended L2 entries with clusters of 8 KiB',
    make: bent((image) => image.set('incompatible_features', 16n), { ...plain, clusterBits: 13 }),
    open: ['invalid', 'cluster_bits'],
  },
  {
    name: 'compression_type 1 without its bit',
    make: withField('compression_type', 1n),
    open: ['invalid', 'compression_type'],
  },
  {
    name: 'the compression bit with type 0',
    make: withField('incompatible_features', 8n),
    open: ['invalid', 'compression_type'],
  },
  {
    name: 'the compression bit in a header of 104 bytes',
    make: withField('incompatible_features', 8n, { ...plain, headerLength: 104 }),
    open: ['invalid', 'compression_type'],
  },
  ...[2n, 255n].map(
    (value): Row => ({
      name: `compression_type ${value} with its bit`,
      make: bent((image) => image.set('incompatible_features', 8n).set('compression_type', value)),
      open: ['unsupported', 'compression_type'],
    }),
  ),
  ...[0n, 72n, 100n, 103n].map(
    (value): Row => ({
      name: `header_length ${value}`,
      make: withField('header_length', value),
      open: ['invalid', 'header_length'],
    }),
  ),
  ...[4104n, huge].map(
    (value): Row => ({
      name: `header_length ${value}`,
      make: withField('header_length', value),
      open: ['invalid', 'header_length'],
    }),
  ),
  { name: 'header_length 105', make: withField('header_length', 105n) },
  { name: 'header_length 4096, the whole cluster', make: bent((image) => image.set('header_length', 4096n)) },
]

/** A header extension written over the place of the end marker. */
function withExtension(type: number, length: number, data: Uint8Array = new Uint8Array(), spec = plain): Row['make'] {
  return bent((image) => {
    const at = image.at.extensionsEnd
    image.setU32(at, type).setU32(at + 4, length)
    image.bytes.set(data, at + 8)
  }, spec)
}

const bitmapSpec = { ...plain, bitmaps: [{ name: 'b', granularityBits: 16, flags: 2, table: [new Uint8Array([3])] }] }
const bitmapsType = 0x23852875
const bitmapsField = 'header extension 0x23852875'

/** The data of the bitmaps extension bent: byte offset in it, and the bytes to write. */
function bitmapsWith(offset: number, bytes: number[]): Row['make'] {
  return bent((image) => {
    const at = image.at.extensions[bitmapsType]
    if (at === undefined) throw new Error('there is no bitmaps extension')
    image.bytes.set(bytes, at + 8 + offset)
  }, bitmapSpec)
}

const extensions: Row[] = [
  {
    name: 'an extension longer than its cluster',
    make: withExtension(0x1234, 4096),
    open: ['invalid', 'header extension 0x1234'],
  },
  {
    name: 'an extension of 2^32 - 1 bytes',
    make: withExtension(0x1234, 0xffff_ffff),
    open: ['invalid', 'header extension 0x1234'],
  },
  {
    name: 'an extension of 2^31 bytes',
    make: withExtension(0x1234, 0x8000_0000),
    open: ['invalid', 'header extension 0x1234'],
  },
  {
    name: 'an extension that runs into the backing file name',
    make: bent((image) => {
      const at = image.at.extensionsEnd
      image.set('backing_file_offset', BigInt(at + 16)).set('backing_file_size', 4n)
      image.setU32(at, 0x1234).setU32(at + 4, 9)
    }),
    open: ['invalid', 'header extension 0x1234'],
  },
  { name: 'extensions without an end marker', make: withExtension(0x1234, 4096 - 112 - 8) },
  {
    name: 'a backing format of 16 bytes',
    make: withExtension(0xe2792aca, 16, new Uint8Array(16).fill(0x61)),
    open: ['invalid', 'header extension 0xe2792aca'],
  },
  { name: 'a feature name table of 47 bytes', make: withExtension(0x6803f857, 47, new Uint8Array(47).fill(1)) },
  { name: 'a feature name table full of noise', make: withExtension(0x6803f857, 96, new Uint8Array(96).fill(0xee)) },
  {
    name: 'a crypto header pointer in a plain image',
    make: withExtension(0x0537be77, 16),
    open: ['invalid', 'header extension 0x537be77'],
  },
  {
    name: 'a crypto header pointer of 8 bytes',
    make: bent((image) => {
      image.set('crypt_method', 2n)
      image.setU32(image.at.extensionsEnd, 0x0537be77).setU32(image.at.extensionsEnd + 4, 8)
    }),
    open: ['invalid', 'header extension 0x537be77'],
  },
  {
    name: 'a data file name without the data file bit',
    make: withExtension(0x44415441, 4, new TextEncoder().encode('data')),
  },
  ...[0, 16, 32].map(
    (length): Row => ({
      name: `a bitmaps extension of ${length} bytes`,
      make: bent((image) => {
        image.set('autoclear_features', 1n)
        image.setU32(image.at.extensionsEnd, bitmapsType).setU32(image.at.extensionsEnd + 4, length)
      }),
      open: ['invalid', bitmapsField],
    }),
  ),
  {
    name: 'a bitmaps extension whose reserved field is set',
    make: bitmapsWith(7, [1]),
    open: ['invalid', bitmapsField],
  },
  { name: 'a bitmaps extension that counts 0', make: bitmapsWith(0, [0, 0, 0, 0]), open: ['invalid', bitmapsField] },
  {
    name: 'a bitmaps extension that counts 65536',
    make: bitmapsWith(0, [0, 1, 0, 0]),
    open: ['invalid', bitmapsField],
  },
  {
    name: 'a bitmap directory past 64 MiB',
    make: bitmapsWith(8, [0, 0, 0, 0, 4, 0, 0, 1]),
    open: ['invalid', bitmapsField],
  },
  {
    name: 'a bitmap directory of 2^64 - 1 bytes',
    make: bitmapsWith(8, Array(8).fill(0xff)),
    open: ['invalid', bitmapsField],
  },
  { name: 'a bitmap directory that is not aligned', make: bitmapsWith(23, [8]), open: ['invalid', bitmapsField] },
  {
    name: 'a bitmap directory that wraps',
    make: bitmapsWith(16, [255, 255, 255, 255, 255, 255, 240, 0]),
    open: ['invalid', bitmapsField],
  },
  {
    name: 'two bitmaps extensions',
    make: () => {
      const image = buildQcow2(bitmapSpec)
      const at = image.at.extensions[bitmapsType] ?? 0
      image.bytes.set(image.bytes.slice(at, at + 32), image.at.extensionsEnd)
      return { 'image.qcow2': image }
    },
  },
  {
    name: 'two backing formats',
    make: () => {
      const format = (name: string) => ({ type: 0xe2792aca, data: new TextEncoder().encode(name) })
      return {
        'image.qcow2': buildQcow2({
          ...plain,
          backing: { name: 'base' },
          extensions: [format('qcow2'), format('raw')],
        }),
        base: new Uint8Array(4096 * 9).fill(0xbb),
      }
    },
  },
  {
    name: 'a bitmaps extension in version 2',
    make: withExtension(bitmapsType, 24, new Uint8Array(24), {
      ...plain,
      version: 2,
      clusters: { 0: { kind: 'data', bytes: 1 } },
    }),
  },
]

export const headerRows: Row[] = [...cutHeaders, ...geometry, ...tables, ...backingNames, ...features, ...extensions]
