/** Malformed VDI images. */
import { testMalformed } from '../support/block-malformed.ts'
import { createIn, openForWritingIn } from '../support/block-subject.ts'
import { subject } from './subject.ts'

/** 4 MiB; blocks 1 and 3 hold data, in this order. */
const store = await createIn(subject, { options: '', size: 4 << 20 })
const disk = await openForWritingIn(subject, store)
await disk.write(1 << 20, new Uint8Array(5000).fill(1))
await disk.write(3 << 20, new Uint8Array(5000).fill(2))
await disk.close()
const good = store.bytes()

type Edit = (view: DataView, bytes: Uint8Array) => void

function bent(edit: Edit): () => Uint8Array {
  return () => {
    const bytes = good.slice()
    edit(new DataView(bytes.buffer), bytes)
    return bytes
  }
}

const u32 = (at: number, value: number) => bent((view) => view.setUint32(at, value, true))
const u64 = (at: number, value: bigint) => bent((view) => view.setBigUint64(at, value, true))
const map = (block: number, value: number) => u32(512 + block * 4, value)
const cut = (length: number) => () => good.slice(0, length)

const stricter = 'QEMU reads it, though it contradicts itself'

testMalformed(subject, [
  { name: 'a sound image', make: () => good.slice() },
  { name: 'an empty file', make: cut(0), open: ['not-this-format', 'signature'] },
  { name: 'cut before the signature', make: cut(60), open: ['not-this-format', 'signature'] },
  { name: 'another signature', make: u32(64, 1), open: ['not-this-format', 'signature'] },
  { name: 'version 0.1', make: u32(68, 1), open: ['unsupported', 'version'] },
  { name: 'version 1.2', make: u32(68, 0x10002), open: ['unsupported', 'version'] },
  { name: 'another header size', make: u32(72, 0xffff_ffff) },
  { name: 'type 0', make: u32(76, 0), open: ['unsupported', 'image_type'], differs: stricter },
  { name: 'type 5', make: u32(76, 5), open: ['unsupported', 'image_type'], differs: stricter },
  { name: 'a differencing image without a parent', make: u32(76, 4) },
  { name: 'unknown flags', make: u32(80, 0xffff_ffff) },
  { name: 'a map over the header', make: u32(340, 0), open: ['corrupt', 'offset_bmap'], differs: stricter },
  { name: 'a map off the sectors', make: u32(340, 513), open: ['unsupported', 'offset_bmap'] },
  {
    name: 'a map past the end of the file',
    make: bent((view) => {
      view.setUint32(340, 0x7fff_fe00, true)
      view.setUint32(344, 0x8000_0000, true)
    }),
    open: ['corrupt', 'blocks_in_image'],
    differs: stricter,
  },
  { name: 'blocks over the map', make: u32(344, 512), open: ['corrupt', 'offset_data'], differs: stricter },
  { name: 'blocks off the sectors', make: u32(344, 1025), open: ['unsupported', 'offset_data'] },
  { name: 'blocks past the end of the file', make: u32(344, 0x7fff_fe00) },
  { name: 'sectors of 4096', make: u32(360, 4096), open: ['unsupported', 'sector_size'] },
  { name: 'no sector size', make: u32(360, 0), open: ['unsupported', 'sector_size'] },
  { name: 'a disk larger than the blocks', make: u64(368, 5n << 20n), open: ['invalid', 'disk_size'] },
  { name: 'a disk of 2^64 − 1', make: u64(368, 2n ** 64n - 1n), open: ['unsupported', 'disk_size'] },
  { name: 'a disk of 2^53', make: u64(368, 2n ** 53n), open: ['unsupported', 'disk_size'] },
  { name: 'a disk of no bytes', make: u64(368, 0n) },
  { name: 'a disk of 4 MiB less a byte', make: u64(368, (4n << 20n) - 1n) },
  { name: 'a disk of 3 MiB and a byte', make: u64(368, (3n << 20n) + 1n) },
  { name: 'no block size', make: u32(376, 0), open: ['unsupported', 'block_size'] },
  { name: 'a block size of 3 MiB', make: u32(376, 3 << 20), open: ['unsupported', 'block_size'] },
  { name: 'a block size of 2^31', make: u32(376, 0x8000_0000), open: ['unsupported', 'block_size'] },
  {
    name: 'a block extra off the sectors',
    make: u32(380, 100),
    open: ['unsupported', 'block_extra'],
    differs: 'QEMU does not look at it',
  },
  { name: 'a block extra', make: u32(380, 512), differs: 'QEMU does not look at it' },
  { name: 'no blocks', make: u32(384, 0), open: ['invalid', 'disk_size'] },
  {
    name: 'more blocks than the file has a map for',
    make: u32(384, 0x1fff_ff80),
    open: ['corrupt', 'offset_data'],
    differs: 'QEMU takes 2 GiB of memory first',
  },
  { name: '2^32 − 1 blocks', make: u32(384, 0xffff_ffff), open: ['unsupported', 'blocks_in_image'] },
  { name: 'a count of blocks that is too high', make: u32(388, 99), corruptions: 1 },
  { name: 'a count of blocks that is too low', make: u32(388, 0), corruptions: 1 },
  {
    name: 'an entry past the blocks',
    make: map(1, 4),
    read: ['corrupt', 'block map entry'],
    corruptions: 2,
    differs: 'QEMU reads zeros, or what lies there',
  },
  {
    name: 'an entry of 0xfffffffd',
    make: map(1, 0xffff_fffd),
    read: ['corrupt', 'block map entry'],
    corruptions: 2,
    differs: 'QEMU reads zeros',
  },
  { name: 'a discarded block', make: map(1, 0xffff_fffe), corruptions: 1 },
  { name: 'one place for two blocks', make: map(2, 1), corruptions: 2 },
  { name: 'a file that ends within a block', make: cut(1024 + (1 << 20) + 600) },
  { name: 'a file that ends with the map', make: cut(1024) },
  {
    name: 'a file that ends within the map',
    make: cut(520),
    open: ['corrupt', 'blocks_in_image'],
    differs: 'QEMU takes what is missing for zeros: every block lies at the first place',
  },
])
