/** Malformed VHDs. */
import { type MalformedRow, testMalformed } from '../support/block-malformed.ts'
import { createIn, openForWritingIn } from '../support/block-subject.ts'
import { seal, subject } from './subject.ts'

/** 5 MiB and a little; blocks 0 and 1 hold data. Footer copy at 0, header at 512, table at 1536, blocks from 2048. */
async function make(options: string): Promise<Uint8Array> {
  const store = await createIn(subject, { options, size: 5 << 20 })
  const disk = await openForWritingIn(subject, store)
  await disk.write(1 << 20, new Uint8Array(5000).fill(1))
  await disk.write(3 << 20, new Uint8Array(5000).fill(2))
  await disk.close()
  return store.bytes()
}
const dynamic = await make('')
const fixed = await make('subformat=fixed')

type Edit = (view: DataView, bytes: Uint8Array) => void

/** Changes the footer's copy and makes its checksum right again. */
const footer =
  (edit: Edit): MalformedRow['make'] =>
  () => {
    const bytes = dynamic.slice()
    edit(new DataView(bytes.buffer), bytes)
    seal(bytes, 0, 512)
    // The one at the end says the same.
    bytes.copyWithin(bytes.length - 512, 0, 512)
    return bytes
  }

/** Changes the header and makes its checksum right again. */
const header =
  (edit: Edit): MalformedRow['make'] =>
  () => {
    const bytes = dynamic.slice()
    edit(new DataView(bytes.buffer, 512), bytes)
    seal(bytes, 512, 1024)
    return bytes
  }

const bent =
  (edit: Edit, image: Uint8Array = dynamic): MalformedRow['make'] =>
  () => {
    const bytes = image.slice()
    edit(new DataView(bytes.buffer), bytes)
    return bytes
  }

const tail =
  (edit: Edit): MalformedRow['make'] =>
  () => {
    const bytes = fixed.slice()
    edit(new DataView(bytes.buffer, bytes.length - 512), bytes)
    seal(bytes, bytes.length - 512, 512)
    return bytes
  }

const stricter = 'QEMU does not look at it'
const recovered = 'QEMU looks at one footer alone'

testMalformed(subject, [
  { name: 'a sound dynamic image', make: () => dynamic.slice() },
  { name: 'a sound fixed image', make: () => fixed.slice() },
  { name: 'an empty file', make: () => new Uint8Array(), open: ['not-this-format', 'cookie'] },
  { name: 'a file of 100 bytes', make: () => dynamic.slice(0, 100), open: ['corrupt', 'data_offset'] },
  { name: 'zeros', make: () => new Uint8Array(4096), open: ['not-this-format', 'cookie'] },
  {
    name: 'no cookie in either footer',
    make: bent((_view, bytes) => {
      bytes[0] = 0
      bytes[bytes.length - 512] = 0
    }),
    open: ['not-this-format', 'cookie'],
  },
  {
    name: 'no cookie at the start',
    make: bent((_view, bytes) => bytes.fill(0, 0, 8)),
    corruptions: 1,
    differs: recovered,
  },
  {
    name: 'a damaged copy at the start',
    make: bent((view) => view.setUint32(24, 1)),
    corruptions: 1,
    differs: recovered,
  },
  {
    name: 'both footers damaged',
    make: bent((view, bytes) => {
      view.setUint32(64, 0)
      view.setUint32(bytes.length - 512 + 64, 0)
    }),
    open: ['corrupt', 'checksum'],
  },
  {
    name: 'a damaged footer at the end',
    make: bent((_view, bytes) => bytes.fill(1, bytes.length - 300)),
    corruptions: 1,
  },
  { name: 'no footer at the end', make: () => dynamic.slice(0, dynamic.length - 512), corruptions: 1 },
  {
    name: 'footers that differ',
    make: () => {
      const bytes = dynamic.slice()
      bytes[bytes.length - 512 + 70] = 99
      seal(bytes, bytes.length - 512, 512)
      return bytes
    },
    corruptions: 1,
  },
  {
    name: 'version 2',
    make: footer((view) => view.setUint32(12, 0x20000)),
    open: ['unsupported', 'version'],
    differs: stricter,
  },
  { name: 'other features', make: footer((view) => view.setUint32(8, 3)) },
  {
    name: 'type 0',
    make: footer((view) => view.setUint32(60, 0)),
    open: ['unsupported', 'disk_type'],
    differs: stricter,
  },
  {
    name: 'type 5',
    make: footer((view) => view.setUint32(60, 5)),
    open: ['unsupported', 'disk_type'],
    differs: stricter,
  },
  {
    name: 'type 4 and no parent',
    make: footer((view) => view.setUint32(60, 4)),
    open: ['missing', 'parent_unique_id'],
    checks: true,
    differs: 'QEMU takes the parent for zeros',
  },
  { name: 'a header over the footer', make: footer((view) => view.setUint32(20, 0)), open: ['corrupt', 'cookie'] },
  {
    name: 'a header past the end',
    make: footer((view) => view.setUint32(16, 0xfff)),
    open: ['corrupt', 'data_offset'],
  },
  { name: 'a header nowhere', make: footer((view) => view.setBigInt64(16, -1n)), open: ['corrupt', 'data_offset'] },
  { name: 'no geometry', make: footer((view) => view.setUint32(56, 0)) },
  {
    name: 'a saturated geometry, and a current size past the table',
    make: footer((view) => {
      view.setUint32(56, 0xffff_10ff)
      view.setUint32(48, 1)
    }),
    open: ['invalid', 'max_table_entries'],
  },
  {
    name: 'a current size of 2^64 − 1',
    make: footer((view, bytes) => {
      bytes.set(new TextEncoder().encode('win '), 28)
      view.setBigInt64(48, -1n)
    }),
    open: ['limit', 'current_size'],
  },
  {
    name: 'a current size that is no multiple of 512',
    make: footer((view, bytes) => {
      bytes.set(new TextEncoder().encode('win '), 28)
      view.setUint32(52, (5 << 20) + 100)
    }),
  },
  { name: 'a saved state', make: footer((_view, bytes) => bytes.fill(1, 84, 85)) },
  { name: 'no header cookie', make: header((_view, bytes) => bytes.fill(0, 512, 520)), open: ['corrupt', 'cookie'] },
  {
    name: 'header version 2',
    make: header((view) => view.setUint32(24, 0x20000)),
    open: ['unsupported', 'header_version'],
    differs: stricter,
  },
  { name: 'a wrong header checksum', make: bent((view) => view.setUint32(512 + 36, 1)), corruptions: 1 },
  { name: 'no block size', make: header((view) => view.setUint32(32, 0)), open: ['invalid', 'block_size'] },
  {
    name: 'a block size of 3 MiB',
    make: header((view) => view.setUint32(32, 3 << 20)),
    open: ['invalid', 'block_size'],
  },
  { name: 'a block size of 256', make: header((view) => view.setUint32(32, 256)), open: ['invalid', 'block_size'] },
  {
    name: 'a block size of 2 GiB',
    make: header((view) => view.setUint32(32, 0x8000_0000)),
    open: ['corrupt', 'table entry'],
    corruptions: 3,
    checks: true,
  },
  { name: 'no entries', make: header((view) => view.setUint32(28, 0)), open: ['invalid', 'max_table_entries'] },
  { name: 'too few entries', make: header((view) => view.setUint32(28, 2)), open: ['invalid', 'max_table_entries'] },
  {
    name: '2^30 entries',
    make: header((view) => view.setUint32(28, 0x4000_0001)),
    open: ['limit', 'max_table_entries'],
  },
  {
    name: 'more entries than the file has',
    make: header((view) => view.setUint32(28, 0x1000_0000)),
    open: ['corrupt', 'table_offset'],
    differs: 'QEMU takes 1 GiB of memory first',
  },
  {
    name: 'a table past the end',
    make: header((view) => view.setUint32(20, 0x7fff_0000)),
    open: ['corrupt', 'table_offset'],
  },
  { name: 'a table of 2^64 − 1', make: header((view) => view.setBigInt64(16, -1n)), open: ['corrupt', 'table_offset'] },
  { name: 'a table over the footer', make: header((view) => view.setUint32(20, 0)), open: ['corrupt', 'table_offset'] },
  {
    name: 'a table over the header',
    make: header((view) => view.setUint32(20, 1024)),
    open: ['corrupt', 'table_offset'],
    differs: 'QEMU finds another fault',
  },
  {
    name: 'a block past the end',
    make: bent((view) => view.setUint32(1536, 0x00ff_ffff)),
    open: ['corrupt', 'table entry'],
    corruptions: 1,
    checks: true,
  },
  {
    name: 'a block over the header',
    make: bent((view) => view.setUint32(1536, 1)),
    corruptions: 1,
    differs: 'QEMU does not look at sector bitmaps',
  },
  {
    name: 'one place for two blocks',
    make: bent((view) => view.setUint32(1540, view.getUint32(1536))),
    corruptions: 1,
    leaks: 1,
  },
  {
    name: 'blocks that overlap',
    make: bent((view) => view.setUint32(1540, view.getUint32(1536) + 8)),
    corruptions: 1,
    differs: 'QEMU does not look at sector bitmaps',
  },
  {
    name: 'a file that ends within a block',
    make: () => dynamic.slice(0, dynamic.length - 5000),
    open: ['corrupt', 'table entry'],
    corruptions: 2,
    checks: true,
  },
  {
    name: 'a fixed image without its footer',
    make: () => fixed.slice(0, fixed.length - 512),
    open: ['not-this-format', 'cookie'],
  },
  {
    name: 'a fixed image with a wrong checksum',
    make: bent((view, bytes) => view.setUint32(bytes.length - 448, 0), fixed),
    open: ['corrupt', 'checksum'],
  },
  {
    name: 'a fixed image that is shorter than it says',
    make: tail((view, bytes) => {
      bytes.set(new TextEncoder().encode('win '), bytes.length - 512 + 28)
      view.setUint32(52, 6 << 20)
    }),
    corruptions: 1,
    differs: 'QEMU shows the footer to the guest',
  },
])
