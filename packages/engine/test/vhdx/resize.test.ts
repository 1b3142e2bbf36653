/** VHDX images that grow and shrink. */
import { expect, it } from 'vitest'
import { kindsOf, testGrowing, testGrownAgainstQemu } from '../support/block-resize.ts'
import { checkIn, createIn, openForWritingIn, openIn, wholeOf } from '../support/block-subject.ts'
import { closing, createFile, withWritable } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { qemuCheck } from '../support/qemu.ts'
import { subject } from './subject.ts'

testGrowing(subject, kindsOf(subject))

testGrownAgainstQemu(subject, [
  { options: 'block_size=1M', size: 5_500_416, sizes: [5_501_440, 40 << 20] },
  { options: 'subformat=fixed,block_size=2M', size: 4 << 20, sizes: [9 << 20] },
])

it('become smaller, and gain zeros again', async () => {
  for (const kind of subject.kinds) {
    const store = await createIn(subject, kind)
    const disk = await openForWritingIn(subject, store)
    await disk.write(0, new Uint8Array(kind.size).fill(7))
    await disk.resize(2_500_096, 'off', true)
    await disk.resize(kind.size)
    await disk.close()
    const bytes = await closing(await openIn(subject, store), wholeOf)
    expect(bytes.subarray(0, 2_500_096).every((byte) => byte === 7)).toBe(true)
    expect(bytes.subarray(2_500_096).every((byte) => byte === 0)).toBe(true)
    expect((await checkIn(subject, store, 'none')).lines).toEqual([])
  }
})

const folder = temporaryFolder()
describeWith(['qemu-img'], 'a table that moves', () => {
  it('to the end of the file, keeps what it says', async () => {
    const file = folder.fresh('.vhdx')
    // A table of 1 MiB holds 131072 entries, of blocks of 1 MiB and of bitmaps.
    await createFile(file, 'vhdx', 2 ** 30, 'block_size=1M')
    const far = 2 ** 38 + 4096
    await withWritable(file, 'vhdx', async (disk) => {
      await disk.write(5 << 20, new Uint8Array(4096).fill(3))
      await disk.resize(2 ** 38 + 8192)
      await disk.write(far, new Uint8Array(4096).fill(4))
    })
    expect(await qemuCheck(file, 'vhdx')).toMatchObject({ 'check-errors': 0 })
    await withWritable(file, 'vhdx', async (disk) => {
      expect(disk.size).toBe(2 ** 38 + 8192)
      for (const [at, value] of [
        [5 << 20, 3],
        [far, 4],
        [9 << 20, 0],
      ] as const) {
        const bytes = new Uint8Array(4096)
        await disk.read(at, bytes)
        expect(bytes.every((byte) => byte === value)).toBe(true)
      }
    })
  })
})
