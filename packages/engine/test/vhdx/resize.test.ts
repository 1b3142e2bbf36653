/** VHDX images that grow and shrink. */
import { defaultLimits, MemoryStore } from '@moraine/engine'
import { expect, it } from 'vitest'
import { kindsOf, testGrowing, testGrownAgainstQemu } from '../support/block-resize.ts'
import { checkIn, createIn, openForWritingIn, openIn, wholeOf } from '../support/block-subject.ts'
import { closing, createFile, withWritable } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { memoryHost } from '../support/journal-host.ts'
import { describeWith } from '../support/process.ts'
import { qemuCheck } from '../support/qemu.ts'
import { setEntry } from './structure.ts'
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

it.each([
  ['the headers', 0n],
  ['the log', 1n << 20n],
  ['nothing', 1n << 40n],
])('do not shrink where a block that goes lies over %s', async (_name, offset) => {
  const store = await createIn(subject, { options: 'block_size=1M', size: 4 << 20 })
  await closing(await openForWritingIn(subject, store), (disk) => disk.write(0, new Uint8Array(4 << 20).fill(7)))
  const image = new Uint8Array(store.size)
  await store.read(0, image)
  setEntry(image, 3, offset + 6n)
  const bent = MemoryStore.from(image)
  const disk = await openForWritingIn(subject, bent)
  await expect(disk.resize(1 << 20, 'off', true)).rejects.toMatchObject({
    kind: 'corrupt',
    field: 'offset of block 3',
    value: Number(offset),
  })
  await disk.close()
  const after = await openIn(subject, bent)
  const bytes = new Uint8Array(3 << 20)
  await after.read(0, bytes)
  await after.close()
  expect(bytes.every((byte) => byte === 7)).toBe(true)
})

it('zeros over a parent need no more memory than the caller gives', async () => {
  const host = memoryHost()
  await host.create({ name: 'base.vhdx', format: 'vhdx', options: 'block_size=1M', size: 2 ** 38 })
  await host.create({
    name: 'top.vhdx',
    format: 'vhdx',
    options: 'block_size=1M',
    size: 2 ** 38,
    parent: { name: 'base.vhdx', format: 'vhdx' },
  })
  const limits = { ...defaultLimits, cacheBytes: 256 * 1024 }
  const disk = await host.openForWriting('top.vhdx', 'vhdx', undefined, limits)
  await disk.zero(0, disk.size, 'unmap')
  // Nothing was flushed, and yet most of the table's 2 MiB are in the file. Behind 4096 entries of blocks stands one of a bitmap.
  const table = new Uint8Array(1 << 20)
  const place = new DataView(new ArrayBuffer(8))
  await host.file('top.vhdx').read(196_608 + 16 + 16, new Uint8Array(place.buffer))
  await host.file('top.vhdx').read(Number(place.getBigUint64(0, true)), table)
  expect(table.filter((byte) => byte !== 0).length).toBe(131_072 - 31)
  await disk.close()
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
