/** Malformed VMDK images. */
import { testMalformed } from '../support/block-malformed.ts'
import { createIn, openForWritingIn } from '../support/block-subject.ts'
import { subject } from './subject.ts'

/** 4 MiB; grains 1 and 40 hold data, in this order. Directories in sectors 21 and 26, their tables in 22 and 27. */
const store = await createIn(subject, { options: '', size: 4 << 20 })
const disk = await openForWritingIn(subject, store)
await disk.write(65_536, new Uint8Array(5000).fill(1))
await disk.write(40 * 65_536, new Uint8Array(5000).fill(2))
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

/** The descriptor with a part replaced. */
function text(from: string | RegExp, to: string): () => Uint8Array {
  return bent((_view, bytes) => {
    const old = Buffer.from(bytes.subarray(512, 21 * 512)).toString('latin1')
    const changed = old.replace(from, to)
    if (changed === old) throw new Error('nothing was replaced')
    bytes.set(Buffer.from(changed.slice(0, 20 * 512).padEnd(20 * 512, '\0'), 'latin1'), 512)
  })
}

/** A descriptor file. */
const alone = (...lines: string[]) => {
  const head = ['# Disk DescriptorFile', 'version=1', 'CID=12345678', 'parentCID=ffffffff']
  return () => new Uint8Array(Buffer.from(`${[...head, ...lines].join('\n')}\n`))
}

const stricter = 'QEMU does not look at it'

testMalformed(subject, [
  { name: 'a sound image', make: () => good.slice() },
  { name: 'an empty file', make: () => new Uint8Array(), open: ['invalid', 'magic'] },
  { name: 'three bytes', make: () => good.slice(0, 3), open: ['invalid', 'magic'] },
  { name: 'the magic alone', make: () => good.slice(0, 4), open: ['invalid', 'numGTEsPerGT'] },
  { name: 'another magic', make: u32(0, 1), open: ['invalid', 'createType'] },
  { name: 'a COWD extent by itself', make: u32(0, 0x44574f43), open: ['invalid', 'descriptor'] },
  { name: 'version 4', make: u32(4, 4), open: ['unsupported', 'version'] },
  { name: 'version 2^32 − 1', make: u32(4, 0xffff_ffff), open: ['unsupported', 'version'] },
  { name: 'unknown features', make: u32(8, 0x80_0003), open: ['unsupported', 'flags'], differs: stricter },
  {
    name: 'an unknown compression',
    make: bent((view) => view.setUint16(77, 2, true)),
    open: ['unsupported', 'compressAlgorithm'],
    differs: stricter,
  },
  { name: 'mangled newlines', make: u32(73, 0x0a0d0a0d) },
  {
    name: 'a capacity of 2^64 − 1',
    make: u64(12, 2n ** 64n - 1n),
    open: ['invalid', 'capacity'],
    differs: 'QEMU counts modulo 2^64',
  },
  { name: 'a capacity of 2^44 sectors', make: u64(12, 2n ** 44n), open: ['invalid', 'capacity'] },
  { name: 'a capacity of one sector', make: u64(12, 1n) },
  { name: 'no capacity', make: u64(12, 0n), differs: 'QEMU reads the descriptor as one of other files' },
  { name: 'no grain size', make: u64(20, 0n), open: ['invalid', 'numGTEsPerGT'] },
  { name: 'grains of 2 GiB', make: u64(20, 2n ** 22n), open: ['invalid', 'grainSize'] },
  {
    name: 'grains of 2^63 sectors',
    make: u64(20, 2n ** 63n),
    open: ['invalid', 'grainSize'],
    differs: 'QEMU counts modulo 2^32',
  },
  { name: 'no table entries', make: u32(44, 0), open: ['invalid', 'numGTEsPerGT'] },
  { name: 'tables of 513 entries', make: u32(44, 513), open: ['invalid', 'numGTEsPerGT'] },
  { name: 'tables of 2^32 − 1 entries', make: u32(44, 0xffff_ffff), open: ['invalid', 'numGTEsPerGT'] },
  { name: 'grains past the end of the file', make: u64(64, 2n ** 40n), open: ['corrupt', 'overHead'] },
  { name: 'a directory of zeros', make: u64(56, 2000n) },
  {
    name: 'a directory at 2^62',
    make: u64(56, 2n ** 62n),
    differs: 'QEMU counts modulo 2^64',
    open: ['invalid', 'gdOffset'],
  },
  { name: 'a directory in a footer that is not there', make: u64(56, 2n ** 64n - 1n), open: ['invalid', 'footer'] },
  { name: 'no table', make: u32(26 * 512, 0) },
  {
    name: 'compressed, with grains of 1 GiB',
    make: bent((view) => {
      view.setUint16(77, 1, true)
      view.setBigUint64(20, 2n ** 21n, true)
    }),
    open: ['limit', 'grainSize'],
    differs: 'QEMU takes 3 GiB of memory for it',
  },
  { name: 'no descriptor', make: bent((_view, bytes) => bytes.fill(0, 512, 21 * 512)), open: ['invalid', 'CID'] },
  {
    name: 'no content identity',
    make: text(/^CID=.*\n/m, ''),
    open: ['invalid', 'CID'],
    differs: 'QEMU takes the parent’s for it',
  },
  { name: 'a content identity that is no number', make: text(/^CID=.*$/m, 'CID=xyz'), open: ['invalid', 'CID'] },
  { name: 'no parent identity', make: text(/^parentCID=.*\n/m, ''), open: ['invalid', 'parentCID'] },
  {
    name: 'two content identities',
    make: text(/^parentCID/m, 'cid=1\nparentCID'),
    open: ['invalid', 'cid'],
    differs: stricter,
  },
  {
    name: 'a parent without a name',
    make: text('parentCID=ffffffff', 'parentCID=11111111'),
    open: ['missing', 'parentFileNameHint'],
    checks: true,
    differs: 'QEMU reads zeros',
  },
  {
    name: 'a parent that is not there',
    make: text(/^createType/m, 'parentFileNameHint="nothing.vmdk"\ncreateType'),
    open: ['missing', undefined],
    checks: true,
  },
  { name: 'a descriptor without extents', make: alone('createType="custom"'), open: ['invalid', 'extents'] },
  { name: 'a descriptor without a type', make: alone('RW 1 ZERO'), open: ['invalid', 'createType'] },
  { name: 'a device', make: alone('createType="vmfsRDM"', 'RW 2 VMFSRDM "x"'), open: ['unsupported', 'createType'] },
  {
    name: 'an extent without a name',
    make: alone('createType="vmfs"', 'RW 2 VMFS'),
    open: ['invalid', 'extent'],
    differs: 'QEMU ends by an assertion',
  },
  {
    name: 'an extent of no sectors',
    make: alone('createType="vmfs"', 'RW 0 VMFS "x"'),
    open: ['invalid', 'extent'],
    differs: 'QEMU ends by an assertion',
  },
  {
    name: 'an extent of 2^63 sectors',
    make: alone('createType="custom"', 'RW 9223372036854775807 ZERO'),
    open: ['invalid', 'extent'],
  },
  {
    name: 'a flat extent without an offset',
    make: alone('createType="monolithicFlat"', 'RW 2 FLAT "x"'),
    open: ['invalid', 'extent'],
  },
  {
    name: 'an extent that is not there',
    make: alone('createType="vmfs"', 'RW 2 VMFS "nothing"'),
    open: ['missing', undefined],
  },
  {
    name: 'itself as an extent',
    make: alone('createType="vmfs"', 'RW 2 VMFS "malformed.vmdk"', 'RW 2 VMFS "copy.vmdk"'),
    open: ['invalid', 'extent'],
    differs: 'the name is that of another file there',
  },
  {
    name: 'sixty thousand extents',
    make: alone('createType="custom"', ...Array<string>(60_000).fill('RW 1 ZERO')),
    open: ['limit', 'extents'],
  },
])
