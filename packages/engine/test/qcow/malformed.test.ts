/** Malformed qcow images. */
import { testMalformed } from '../support/block-malformed.ts'
import { createIn, openForWritingIn } from '../support/block-subject.ts'
import { subject } from './subject.ts'

/** 4 MiB; in the file come header and L1 table, the first L2 table (4096), its two clusters (8192, 12288), the second table (16384), its cluster. */
const store = await createIn(subject, { options: '', size: 4 << 20 })
const disk = await openForWritingIn(subject, store)
await disk.write(1 << 20, new Uint8Array(8000).fill(1))
await disk.write(3 << 20, new Uint8Array(3000).fill(2))
await disk.close()
const good = store.bytes()

function bent(edit: (view: DataView) => void): () => Uint8Array {
  return () => {
    const bytes = good.slice()
    edit(new DataView(bytes.buffer))
    return bytes
  }
}

const u8 = (at: number, value: number) => bent((view) => view.setUint8(at, value))
const u32 = (at: number, value: number) => bent((view) => view.setUint32(at, value))
const u64 = (at: number, value: bigint) => bent((view) => view.setBigUint64(at, value))
const l1 = (index: number, value: bigint) => u64(48 + index * 8, value)
/** The entries of the clusters at 1 MiB and after it. */
const l2 = (index: number, value: bigint) => u64(4096 + (256 + index) * 8, value)
const cut = (length: number) => () => good.slice(0, length)

testMalformed(subject, [
  { name: 'a sound image', make: () => good.slice() },
  { name: 'an empty file', make: cut(0), open: ['not-this-format', 'magic'] },
  { name: 'another magic', make: u32(0, 1), open: ['not-this-format', 'magic'] },
  { name: 'version 0', make: u32(4, 0), open: ['unsupported', 'version'] },
  { name: 'version 2', make: u32(4, 2), open: ['unsupported', 'version'] },
  { name: 'a disk of 1 byte', make: u64(24, 1n), open: ['invalid', 'size'] },
  { name: 'a disk of 2 bytes', make: u64(24, 2n) },
  { name: 'a disk of 2^64 − 1', make: u64(24, 2n ** 64n - 1n), open: ['invalid', 'size'] },
  { name: 'a disk of 2^50', make: u64(24, 2n ** 50n), open: ['invalid', 'size'] },
  {
    name: 'a disk of 2^48',
    make: u64(24, 2n ** 48n),
    read: ['corrupt', 'L2 entry'],
    // Whatever lies behind the L1 table is taken for entries.
    corruptions: 1380,
    differs: 'QEMU would write 256 TiB',
  },
  { name: 'clusters of 256', make: u8(32, 8), open: ['invalid', 'cluster_bits'] },
  { name: 'clusters of 128 KiB', make: u8(32, 17), open: ['invalid', 'cluster_bits'] },
  { name: 'L2 tables of 256', make: u8(33, 5), open: ['invalid', 'l2_bits'] },
  { name: 'L2 tables of 128 KiB', make: u8(33, 14), open: ['invalid', 'l2_bits'] },
  { name: 'encryption 2', make: u32(36, 2), open: ['invalid', 'crypt_method'] },
  { name: 'encryption', make: u32(36, 1), open: ['denied', 'encrypt.key-secret'], checks: true },
  {
    name: 'an L1 table over the header',
    make: u64(40, 8n),
    open: ['corrupt', 'l1_table_offset'],
    differs: 'QEMU takes the header for entries',
  },
  { name: 'an L1 table past the file', make: u64(40, 2n ** 40n) },
  {
    name: 'a backing file with a name of 1024',
    make: bent((view) => {
      view.setBigUint64(8, 48n)
      view.setUint32(16, 1024)
    }),
    open: ['invalid', 'backing_file_size'],
  },
  {
    name: 'a name past the file',
    make: bent((view) => {
      view.setBigUint64(8, 2n ** 40n)
      view.setUint32(16, 10)
    }),
    open: ['corrupt', 'backing_file_offset'],
    differs: 'QEMU reads an empty name there',
  },
  { name: 'a table past the file', make: l1(0, 2n ** 40n), corruptions: 1 },
  {
    name: 'a table past any file',
    make: l1(0, 2n ** 60n),
    read: ['corrupt', 'L1 entry'],
    corruptions: 1,
    differs: 'QEMU reads zeros',
  },
  {
    name: 'a table over the L1 table',
    make: l1(0, 48n),
    read: ['corrupt', 'L1 entry'],
    corruptions: 1,
    differs: 'QEMU takes what lies there for entries',
  },
  { name: 'one table twice', make: l1(1, 4096n), corruptions: 1 },
  { name: 'a cluster off the sectors', make: l2(0, 8193n), read: ['corrupt', 'L2 entry'], corruptions: 1 },
  { name: 'a cluster past the file', make: l2(0, 2n ** 40n), corruptions: 1 },
  { name: 'a cluster over the header', make: l2(0, 512n), corruptions: 1 },
  { name: 'one cluster twice', make: l2(1, 8192n), corruptions: 1 },
  {
    name: 'a packed cluster of garbage',
    make: l2(0, (1n << 63n) | (100n << 51n) | 8192n),
    read: ['corrupt', 'compressed data'],
    maps: true,
  },
  {
    name: 'a packed cluster past the file',
    make: l2(0, (1n << 63n) | (100n << 51n) | (2n ** 45n)),
    read: ['corrupt', 'compressed data'],
    maps: true,
    corruptions: 1,
  },
  { name: 'a file that ends within a cluster', make: cut(8192 + 600), corruptions: 2 },
])
