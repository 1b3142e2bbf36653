/** Malformed Parallels images. */
import { testMalformed } from '../support/block-malformed.ts'
import { createIn, openForWritingIn } from '../support/block-subject.ts'
import { subject } from './subject.ts'

const cluster = 64 << 10
/** 4 MiB in clusters of 64 KiB; clusters 16 and 48 hold data, at 1 and 2 in the file. */
const store = await createIn(subject, { options: 'cluster_size=64k', size: 4 << 20 })
const disk = await openForWritingIn(subject, store)
await disk.write(1 << 20, new Uint8Array(5000).fill(1))
await disk.write(3 << 20, new Uint8Array(5000).fill(2))
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
const entry = (index: number, value: number) => u32(64 + index * 4, value)
const cut = (length: number) => () => good.slice(0, length)
const zerosThere = 'QEMU reads zeros, or what lies there'

testMalformed(subject, [
  { name: 'a sound image', make: () => good.slice() },
  { name: 'an empty file', make: cut(0), open: ['not-this-format', 'magic'] },
  { name: 'another magic', make: u32(0, 1), open: ['not-this-format', 'magic'] },
  { name: 'version 3', make: u32(16, 3), open: ['not-this-format', 'magic'] },
  { name: 'no sectors in a cluster', make: u32(28, 0), open: ['invalid', 'tracks'] },
  { name: 'clusters of 2 TiB', make: u32(28, 0xffff_ffff), open: ['invalid', 'tracks'] },
  { name: '2^32 − 1 entries', make: u32(32, 0xffff_ffff), open: ['invalid', 'bat_entries'] },
  {
    name: 'more entries than the file has room for',
    make: u32(32, 0x1000_0000),
    open: ['corrupt', 'bat_entries'],
    differs: 'QEMU takes 1 GiB of memory first',
  },
  { name: 'fewer entries than the disk has clusters', make: u32(32, 20), leaks: 1 },
  { name: 'no entries', make: u32(32, 0), leaks: 2 },
  { name: 'a disk of no bytes', make: u64(36, 0n) },
  { name: 'a disk of 2^64 − 1 sectors', make: u64(36, 2n ** 64n - 1n), open: ['limit', 'nb_sectors'] },
  { name: 'a disk longer than its entries', make: u64(36, 16_384n) },
  { name: 'not closed', make: u32(44, 0x746f_6e59), corruptions: 1 },
  { name: 'closed by Parallels', make: u32(44, 0x312e_3276) },
  { name: 'another in_use', make: u32(44, 5) },
  { name: 'no data offset', make: u32(48, 0) },
  { name: 'a data offset past the file', make: u32(48, 0x7fff_ffff) },
  { name: 'an extension past the file', make: u64(56, 2n ** 40n), open: ['corrupt', 'ext_off'] },
  { name: 'an extension that is none', make: u64(56, 128n), open: ['corrupt', 'ext_magic'] },
  {
    name: 'an entry past the file',
    make: entry(3, 99),
    read: ['corrupt', 'BAT entry'],
    corruptions: 1,
    differs: zerosThere,
  },
  {
    name: 'an entry of 2^32 − 1',
    make: entry(3, 0xffff_ffff),
    read: ['corrupt', 'BAT entry'],
    corruptions: 1,
    differs: zerosThere,
  },
  { name: 'an entry at the end of the file', make: entry(3, 3) },
  { name: 'one place for two clusters', make: entry(3, 1), corruptions: 1 },
  { name: 'space behind the last cluster', make: bent(() => {}, 2 * cluster + 5), leaks: 3 },
  { name: 'a file that ends within a cluster', make: cut(2 * cluster + 600) },
  {
    name: 'a file that ends before a cluster',
    make: cut(cluster + 600),
    read: ['corrupt', 'BAT entry'],
    corruptions: 1,
    differs: zerosThere,
  },
  {
    name: 'a file that ends within the table',
    make: cut(100),
    open: ['corrupt', 'bat_entries'],
    differs: 'QEMU takes what is missing for zeros',
  },
])
