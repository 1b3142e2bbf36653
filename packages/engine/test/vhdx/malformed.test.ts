/** Malformed VHDX images. */
import { testMalformed } from '../support/block-malformed.ts'
import { createIn, openForWritingIn } from '../support/block-subject.ts'
import { fixChecksum, itemAt, itemEntryAt, metadataAt, setEntry, setItem } from './structure.ts'
import { subject } from './subject.ts'

/** 4 MiB in blocks of 1 MiB; blocks 1 and 3 hold data, in this order, at 8 and 9 MiB. */
const store = await createIn(subject, { options: 'block_size=1M', size: 4 << 20 })
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

const headers = [65_536, 131_072]
const tables = [196_608, 262_144]
/** Both headers changed, with sound checksums. */
const header = (edit: (view: DataView, at: number) => void) =>
  bent((view, bytes) => {
    for (const at of headers) {
      edit(view, at)
      fixChecksum(bytes, at, 4096)
    }
  })
/** Both region tables changed, with sound checksums. */
const regions = (edit: (view: DataView, at: number) => void) =>
  bent((view, bytes) => {
    for (const at of tables) {
      edit(view, at)
      fixChecksum(bytes, at, 65_536)
    }
  })
const item = (...args: [name: Parameters<typeof setItem>[1], content: number]) =>
  bent((_view, bytes) => setItem(bytes, ...args))
const entry = (index: number, value: bigint) => bent((_view, bytes) => setEntry(bytes, index, value))
/** A byte changed at each of the places. */
const damage = (places: number[]) =>
  bent((view) => {
    for (const at of places) view.setUint8(at, 1)
  })
const cut = (length: number) => () => good.slice(0, length)

const stricter = 'QEMU does not look at it'

testMalformed(subject, [
  { name: 'a sound image', make: () => good.slice() },
  { name: 'an empty file', make: cut(0), open: ['not-this-format', 'signature'] },
  { name: 'another signature', make: bent((view) => view.setUint8(0, 0)), open: ['not-this-format', 'signature'] },
  { name: 'no headers', make: cut(65_536), open: ['corrupt', 'headers'] },
  { name: 'the second header damaged', make: bent((view) => view.setUint8(131_072 + 90, 1)) },
  {
    name: 'both headers damaged',
    make: damage(headers.map((at) => at + 90)),
    open: ['corrupt', 'headers'],
  },
  {
    name: 'one number for two headers',
    make: bent((view, bytes) => {
      bytes.copyWithin(131_072, 65_536, 65_536 + 4096)
      view.setUint8(131_072 + 16, view.getUint8(131_072 + 16) ^ 1)
      fixChecksum(bytes, 131_072, 4096)
    }),
    open: ['corrupt', 'headers'],
  },
  { name: 'one header twice', make: bent((_view, bytes) => bytes.copyWithin(131_072, 65_536, 65_536 + 4096)) },
  { name: 'version 2', make: header((view, at) => view.setUint16(at + 66, 2, true)), open: ['corrupt', 'headers'] },
  {
    name: 'log version 1',
    make: header((view, at) => view.setUint16(at + 64, 1, true)),
    open: ['unsupported', 'log version'],
  },
  {
    name: 'a log at 0',
    make: header((view, at) => view.setBigUint64(at + 72, 0n, true)),
    open: ['invalid', 'log offset'],
  },
  {
    name: 'a log off the MiB',
    make: header((view, at) => view.setBigUint64(at + 72, (1n << 20n) + 4096n, true)),
    open: ['invalid', 'log offset'],
  },
  {
    name: 'a log at 2^64 − 1 MiB',
    make: header((view, at) => view.setBigUint64(at + 72, 2n ** 64n - (1n << 20n), true)),
    open: ['invalid', 'log offset'],
    differs: stricter,
  },
  {
    name: 'a log over the table',
    make: header((view, at) => view.setUint32(at + 68, 2 << 20, true)),
    open: ['corrupt', 'region offset'],
  },
  {
    name: 'a log of 4 GiB less 1 MiB that must be replayed',
    make: header((view, at) => {
      view.setUint32(at + 68, 0xfff0_0000, true)
      view.setUint8(at + 48, 1)
    }),
    open: ['limit', 'log length'],
    differs: 'QEMU reads on past the end of the file',
  },
  {
    name: 'a log past the end that must be replayed',
    make: header((view, at) => {
      view.setBigUint64(at + 72, 64n << 20n, true)
      view.setUint8(at + 48, 1)
    }),
    open: ['corrupt', 'log offset'],
    differs: 'QEMU reads zeros past the end of the file',
  },
  { name: 'an empty log that must be replayed', make: header((view, at) => view.setUint8(at + 48, 1)) },
  {
    name: 'the first region table damaged',
    make: bent((view) => view.setUint8(196_608 + 100, 1)),
    differs: 'QEMU looks at the first only',
  },
  {
    name: 'both region tables damaged',
    make: damage(tables.map((at) => at + 100)),
    open: ['corrupt', 'region table'],
  },
  {
    name: 'no regions',
    make: regions((view, at) => view.setUint32(at + 8, 0, true)),
    open: ['corrupt', 'region table'],
  },
  {
    name: '2048 regions',
    make: regions((view, at) => view.setUint32(at + 8, 2048, true)),
    open: ['invalid', 'region count'],
  },
  {
    name: 'one region twice',
    make: regions((view, at) => {
      for (let i = 0; i < 16; i++) view.setUint8(at + 48 + i, view.getUint8(at + 16 + i))
    }),
    open: ['invalid', 'region'],
  },
  {
    name: 'an unknown region that is required',
    make: regions((view, at) => {
      view.setUint32(at + 8, 3, true)
      view.setUint8(at + 80, 1)
      view.setBigUint64(at + 96, 5n << 20n, true)
      view.setUint32(at + 104, 1 << 20, true)
      view.setUint32(at + 108, 1, true)
    }),
    open: ['unsupported', 'region'],
  },
  {
    name: 'an unknown region that is not required',
    make: regions((view, at) => {
      view.setUint32(at + 8, 3, true)
      view.setUint8(at + 80, 1)
      view.setBigUint64(at + 96, 5n << 20n, true)
      view.setUint32(at + 104, 1 << 20, true)
    }),
  },
  {
    name: 'a region at 0',
    make: regions((view, at) => view.setBigUint64(at + 32, 0n, true)),
    open: ['invalid', 'region offset'],
  },
  {
    name: 'a region past the end',
    make: regions((view, at) => view.setBigUint64(at + 32, 1n << 40n, true)),
    open: ['invalid', 'region offset'],
    differs: 'QEMU reads zeros past the end of the file',
  },
  {
    name: 'a region of no bytes',
    make: regions((view, at) => view.setUint32(at + 40, 0, true)),
    open: ['invalid', 'region length'],
  },
  {
    name: 'two regions in one place',
    make: regions((view, at) => view.setBigUint64(at + 64, 2n << 20n, true)),
    open: ['corrupt', 'region offset'],
  },
  {
    name: 'another metadata signature',
    make: bent((_view, bytes) => bytes.fill(0, metadataAt(bytes), metadataAt(bytes) + 1)),
    open: ['corrupt', 'metadata table'],
  },
  {
    name: '65535 items',
    make: bent((view, bytes) => view.setUint16(metadataAt(bytes) + 10, 65_535, true)),
    open: ['invalid', 'metadata count'],
  },
  {
    name: 'no items',
    make: bent((view, bytes) => view.setUint16(metadataAt(bytes) + 10, 0, true)),
    open: ['unsupported', 'file parameters'],
  },
  {
    name: 'an unknown item that is required',
    make: bent((_view, bytes) =>
      bytes.fill(1, itemEntryAt(bytes, 'virtualDiskId'), itemEntryAt(bytes, 'virtualDiskId') + 16),
    ),
    open: ['unsupported', 'metadata item'],
  },
  {
    name: 'an item in the table',
    make: bent((view, bytes) => view.setUint32(itemEntryAt(bytes, 'virtualDiskSize') + 16, 0, true)),
    open: ['invalid', 'metadata item offset'],
    differs: stricter,
  },
  {
    name: 'an item past the region',
    make: bent((view, bytes) => view.setUint32(itemEntryAt(bytes, 'virtualDiskSize') + 16, 0xffff_fff0, true)),
    open: ['invalid', 'metadata item offset'],
  },
  {
    name: 'an item that is too short',
    make: bent((view, bytes) => view.setUint32(itemEntryAt(bytes, 'virtualDiskSize') + 20, 4, true)),
    open: ['invalid', 'virtual disk size'],
    differs: stricter,
  },
  {
    name: 'an item that is too long',
    make: bent((view, bytes) => view.setUint32(itemEntryAt(bytes, 'virtualDiskSize') + 20, 0xffff_ffff, true)),
    open: ['invalid', 'metadata item offset'],
    differs: stricter,
  },
  { name: 'blocks of 0 bytes', make: item('fileParameters', 0), open: ['invalid', 'block size'] },
  { name: 'blocks of 3 MiB', make: item('fileParameters', 3 << 20), open: ['invalid', 'block size'] },
  { name: 'blocks of 512 MiB', make: item('fileParameters', 512 << 20), open: ['invalid', 'block size'] },
  {
    name: 'a parent without a locator',
    make: bent((view, bytes) => view.setUint32(itemAt(bytes, 'fileParameters') + 4, 2, true)),
    open: ['invalid', 'parent locator'],
  },
  { name: 'sectors of 1024 bytes', make: item('logicalSectorSize', 1024), open: ['invalid', 'logical sector size'] },
  {
    name: 'physical sectors of 0 bytes',
    make: item('physicalSectorSize', 0),
    open: ['invalid', 'physical sector size'],
    differs: stricter,
  },
  {
    name: 'a disk of 4 MiB and a byte',
    make: item('virtualDiskSize', (4 << 20) + 1),
    open: ['invalid', 'virtual disk size'],
    differs: stricter,
  },
  {
    name: 'a disk of 2^64 − 1',
    make: bent((view, bytes) => view.setBigUint64(itemAt(bytes, 'virtualDiskSize'), 2n ** 64n - 1n, true)),
    open: ['invalid', 'virtual disk size'],
  },
  {
    name: 'a disk that the table has no room for',
    make: bent((view, bytes) => view.setBigUint64(itemAt(bytes, 'virtualDiskSize'), 1n << 40n, true)),
    open: ['invalid', 'region length'],
  },
  { name: 'state 4', make: entry(1, 4n), read: ['corrupt', 'state of block 1'], corruptions: 1 },
  {
    name: 'a block there in part, without a parent',
    make: entry(1, (8n << 20n) | 7n),
    read: ['corrupt', 'state of block 1'],
    corruptions: 1,
  },
  { name: 'an undefined block', make: entry(1, 1n) },
  { name: 'a block of zeros with a place', make: entry(1, (8n << 20n) | 2n) },
  { name: 'an unmapped block', make: entry(1, (8n << 20n) | 3n) },
  {
    name: 'a block past the end',
    make: entry(1, (100n << 20n) | 6n),
    read: ['corrupt', 'offset of block 1'],
    corruptions: 1,
  },
  {
    name: 'a block at 2^64',
    make: entry(1, 2n ** 64n - (1n << 20n) + 6n),
    read: ['corrupt', 'offset of block 1'],
    corruptions: 1,
  },
  {
    name: 'a block at 0',
    make: entry(1, 6n),
    read: ['corrupt', 'offset of block 1'],
    corruptions: 1,
    differs: 'QEMU reads the headers',
  },
  {
    name: 'a block over the table',
    make: entry(1, (2n << 20n) | 6n),
    read: ['corrupt', 'offset of block 1'],
    corruptions: 1,
  },
  { name: 'one place for two blocks', make: entry(2, (8n << 20n) | 6n), corruptions: 1 },
  { name: 'reserved bits', make: entry(1, (8n << 20n) | 0xffff8n | 6n) },
  {
    name: 'a file that ends within a block',
    make: cut((9 << 20) + 4096),
    read: ['corrupt', 'offset of block 3'],
    corruptions: 1,
  },
  { name: 'a file that ends within the table', make: cut((2 << 20) + 4096), open: ['invalid', 'region offset'] },
])
