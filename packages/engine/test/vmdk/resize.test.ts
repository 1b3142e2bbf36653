/** VMDK images that grow. */
import { readFileSync, statSync } from 'node:fs'
import { expect, it } from 'vitest'
import { kindsOf, testGrowing, testGrownAgainstQemu } from '../support/block-resize.ts'
import { createFile, withImage, withWritable } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { bytesSha, guestSha } from '../support/qemu.ts'
import { subject } from './subject.ts'

testGrowing(
  subject,
  // A grain table covers 32 MiB.
  kindsOf(subject).map((image, i) => (i === 0 ? { ...image, sizes: [...image.sizes, 33 << 20] } : image)),
)

testGrownAgainstQemu(subject, [
  { options: '', size: 5_500_416, sizes: [5_501_440, 70 << 20] },
  { options: 'zeroed_grain=on', size: 32 << 20, sizes: [(32 << 20) + 512] },
])

const folder = temporaryFolder()
describeWith(['qemu-img'], 'vmdk images of other kinds', () => {
  it.each(['monolithicFlat', 'vmfs'])('%s grow and shrink', async (subformat) => {
    const file = folder.fresh('.vmdk')
    const flat = file.replace('.vmdk', '-flat.vmdk')
    await createFile(file, 'vmdk', 1 << 20, `subformat=${subformat}`)
    const text = readFileSync(file, 'latin1')
    await withWritable(file, 'vmdk', async (disk) => {
      await disk.write(0, new Uint8Array(1 << 20).fill(3))
      await disk.resize(100 << 20)
      await disk.write((100 << 20) - 512, new Uint8Array(512).fill(4))
    })
    expect(statSync(flat).size).toBe(100 << 20)
    const wanted = new Uint8Array(100 << 20).fill(3, 0, 1 << 20).fill(4, (100 << 20) - 512)
    if (subformat === 'monolithicFlat') expect(await guestSha(file, 'vmdk')).toBe(bytesSha(wanted))
    await withWritable(file, 'vmdk', (disk) => disk.resize(1 << 20, 'off', true))
    expect(statSync(flat).size).toBe(1 << 20)
    const line = /^RW (\d+)/m
    expect(line.exec(readFileSync(file, 'latin1'))?.[1]).toBe(line.exec(text)?.[1])
    expect(await withImage(file, 'vmdk', async (disk) => disk.size)).toBe(1 << 20)
  })

  it.each(['streamOptimized', 'twoGbMaxExtentSparse'])('%s are refused', async (subformat) => {
    const file = folder.fresh('.vmdk')
    await createFile(file, 'vmdk', 1 << 20, `subformat=${subformat}`)
    const before = readFileSync(file)
    await withWritable(file, 'vmdk', async (disk) => {
      await expect(disk.resize(2 << 20)).rejects.toMatchObject({ kind: 'unsupported', field: 'createType' })
    })
    expect(Buffer.compare(readFileSync(file), before)).toBe(0)
  })
})
