/** Faults by name: each header with one field bent, the check that fails, and a sentence that names field, value and rule. */
import type { CheckName } from '@moraine/engine'
import { describe, expect, it } from 'vitest'
import * as images from './images.ts'
import { failures, look, sentenceFor } from './look.ts'

const MiB = 1024 * 1024

/** What is offered, the check that fails, and what its sentence says. */
type Row = [what: string, data: Buffer, check: CheckName, said: RegExp]

const u32 = (at: number, value: number) => (data: Buffer) => void data.writeUInt32BE(value, at)
const u64 = (at: number, value: bigint) => (data: Buffer) => void data.writeBigUInt64BE(value, at)
const u32le = (at: number, value: number) => (data: Buffer) => void data.writeUInt32LE(value, at)
const u64le = (at: number, value: bigint) => (data: Buffer) => void data.writeBigUInt64LE(value, at)
const all =
  (...bends: ((data: Buffer) => void)[]) =>
  (data: Buffer) => {
    for (const bend of bends) bend(data)
  }

const qcow2Rows: Row[] = [
  [
    'a backing file',
    images.qcow2(u64(8, 512n)),
    'backing-file',
    /names a backing file \(backing_file_offset is 512; rule: 0\)/,
  ],
  [
    'a data file',
    images.qcow2(u64(72, 4n)),
    'data-file',
    /external data file \(incompatible_features is "0x4"; rule: bit 2 is 0\)/,
  ],
  ['an unknown feature', images.qcow2(u64(72, 32n)), 'unknown-features', /unknown incompatible features \(20 hex/],
  ['a feature of the top bit', images.qcow2(u64(72, 1n << 63n)), 'unknown-features', /0x8000000000000000/],
  ['version 9', images.qcow2(u32(4, 9)), 'header', /qcow2 version 9 is not known \(version is 9; rule: 2 or 3\)/],
  ['no more than 90 bytes', images.qcow2().subarray(0, 90), 'header', /the header is cut \(bytes is 90/],
  ['clusters of 2^40', images.qcow2(u32(20, 40)), 'header', /cluster_bits is 40/],
  [
    'clusters too small for extended L2',
    images.qcow2(all(u64(72, 16n), u32(20, 9))),
    'header',
    /cluster_bits is 9; rule: 14 to 21/,
  ],
  ['a table between clusters', images.qcow2(u64(40, 196609n)), 'header', /l1_table_offset is 196609/],
  ['a header longer than a cluster', images.qcow2(u32(100, 1 << 20)), 'header', /header_length is 1048576/],
  [
    'a compression type without its bit',
    images.qcow2((data) => data.writeUInt8(1, 104)),
    'header',
    /compression_type is 1/,
  ],
  ['an endless extension', images.qcow2(all(u32(112, 7), u32(116, 0xffffffff))), 'header', /extension is too long/],
  ['a size past all disks', images.qcow2(u64(24, 1n << 62n)), 'header', /size is 4611686018427387904/],
  [
    'a giant L1 table',
    images.qcow2(u32(36, 0x7fffffff)),
    'table-sizes',
    /l1_size is 2147483647; rule: at most 4194304/,
  ],
  [
    'an L1 table that is too short',
    images.qcow2(u64(24, 1n << 40n)),
    'table-sizes',
    /does not cover the disk \(l1_size is 1; rule: at least 2048/,
  ],
  ['an L1 table past the end', images.qcow2(u64(40, 1n << 30n)), 'table-sizes', /passes the end/],
  ['a giant refcount table', images.qcow2(u32(56, 1 << 20)), 'table-sizes', /refcount_table_clusters is 1048576/],
  [
    'a million snapshots',
    images.qcow2(u32(60, 1_000_000)),
    'table-sizes',
    /nb_snapshots is 1000000; rule: at most 65536/,
  ],
  ['a qcow with a backing file', images.qcow(u64(8, 100n)), 'backing-file', /names a backing file/],
  ['a qcow with a giant table', images.qcow(u64(24, 1n << 62n)), 'table-sizes', /L1 table is too large/],
  ['a QED with a backing file', images.qed(u64le(16, 1n)), 'backing-file', /names a backing file/],
  ['a QED with unknown features', images.qed(u64le(16, 8n)), 'unknown-features', /features is "0x8"/],
]

const { descriptor } = images
const text = (...parts: Parameters<typeof descriptor>) => images.vmdk(descriptor(...parts))
const sparse = (bend: images.Bend) => images.vmdk(undefined, bend)
const vmdkRows: Row[] = [
  [
    'a flat subformat',
    text('monolithicFlat', 'RW 4096 FLAT "/etc/passwd" 0'),
    'external-extents',
    /subformat "monolithicflat" is not taken/,
  ],
  [
    'a flat extent behind a safe subformat',
    text('monolithicSparse', 'RW 4096 FLAT "passwd" 0'),
    'external-extents',
    /extent type is "FLAT"; rule: SPARSE/,
  ],
  [
    'a name in another folder',
    text('monolithicSparse', 'RW 1 SPARSE "../x.vmdk"'),
    'external-extents',
    /in another folder \(extent is/,
  ],
  ['a Windows path', text('monolithicSparse', 'RW 1 SPARSE "C:\\x.vmdk"'), 'external-extents', /in another folder/],
  [
    'a second extent',
    text('monolithicSparse', 'RW 1 SPARSE "a"\nRW 1 SPARSE "b"'),
    'external-extents',
    /extents is 2; rule: 1/,
  ],
  [
    'a second extent with other blanks',
    text('monolithicSparse', 'RW 1 SPARSE "a"\n\trdonly\t1\tFLAT "b" 0'),
    'external-extents',
    /extents is 2/,
  ],
  ['no extent', text('monolithicSparse', ''), 'descriptor', /has no extent/],
  ['no descriptor', images.vmdk(''), 'descriptor', /there is no descriptor/],
  ['no type', images.vmdk(descriptor().replace(/createType.*\n/, '')), 'descriptor', /does not say what it is/],
  [
    'a type in a comment alone',
    images.vmdk(descriptor().replace('createType', '#createType')),
    'descriptor',
    /does not say what it is/,
  ],
  [
    'two types',
    text(undefined, undefined, 'createType="vmfs"'),
    'descriptor',
    /does not say what it is \(createType is 2; rule: once/,
  ],
  ['two CIDs', text(undefined, undefined, 'CID=2'), 'descriptor', /says something twice \(cid/],
  [
    'a line of its own kind',
    text(undefined, undefined, 'open /etc/passwd'),
    'descriptor',
    /no known kind \(line is "open \/etc\/passwd"/,
  ],
  ['letters that are none', text(undefined, undefined, 'x="\xe9"'), 'descriptor', /not plain text/],
  [
    'a second descriptor behind a NUL',
    images.vmdk(`${descriptor()}\0\nRW 1 FLAT "/etc/passwd" 0\n`),
    'descriptor',
    /more text follows/,
  ],
  [
    'a parent',
    text(undefined, undefined, 'parentFileNameHint="base.vmdk"'),
    'parent-locator',
    /names a parent \(parentFileNameHint is "base.vmdk"/,
  ],
  [
    'a parent by its CID',
    images.vmdk(descriptor().replace('ffffffff', '12345678')),
    'parent-locator',
    /parentCID is "12345678"/,
  ],
  ['version 4', sparse(u32le(4, 4)), 'header', /version 4 is not known/],
  ['a cut header', images.vmdk().subarray(0, 500), 'header', /the header is cut/],
  ['a descriptor in sector 2', sparse(u64le(28, 2n)), 'descriptor', /not in sector 1 \(descriptorOffset is 2; rule: 1/],
  ['no descriptor of its own', sparse(u64le(28, 0n)), 'descriptor', /a part of another image/],
  ['grains of nothing', sparse(u64le(20, 0n)), 'header', /grainSize is 0/],
  ['grains of no power of two', sparse(u64le(20, 3456n)), 'header', /grainSize is 3456/],
  ['tables of nothing', sparse(u32le(44, 0)), 'header', /numGTEsPerGT is 0; rule: 1 to 512/],
  ['giant tables', sparse(u32le(44, 0x10000)), 'header', /numGTEsPerGT is 65536/],
  ['converted line ends', sparse((data) => data.writeUInt8(0x0d, 73)), 'header', /line ends were converted/],
  ['unknown flags', sparse(u32le(8, 0x80003)), 'unknown-features', /flags is "0x80003"/],
  ['an unknown compression', sparse((data) => data.writeUInt16LE(2, 77)), 'header', /compressAlgorithm is 2/],
  ['a giant directory', sparse(u64le(12, 1n << 43n)), 'table-sizes', /grain directory is too large/],
  ['a directory past the end', sparse(u64le(56, 1n << 40n)), 'table-sizes', /past the end of the file \(gdOffset/],
  ['a missing footer', sparse(u64le(56, 0xffff_ffff_ffff_ffffn)), 'footer', /the footer is missing/],
  [
    'a footer of another size',
    images.streamOptimized((data, at) => data.writeBigUInt64LE(8192n, at + 12)),
    'footer',
    /do not agree \(capacity is 8192; rule: 4096, as in the header/,
  ],
  [
    'a footer with another descriptor',
    images.streamOptimized((data, at) => data.writeBigUInt64LE(7n, at + 28)),
    'footer',
    /descriptorOffset is 7/,
  ],
  [
    'a footer without a place',
    images.streamOptimized((data, at) => data.writeBigUInt64LE(0xffff_ffff_ffff_ffffn, at + 56)),
    'footer',
    /neither says/,
  ],
  [
    'a footer pointing past the end',
    images.streamOptimized((data, at) => data.writeBigUInt64LE(1n << 40n, at + 56)),
    'table-sizes',
    /gdOffset of the footer/,
  ],
  ['a footer only', images.streamOptimized((data) => data.fill(0, 0, 4)), 'header', /it has a footer only/],
]

const restRows: Row[] = [
  [
    'a differencing VHD',
    images.dynamicVhd(4),
    'parent-locator',
    /differencing disk: it names a parent \(disk type is 4; rule: 2 or 3/,
  ],
  [
    'parent locators in a dynamic VHD',
    images.dynamicVhd(3, (header) => header.write('W2ku', 576)),
    'parent-locator',
    /it has parent locators/,
  ],
  [
    'a VHD with a giant table',
    images.dynamicVhd(3, u32(28, 1073741825)),
    'table-sizes',
    /max table entries is 1073741825; rule: at most/,
  ],
  [
    'a VHD with too few blocks',
    images.dynamicVhd(3, u32(28, 1)),
    'table-sizes',
    /does not cover the disk \(max table entries is 1; rule: at least 2/,
  ],
  ['a VHD with odd blocks', images.dynamicVhd(3, u32(32, 3_000_000)), 'header', /block size is 3000000/],
  [
    'a VHD whose copy has a wrong checksum',
    bendAt(images.dynamicVhd(), 100),
    'header',
    /checksum of the footer copy is wrong/,
  ],
  [
    'a VHD whose header has a wrong checksum',
    bendAt(images.dynamicVhd(), 512 + 900),
    'header',
    /checksum of the dynamic disk header/,
  ],
  [
    'a VHD whose footers disagree',
    Buffer.concat([images.dynamicVhd().subarray(0, -512), images.vhdFooter(8 * MiB, 3)]),
    'footer',
    /do not agree \(currentSize is 8388608; rule: 4194304, as in the copy/,
  ],
  [
    'a dynamic VHD without its copy',
    Buffer.concat([Buffer.alloc(512), images.dynamicVhd().subarray(512)]),
    'footer',
    /copy of the footer in front is missing/,
  ],
  ['an undo VDI', images.vdi(u32le(76, 3)), 'parent-locator', /undo or differencing image: it belongs to a parent/],
  ['a VDI with a parent', images.vdi((data) => data.fill(7, 424, 440)), 'parent-locator', /names a parent \(UUID link/],
  ['a VDI of version 0', images.vdi(u32le(68, 0)), 'header', /version is 0; rule: 0x00010001/],
  ['a VDI with a giant map', images.vdi(u32le(384, 0xffffffff)), 'table-sizes', /blocks is 4294967295; rule: at most/],
  [
    'a VDI with too few blocks',
    images.vdi(u64le(368, 1n << 40n)),
    'table-sizes',
    /blocks is 2; rule: at least 1048576/,
  ],
  ['a VDI that is cut', images.vdi().subarray(0, 200), 'header', /the header is cut/],
  [
    'a VHDX without metadata',
    Buffer.concat([Buffer.from('vhdxfile'), Buffer.alloc(512 * 1024)]),
    'header',
    /its metadata cannot be found/,
  ],
  [
    'a Parallels disk with a giant table',
    images.parallels(u32le(32, 0xffffffff)),
    'table-sizes',
    /BAT entries is 4294967295/,
  ],
  ['a Parallels disk of version 3', images.parallels(u32le(16, 3)), 'header', /version is 3; rule: 2/],
  [
    'a Parallels disk with an unknown feature',
    images.parallels((data) => {
      data.writeBigUInt64LE(1024n, 56)
      data.writeBigUInt64LE(0xab234cef23dcea87n, 512 * 1024)
      data.writeBigUInt64LE(77n, 512 * 1024 + 24)
      data.writeBigUInt64LE(1n, 512 * 1024 + 32)
    }),
    'unknown-features',
    /feature section is "0x4d"/,
  ],
  [
    'a Bochs redolog with a giant catalog',
    images.bochs(u32le(72, 0x7fffffff)),
    'table-sizes',
    /catalog entries is 2147483647/,
  ],
  [
    'an undoable Bochs redolog',
    images.bochs((data) => data.write('Undoable', 48)),
    'parent-locator',
    /subtype is "Undoable"/,
  ],
  ['a cloop with a giant table', images.cloop(u32(132, 0xfffffff0)), 'table-sizes', /blocks is 4294967280/],
  ['a cloop whose offsets fall', images.cloop(u64(144, 20n)), 'table-sizes', /offsets do not rise/],
  ['a DMG with giant tables', images.dmg(u64(0xe0, 1n << 30n)), 'table-sizes', /plist length is 1073741824/],
  ['a DMG in segments', images.dmg(u32(0x3c, 3)), 'external-extents', /segment count is 3; rule: 1/],
  ['a DMG that points past itself', images.dmg(u64(0x20, 1n << 40n)), 'footer', /points past itself/],
  [
    'a LUKS with a dear key',
    images.luks1(u32(212, 0xffffffff)),
    'table-sizes',
    /iterations is 4294967295; rule: at most 12000000/,
  ],
  ['a LUKS of version 3', images.luks1((data) => data.writeUInt16BE(3, 6)), 'header', /LUKS version 3 is not known/],
  ['a LUKS2 without JSON', images.luks2('no'), 'header', /no JSON/],
  [
    'a protective entry that is not alone',
    images.gpt((data) => data.set([0, 0, 0, 0, 0x83, 0, 0, 0, 5, 0, 0, 0, 5, 0, 0, 0], 462)),
    'partition-table',
    /not alone \(type of entry 1 is 131; rule: 0/,
  ],
  [
    'a protective entry that begins elsewhere',
    images.gpt((data) => data.writeUInt32LE(2, 454)),
    'partition-table',
    /first sector is 2; rule: 1/,
  ],
  [
    'a GPT without a protective entry',
    images.gpt((data) => data.fill(0, 446, 510)),
    'partition-table',
    /no protective MBR/,
  ],
  ['a GPT with a wrong checksum', bendAt(images.gpt(), 570), 'partition-table', /checksum of the GPT header/],
  ['a GPT with wrong entries', bendAt(images.gpt(), 5000), 'partition-table', /checksum of the GPT is wrong/],
  [
    'a GPT with a giant table',
    images.gpt((data) => data.writeUInt32LE(0xffffffff, 592)),
    'partition-table',
    /impossible table/,
  ],
  [
    'an MBR that protects nothing',
    images.withMbr(undefined, (data) => data.set([0, 0, 2, 0, 0xee, 0, 0, 0, 1], 446)),
    'partition-table',
    /protects a GPT that is not there/,
  ],
  ['an OVF with entities', images.ovf(['a'], '<!DOCTYPE x [<!ENTITY a "b">]>'), 'descriptor', /declares entities/],
  ['an OVF that names a file elsewhere', images.ovf(['../a.vmdk']), 'external-extents', /href is "\.\.\/a.vmdk"/],
  [
    'an OVF that hides a name',
    Buffer.from(images.ovf(['/etc/a']).toString().replace('="f0"', '=">"')),
    'external-extents',
    /\/etc\/a/,
  ],
  [
    'an OVF that names a URL',
    images.ovf(['http://example.org/a.vmdk']),
    'external-extents',
    /names a file in another place/,
  ],
  [
    'an OVA whose OVF names a file elsewhere',
    images.tar([{ name: 'a.ovf', data: images.ovf(['/etc/passwd']) }]),
    'external-extents',
    /another place/,
  ],
  [
    'a tar that leaves its folder',
    images.tar([{ name: '../x' }]),
    'members',
    /leaves the folder \(member is "\.\.\/x"/,
  ],
  ['a tar with an absolute name', images.tar([{ name: '/etc/x' }]), 'members', /absolute name/],
  ['a tar with a link', images.tar([{ name: 'x', type: '2' }]), 'members', /no plain file/],
  ['a tar with a name twice', images.tar([{ name: 'x' }, { name: 'x' }]), 'members', /one name/],
  [
    'a tar that is cut',
    images.tar([{ name: 'x', data: Buffer.alloc(8192) }]).subarray(0, 4096),
    'members',
    /passes the end/,
  ],
  ['a tar with a damaged header', bendAt(images.tar([{ name: 'x' }]), 3), 'header', /damaged/],
]

function bendAt(data: Buffer, at: number): Buffer {
  data.writeUInt8(data.readUInt8(at) ^ 0x55, at)
  return data
}

describe.each([
  ['qcow2, qcow and QED', qcow2Rows],
  ['VMDK', vmdkRows],
  ['the others', restRows],
])('%s', (_group, rows) => {
  it.each(rows)('%s', async (_what, data, check, said) => {
    const found = await look(data)
    expect(failures(found)).toContain(check)
    expect(found.verdict).toBe('failed')
    expect(sentenceFor(found, check)).toMatch(said)
  })
})

describe('texts that are made to be slow', () => {
  const start = images
    .ovf([])
    .toString()
    .replace(/<\/.*$/s, '')
  // Patterns that go back and forth took seconds for 128 KiB of these.
  it.each([
    ['a tag without an end', `<File ${'a'.repeat(120_000)}`],
    ['many tags without an end', `<File ${'a'.repeat(2000)}`.repeat(60)],
    ['names without values', `<File ${'href '.repeat(24_000)}`],
    ['blanks', `<File href${' '.repeat(120_000)}`],
    ['prefixes', `<File ${'a:'.repeat(60_000)}`],
    ['openings', '<'.repeat(120_000)],
  ])('%s', async (_what, text) => {
    const begin = performance.now()
    const found = await look(Buffer.from(start + text))
    expect(found.findings.map(({ format }) => format)).toContain('ovf')
    expect(performance.now() - begin).toBeLessThan(1000)
  })
})
