/** VMDKs that are more than one file, bent: extents that only ESX makes, and descriptors. */
import { writeFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { testMutation } from '../support/block-robustness.ts'
import { closing, diskSha, kindOf, openImage } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { cowdExtent, descriptorOf, seSparseExtent } from './extent-images.ts'

const cowd = descriptorOf('vmfsSparse', 'RW 20 VMFSSPARSE "cowd-delta.vmdk"')
const seSparse = descriptorOf('seSparse', 'RW 32 SESPARSE "sesparse.vmdk"')

const header32 = (index: number, value: number) => (view: DataView) => view.setUint32(4 + index * 4, value, true)
const field64 = (index: number, value: bigint) => (view: DataView) => view.setBigUint64(index * 8, value, true)

// What lies behind the end of a file reads as zeros, as in QEMU: an extent may end within its last grain.
describe('malformed extents of ESX', () => {
  const folder = temporaryFolder()

  it.each<[string, 'cowd' | 'seSparse', string, (view: DataView) => void]>([
    ['a sound extent', 'cowd', 'no error', header32(2, 20)],
    ['another magic', 'cowd', 'not-this-format', (view) => view.setUint32(0, 1)],
    ['another version', 'cowd', 'no error', header32(0, 2)],
    ['no sectors', 'cowd', 'corrupt', header32(2, 0)],
    ['2^32 − 1 sectors', 'cowd', 'invalid', header32(2, 0xffff_ffff)],
    ['no grain size', 'cowd', 'invalid', header32(3, 0)],
    ['grains of 2 TiB', 'cowd', 'invalid', header32(3, 0xffff_ffff)],
    ['a directory past the file', 'cowd', 'no error', header32(4, 0x7fff_ffff)],
    ['no directory entries', 'cowd', 'invalid', header32(5, 0)],
    ['2^32 − 1 directory entries', 'cowd', 'invalid', header32(5, 0xffff_ffff)],
    ['a table past the file', 'cowd', 'no error', (view) => view.setUint32(4 * 512, 0x7fff_ffff, true)],
    ['a grain past the file', 'cowd', 'no error', (view) => view.setUint32(5 * 512 + 12, 0x7fff_ffff, true)],
    ['a grain over the header', 'cowd', 'no error', (view) => view.setUint32(5 * 512 + 12, 1, true)],
    ['a sound extent', 'seSparse', 'no error', field64(2, 32n)],
    ['another magic', 'seSparse', 'unsupported', field64(0, 1n)],
    ['another version', 'seSparse', 'unsupported', field64(1, 0x300000001n)],
    ['no sectors', 'seSparse', 'corrupt', field64(2, 0n)],
    ['2^64 − 1 sectors', 'seSparse', 'invalid', field64(2, 2n ** 64n - 1n)],
    ['no grain size', 'seSparse', 'unsupported', field64(3, 0n)],
    ['grains of 2^63 sectors', 'seSparse', 'unsupported', field64(3, 2n ** 63n)],
    ['tables of no sectors', 'seSparse', 'unsupported', field64(4, 0n)],
    ['tables of 2^40 sectors', 'seSparse', 'unsupported', field64(4, 2n ** 40n)],
    ['a volatile header past the file', 'seSparse', 'unsupported', field64(10, 2n ** 40n)],
    ['a directory past the file', 'seSparse', 'no error', field64(16, 2n ** 40n)],
    ['a directory of 2^40 sectors', 'seSparse', 'invalid', field64(17, 2n ** 40n)],
    ['tables past the file', 'seSparse', 'no error', field64(18, 2n ** 40n)],
    ['grains past the file', 'seSparse', 'no error', field64(24, 2n ** 40n)],
    ['a journal that must be replayed', 'seSparse', 'unsupported', (view) => view.setUint8(512 + 40, 1)],
    ['another volatile magic', 'seSparse', 'unsupported', (view) => view.setBigUint64(512, 1n, true)],
    [
      'a directory entry of no kind',
      'seSparse',
      'corrupt',
      (view) => view.setBigUint64(2 * 512, 0x7000_0000_0000_0000n, true),
    ],
    [
      'a table number past the file',
      'seSparse',
      'no error',
      (view) => view.setBigUint64(2 * 512, 0x1000_0000_7fff_ffffn, true),
    ],
    [
      'a grain entry of no kind',
      'seSparse',
      'corrupt',
      (view) => view.setBigUint64(3 * 512, 0x7000_0000_0000_0000n, true),
    ],
    [
      'a grain number past the file',
      'seSparse',
      'corrupt',
      (view) => view.setBigUint64(3 * 512, 0x3fff_ffff_ffff_ffffn, true),
    ],
  ])('%s (%s: %s)', async (_name, kind, expected, edit) => {
    const bytes = kind === 'cowd' ? cowdExtent() : seSparseExtent()
    edit(new DataView(bytes.buffer))
    writeFileSync(folder.file(kind === 'cowd' ? 'cowd-delta.vmdk' : 'sesparse.vmdk'), bytes)
    const file = folder.file('image.vmdk')
    writeFileSync(file, kind === 'cowd' ? cowd : seSparse)
    const began = performance.now()
    const reading = openImage(file, 'vmdk').then((disk) => closing(disk, (opened) => diskSha(opened)))
    expect(await kindOf(reading)).toBe(expected)
    expect(performance.now() - began).toBeLessThan(1000)
  })
})

testMutation(
  { format: 'vmdk' },
  [cowdExtent()],
  [
    [0, 36],
    [4 * 512, 4],
    [5 * 512, 80],
  ],
  { extent: { name: 'cowd-delta.vmdk', descriptor: cowd }, ms: 3000 },
)

testMutation(
  { format: 'vmdk' },
  [seSparseExtent()],
  [
    [0, 208],
    [512, 16],
    [2 * 512, 8],
    [3 * 512, 32],
  ],
  { extent: { name: 'sesparse.vmdk', descriptor: seSparse }, ms: 3000 },
)

// Digits and quotes in the place of others; the file names itself, and files that are not there.
const texts = [
  descriptorOf('custom', 'RW 4 FLAT "mutated.vmdk" 0', 'RW 3 ZERO', 'NOACCESS 4 FLAT "/dev/nothing" 0'),
  descriptorOf('monolithicFlat', 'RW 2 FLAT "mutated.vmdk" 1', 'ddb.adapterType = "ide"', 'ddb.geometry.heads = "16"'),
  descriptorOf('twoGbMaxExtentSparse', 'RW 2048 SPARSE "mutated.vmdk"', 'RW 2048 SPARSE "gone.vmdk"'),
]
testMutation(
  { format: 'vmdk' },
  texts.map((text) => new TextEncoder().encode(text)),
  [
    [0, 230],
    [30, 100],
    [100, 100],
  ],
  { ms: 3000 },
)
