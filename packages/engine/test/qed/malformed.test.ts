/** Malformed QED images. */
import { testMalformed } from '../support/block-malformed.ts'
import { createIn, openForWritingIn } from '../support/block-subject.ts'
import { subject } from './subject.ts'

/** 5 MiB in clusters of 4 KiB; in the file come header, L1 table (4096), the two clusters at 1 MiB (12288, 16384), the L2 table of the first 4 MiB (20480), the cluster
 *  at 3 MiB (28672), the one at 4 MiB (32768) and its table (36864). */
const cluster = 4096
const store = await createIn(subject, { options: 'cluster_size=4k,table_size=2', size: 5 << 20 })
const disk = await openForWritingIn(subject, store)
await disk.write(1 << 20, new Uint8Array(8000).fill(1))
await disk.write(3 << 20, new Uint8Array(3000).fill(2))
await disk.write(4 << 20, new Uint8Array(3000).fill(3))
await disk.close()
const good = store.bytes()

function bent(edit: (view: DataView) => void, rest = 0): () => Uint8Array {
  return () => {
    const bytes = new Uint8Array(good.length + rest)
    bytes.set(good)
    edit(new DataView(bytes.buffer))
    return bytes
  }
}

const u32 = (at: number, value: number) => bent((view) => view.setUint32(at, value, true))
const u64 = (at: number, value: bigint) => bent((view) => view.setBigUint64(at, value, true))
const l1 = (index: number, value: number | bigint) => u64(4096 + index * 8, BigInt(value))
/** The entries of the clusters at 1 MiB and after it. */
const l2 = (index: number, value: number | bigint) => u64(20_480 + (256 + index) * 8, BigInt(value))
const cut = (length: number) => () => good.slice(0, length)
const named = (offset: number, length: number) =>
  bent((view) => {
    view.setUint32(16, 1, true)
    view.setUint32(56, offset, true)
    view.setUint32(60, length, true)
  })

testMalformed(subject, [
  { name: 'a sound image', make: () => good.slice() },
  { name: 'an empty file', make: cut(0), open: ['not-this-format', 'magic'] },
  { name: 'another magic', make: u32(0, 1), open: ['not-this-format', 'magic'] },
  { name: 'a header that is cut', make: cut(40), open: ['invalid', 'l1_table_offset'] },
  { name: 'clusters of 2 KiB', make: u32(4, 2048), open: ['invalid', 'cluster_size'] },
  { name: 'clusters of 5000', make: u32(4, 5000), open: ['invalid', 'cluster_size'] },
  { name: 'clusters of 128 MiB', make: u32(4, 128 << 20), open: ['invalid', 'cluster_size'] },
  { name: 'clusters of 2 GiB', make: u32(4, 0x8000_0000), open: ['invalid', 'cluster_size'] },
  { name: 'tables of nothing', make: u32(8, 0), open: ['invalid', 'table_size'] },
  { name: 'tables of 3 clusters', make: u32(8, 3), open: ['invalid', 'table_size'] },
  { name: 'tables of 32 clusters', make: u32(8, 32), open: ['invalid', 'table_size'] },
  { name: 'a header of 2^32 − 1 clusters', make: u32(12, 0xffff_ffff), open: ['invalid', 'header_size'] },
  { name: 'a header over the L1 table', make: u32(12, 2), open: ['invalid', 'l1_table_offset'] },
  { name: 'feature 8', make: u64(16, 8n), open: ['unsupported', 'features'] },
  { name: 'feature 2^63', make: u64(16, 2n ** 63n), open: ['unsupported', 'features'] },
  { name: 'an image that was not closed', make: u64(16, 2n) },
  { name: 'compatible features', make: u64(24, 2n ** 63n) },
  { name: 'autoclear features', make: u64(32, 5n) },
  { name: 'an L1 table over the header', make: u64(40, 0n), open: ['invalid', 'l1_table_offset'] },
  { name: 'an L1 table off the clusters', make: u64(40, 4100n), open: ['invalid', 'l1_table_offset'] },
  { name: 'an L1 table past the file', make: u64(40, 2n ** 40n), open: ['invalid', 'l1_table_offset'] },
  { name: 'an L1 table past any file', make: u64(40, 2n ** 63n), open: ['invalid', 'l1_table_offset'] },
  { name: 'an L1 table that the file ends in', make: u64(40, 40_960n), open: ['invalid', 'l1_table_offset'] },
  { name: 'a disk of 513 bytes', make: u64(48, 513n), open: ['invalid', 'image_size'] },
  { name: 'a disk of more than the tables map', make: u64(48, 2n ** 32n + 512n), open: ['invalid', 'image_size'] },
  { name: 'a disk of 2^64 − 512', make: u64(48, 2n ** 64n - 512n), open: ['invalid', 'image_size'] },
  { name: 'a disk of all that the tables map', make: u64(48, 2n ** 32n), differs: 'QEMU would write 4 GiB' },
  { name: 'a name past the header', make: named(4000, 100), open: ['invalid', 'backing_filename_offset'] },
  { name: 'a name of 2^32 − 1', make: named(64, 0xffff_ffff), open: ['invalid', 'backing_filename_offset'] },
  { name: 'a table past the file', make: l1(0, 2n ** 40n), read: ['corrupt', 'L1 entry'], corruptions: 1, leaks: 5 },
  { name: 'a table past any file', make: l1(0, 2n ** 60n), read: ['corrupt', 'L1 entry'], corruptions: 1, leaks: 5 },
  { name: 'a table over the header', make: l1(0, 1), read: ['corrupt', 'L1 entry'], corruptions: 1, leaks: 5 },
  { name: 'a table off the clusters', make: l1(0, 20_488), read: ['corrupt', 'L1 entry'], corruptions: 1, leaks: 5 },
  {
    name: 'a table that the file ends in',
    make: l1(1, 40_960),
    read: ['corrupt', 'L1 entry'],
    corruptions: 1,
    leaks: 3,
  },
  { name: 'one table twice', make: l1(1, 20_480), corruptions: 2, leaks: 3 },
  { name: 'the L1 table as an L2 table', make: l1(1, 4096), corruptions: 2, leaks: 3 },
  { name: 'a cluster past the file', make: l2(0, 2n ** 40n), read: ['corrupt', 'L2 entry'], corruptions: 1, leaks: 1 },
  { name: 'a cluster past any file', make: l2(0, 2n ** 63n), read: ['corrupt', 'L2 entry'], corruptions: 1, leaks: 1 },
  { name: 'a cluster over the header', make: l2(0, 2), read: ['corrupt', 'L2 entry'], corruptions: 1, leaks: 1 },
  { name: 'a cluster off the clusters', make: l2(0, 12_800), read: ['corrupt', 'L2 entry'], corruptions: 1, leaks: 1 },
  { name: 'a cluster of zeros', make: l2(0, 1), leaks: 1 },
  { name: 'a cluster over the L1 table', make: l2(0, 4096), corruptions: 1, leaks: 1 },
  { name: 'a cluster over its table', make: l2(0, 20_480), corruptions: 1, leaks: 1 },
  { name: 'one cluster twice', make: l2(1, 12_288), corruptions: 1, leaks: 1 },
  { name: 'clusters that nothing points at', make: bent(() => {}, 3 * cluster + 100), leaks: 3 },
  {
    name: 'a file that ends within a table',
    make: cut(good.length - 600),
    read: ['corrupt', 'L1 entry'],
    corruptions: 1,
    leaks: 2,
  },
])
