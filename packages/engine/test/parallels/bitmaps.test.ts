/** Dirty bitmaps in the format extension: read, and kept by writers. */
import { readFileSync, writeFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { md5 } from '../../src/bytes/md5.ts'
import { newExtension } from '../../src/format/parallels/extension.ts'
import { checkFile, createFile, kindOf, openImage, withImage, withWritable } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { qemuImg } from '../support/qemu.ts'

const folder = temporaryFolder()
const cluster = 64 << 10
const size = 4 << 20
const granularity = 4096
const id = Uint8Array.from({ length: 16 }, (_, i) => i * 17)
const name = '00112233-4455-6677-8899-aabbccddeeff'

/** An image with one cluster of data, the extension behind it, and, for `bits`, a cluster of bits behind that. */
async function imageWith(entry: 'clear' | 'set' | Uint8Array, edit: (extension: Uint8Array) => void = () => {}) {
  const file = folder.fresh('.hds')
  await createFile(file, 'parallels', size, 'cluster_size=64k')
  await withWritable(file, 'parallels', (disk) => disk.write(1 << 20, new Uint8Array(cluster).fill(3)))
  const image = readFileSync(file)
  expect(image.length).toBe(2 * cluster)
  const entries = [entry === 'clear' ? 0n : entry === 'set' ? 1n : BigInt((3 * cluster) / 512)]
  const extension = newExtension(cluster, { id, size, granularity, entries })
  edit(extension)
  const bits = new Uint8Array(typeof entry === 'string' ? 0 : cluster)
  if (typeof entry !== 'string') bits.set(entry)
  const whole = Buffer.concat([image, extension, bits])
  whole.writeBigUInt64LE(BigInt((2 * cluster) / 512), 56)
  writeFileSync(file, whole)
  return file
}

async function rangesOf(file: string): Promise<[number, number][]> {
  return withImage(file, 'parallels', async (disk) => {
    const found: [number, number][] = []
    for await (const batch of disk.bitmaps?.ranges(name) ?? []) {
      for (const { offset, length } of batch) found.push([offset, length])
    }
    return found
  })
}

it('md5 is that of RFC 1321', () => {
  const hex = (text: string) => Buffer.from(md5(new TextEncoder().encode(text))).toString('hex')
  expect(hex('')).toBe('d41d8cd98f00b204e9800998ecf8427e')
  expect(hex('message digest')).toBe('f96b697d7cb7938d525a2f31aaf161d0')
  expect(hex('1234567890'.repeat(8))).toBe('57edf4a22be3c955ac49da2e2107b67a')
})

it('bitmaps are listed and read', async () => {
  const file = await imageWith(Uint8Array.of(0b0000_0110, 0xff, 0, 0x80))
  await withImage(file, 'parallels', async (disk) => {
    expect(disk.bitmaps?.list()).toEqual([{ name, granularity, enabled: true, inconsistent: false }])
    expect(disk.bitmaps?.size).toBe(size)
  })
  expect(await rangesOf(file)).toEqual([
    [granularity, 2 * granularity],
    [8 * granularity, 8 * granularity],
    [31 * granularity, granularity],
  ])
  expect(await rangesOf(await imageWith('set'))).toEqual([[0, size]])
  expect(await rangesOf(await imageWith('clear'))).toEqual([])
  await withImage(file, 'parallels', async (disk) => {
    const reading = (async () => {
      for await (const _ of disk.bitmaps?.ranges('another') ?? []);
    })()
    expect(await kindOf(reading)).toBe('missing')
  })
})

it('a writer keeps them: what it wrote is dirty too, and nothing more', async () => {
  for (const entry of ['clear', 'set', Uint8Array.of(1)] as const) {
    const file = await imageWith(entry)
    const before = await rangesOf(file)
    await withWritable(file, 'parallels', async (disk) => {
      await disk.write(2 << 20, new Uint8Array(10).fill(9))
      await disk.flush()
      // Whoever looks now must take everything for dirty.
      expect(await rangesOf(file)).toEqual([[0, size]])
      await disk.zero((3 << 20) + 5, 10, 'allocate')
    })
    const after = entry === 'set' ? before : [...before, [2 << 20, cluster], [3 << 20, cluster]]
    expect(await rangesOf(file), String(entry)).toEqual(after)
    expect((await checkFile(file, 'parallels')).lines).toEqual([])
    await withImage(file, 'parallels', async (disk) => {
      const bytes = new Uint8Array(2 * cluster)
      await disk.read(1 << 20, bytes)
      expect(bytes.subarray(0, cluster).every((byte) => byte === 3)).toBe(true)
      expect(bytes.subarray(cluster).every((byte) => byte === 0)).toBe(true)
    })
  }
})

it('an image that is only opened for writing stays as it was', async () => {
  const file = await imageWith(Uint8Array.of(1, 2, 3))
  const before = readFileSync(file)
  await withWritable(file, 'parallels', async () => {})
  expect(Buffer.compare(before, readFileSync(file))).toBe(0)
})

it('damaged extensions are named', async () => {
  const fix = (bytes: Uint8Array) => bytes.set(md5(bytes.subarray(24)), 8)
  const cases: [string, (bytes: Uint8Array) => void][] = [
    ['corrupt', (bytes) => bytes.fill(0, 0, 8)],
    ['corrupt', (bytes) => bytes.fill(1, 30, 31)],
    ['corrupt', (bytes) => fix(bytes.fill(0xff, 40, 44))],
    ['corrupt', (bytes) => fix(bytes.fill(3, 72, 76))],
    ['corrupt', (bytes) => fix(bytes.fill(9, 76, 80))],
    [
      'unsupported',
      (bytes) => {
        bytes.fill(7, 24, 32)
        bytes[32] = 1
        fix(bytes)
      },
    ],
  ]
  for (const [kind, edit] of cases) {
    expect(await kindOf(openImage(await imageWith('clear', edit), 'parallels'))).toBe(kind)
  }
})

describeWith(['qemu-img'], 'extensions as QEMU sees them', () => {
  it('what is written here QEMU reads', async () => {
    const file = await imageWith(Uint8Array.of(1))
    await qemuImg('info', '-f', 'parallels', file)
    await withWritable(file, 'parallels', (disk) => disk.write(0, new Uint8Array(100)))
    await qemuImg('info', '-f', 'parallels', file)
    const damaged = await imageWith('clear', (bytes) => bytes.fill(1, 30, 31))
    await expect(qemuImg('info', '-f', 'parallels', damaged)).rejects.toThrow(/checksum/)
  })
})
