/** VMDK images that grow. */
import { readFileSync, statSync } from 'node:fs'
import { defaultLimits } from '@moraine/engine'
import { expect, it } from 'vitest'
import { kindsOf, testGrowing, testGrownAgainstQemu } from '../support/block-resize.ts'
import { createIn, openForWritingIn, openIn } from '../support/block-subject.ts'
import { closing, createFile, withImage, withWritable } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { memoryHost } from '../support/journal-host.ts'
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

it('a descriptor keeps the bytes of its names', async () => {
  // In UTF-8 the letter has a byte that Windows' code page has elsewhere.
  for (const subformat of ['monolithicSparse', 'monolithicFlat']) {
    const file = folder.fresh('-Stra\u00dfe.vmdk')
    await createFile(file, 'vmdk', 1 << 20, `subformat=${subformat}`)
    const descriptor = () => readFileSync(file).toString('utf8', 0, 4096)
    const names = descriptor().match(/"[^"]*\u00dfe[^"]*"/)
    expect(names).not.toBeNull()
    await withWritable(file, 'vmdk', async (disk) => {
      await disk.resize(300 << 20)
      await disk.write(0, new Uint8Array(512).fill(3))
    })
    expect(descriptor()).toContain(names?.[0])
    await withImage(file, 'vmdk', async (disk) => {
      const bytes = new Uint8Array(512)
      await disk.read(0, bytes)
      expect([disk.size, bytes[511]]).toEqual([300 << 20, 3])
    })
  }
})

it('nothing changes where the descriptor has no room for the size', async () => {
  const store = await createIn(subject, { options: '', size: 1 << 20 })
  const text = new Uint8Array(20 * 512)
  await store.read(512, text)
  text.fill('\n'.charCodeAt(0), text.indexOf(0))
  await store.write(512, text)
  const disk = await openForWritingIn(subject, store)
  await expect(disk.resize(2 ** 40)).rejects.toMatchObject({ kind: 'invalid', field: 'extent', value: 20 * 512 + 12 })
  expect(disk.size).toBe(1 << 20)
  await disk.close()
  expect(await closing(await openIn(subject, store), async ({ size }) => size)).toBe(1 << 20)
})

it('a table for each of many new grains needs no more memory than the caller gives', async () => {
  const host = memoryHost()
  await host.create({ name: 'base.vmdk', format: 'vmdk', size: 2 ** 38 })
  await host.create({
    name: 'top.vmdk',
    format: 'vmdk',
    options: 'zeroed_grain=on',
    size: 2 ** 38,
    parent: { name: 'base.vmdk', format: 'vmdk' },
  })
  const file = host.file('top.vmdk')
  // As VMware makes them: directories without tables.
  const header = new DataView(new ArrayBuffer(512))
  await file.read(0, new Uint8Array(header.buffer))
  for (const at of [48, 56]) await file.zero(Number(header.getBigUint64(at, true)) * 512, 8192 * 4, 'unmap')
  const limits = { ...defaultLimits, cacheBytes: 256 * 1024 }
  const disk = await host.openForWriting('top.vmdk', 'vmdk', undefined, limits)
  const before = file.size
  await disk.zero(0, disk.size, 'unmap')
  // 8192 tables of 2 KiB and their copies, nearly all of which went into the file as they were made.
  expect(file.size - before).toBeGreaterThan(7500 * 4096)
  await disk.close()
})

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
