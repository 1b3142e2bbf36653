/** VMDKs of several files and of parts that no file has; chains; streams. */
import { readFileSync, writeFileSync } from 'node:fs'
import { basename } from 'node:path'
import { planConversion } from '@moraine/engine'
import { describe, expect, it } from 'vitest'
import { closing, createFile, formatOf, kindOf, mapOf, openImage, openWritable, withImage } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { bytesSha, guestSha } from '../support/qemu.ts'
import { Random } from '../support/random.ts'
import { cowdExtent, descriptorOf, seSparseExtent } from './extent-images.ts'

const folder = temporaryFolder()
const random = new Random(4)

/** A descriptor file of these extent lines. */
function descriptor(createType: string, ...lines: string[]): string {
  const file = folder.fresh('.vmdk')
  writeFileSync(file, descriptorOf(createType, ...lines))
  return file
}

async function wholeOf(path: string): Promise<Uint8Array> {
  return withImage(path, 'vmdk', async (disk) => {
    const bytes = new Uint8Array(disk.size)
    await disk.read(0, bytes)
    return bytes
  })
}

describe('extents of vmdk images', () => {
  it('are put together in their order: flat ones, zeros, and what may only be read', async () => {
    const flat = folder.fresh('.bin')
    const content = random.bytes(8 * 512)
    writeFileSync(flat, content)
    const name = basename(flat)
    const file = descriptor('custom', `RW 4 FLAT "${name}" 1`, 'RW 3 ZERO', `RDONLY 2 FLAT "${name}" 6`)
    const expected = new Uint8Array(9 * 512)
    expected.set(content.subarray(512, 5 * 512))
    expected.set(content.subarray(6 * 512), 7 * 512)
    expect(Buffer.compare(await wholeOf(file), expected)).toBe(0)
    await closing(await openWritable(file, 'vmdk'), async (disk) => {
      await disk.write(100, new Uint8Array(50).fill(9))
      expect(await kindOf(disk.write(8 * 512, new Uint8Array(1)))).toBe('denied')
      expect(await kindOf(disk.write(5 * 512, new Uint8Array(1)))).toBe('unsupported')
    })
    expected.fill(9, 100, 150)
    expect(Buffer.compare(await wholeOf(file), expected)).toBe(0)
    expect(readFileSync(file, 'latin1')).not.toContain('CID=1234567 ')
  })

  it('that forbid access are named when they are read, and hold nobody up', async () => {
    const file = descriptor('partitionedDevice', 'RW 4 ZERO', 'NOACCESS 4 FLAT "/dev/nothing" 0')
    await closing(await openImage(file, 'vmdk'), async (disk) => {
      expect(disk.size).toBe(8 * 512)
      await disk.read(0, new Uint8Array(2048))
      expect(await kindOf(disk.read(2048, new Uint8Array(1)))).toBe('denied')
      expect((await mapOf(disk)).map(({ length, zero }) => [length, zero])).toEqual([
        [2048, true],
        [2048, false],
      ])
    })
  })

  it('of a COWD redo log lie behind its tables', async () => {
    const file = folder.fresh('-delta.vmdk')
    writeFileSync(file, cowdExtent())
    const image = descriptor('vmfsSparse', `RW 20 VMFSSPARSE "${basename(file)}"`)
    expect(Buffer.compare(await wholeOf(image), new Uint8Array(20 * 512).fill(7, 3 * 512, 5 * 512))).toBe(0)
    expect(await kindOf(openWritable(image, 'vmdk'))).toBe('unsupported')
  })

  it('of seSparse are found by their numbers', async () => {
    const file = folder.fresh('-sesparse.vmdk')
    writeFileSync(file, seSparseExtent())
    const image = descriptor('seSparse', `RW 32 SESPARSE "${basename(file)}"`)
    const expected = new Uint8Array(32 * 512).fill(5, 0, 4096).fill(6, 3 * 4096)
    expect(Buffer.compare(await wholeOf(image), expected)).toBe(0)
  })
})

describeWith(['qemu-img'], 'chains and streams of vmdk images', () => {
  it('copy what the parent shows around a write, and refuse a parent that was changed', async () => {
    const base = folder.fresh('.vmdk')
    const child = folder.fresh('.vmdk')
    const size = 3 << 20
    await createFile(base, 'vmdk', size)
    const content = random.bytes(size)
    await closing(await openWritable(base, 'vmdk'), (disk) => disk.write(0, content))
    await createFile(child, 'vmdk', size, 'zeroed_grain=on', { name: basename(base), format: 'vmdk' })
    await closing(await openWritable(child, 'vmdk'), async (disk) => {
      const part = random.bytes(70_000)
      const writes = [disk.write(1000, part), disk.write(100_000, part.subarray(0, 9)), disk.write(130_000, part)]
      await Promise.all(writes)
      for (const [at, length] of [
        [1000, 70_000],
        [100_000, 9],
        [130_000, 70_000],
      ] as const) {
        content.set(part.subarray(0, length), at)
      }
      await disk.zero(1_000_000, 300_000, 'unmap')
      content.fill(0, 1_000_000, 1_300_000)
    })
    expect(Buffer.compare(await wholeOf(child), content)).toBe(0)
    expect(await guestSha(child, 'vmdk')).toBe(bytesSha(content))
    await closing(await openWritable(base, 'vmdk'), (disk) => disk.write(0, new Uint8Array(1)))
    await expect(openImage(child, 'vmdk')).rejects.toMatchObject({ kind: 'invalid', field: 'parentCID' })
  })

  it.each([
    ['subformat=streamOptimized', 'subformat=monolithicFlat'],
    ['subformat=twoGbMaxExtentSparse', 'subformat=streamOptimized'],
  ])('%s and %s hold the same, and so does the stream', async (first, second) => {
    const raw = folder.fresh('.raw')
    const content = new Uint8Array(40 << 20)
    content.set(random.bytes(200_000), 70_000)
    content.fill(3, 34 << 20, (34 << 20) + 500_000)
    writeFileSync(raw, content)
    let from = raw
    for (const options of [first, second]) {
      const file = folder.fresh('.vmdk')
      await createFile(file, 'vmdk', content.length, options)
      await withImage(from, from === raw ? 'raw' : 'vmdk', async (source) => {
        const plan = await planConversion(source, { format: formatOf('vmdk') })
        await closing(await openWritable(file, 'vmdk'), (disk) => plan.run(disk))
      })
      expect(await guestSha(file, 'vmdk'), options).toBe(bytesSha(content))
      from = file
    }
    const piped = folder.fresh('.vmdk')
    await withImage(from, 'vmdk', async (source) => {
      const options = { subformat: 'streamOptimized' }
      const stream = await (await planConversion(source, { format: formatOf('vmdk'), options })).stream()
      expect(stream.length).toBeUndefined()
      const chunks: Uint8Array[] = []
      for await (const chunk of stream.chunks()) chunks.push(chunk)
      writeFileSync(piped, Buffer.concat(chunks))
      // Whoever stops reading ends the copy.
      for await (const chunk of stream.chunks()) if (chunk.length > 0) break
    })
    const bytes = readFileSync(piped)
    // Footer marker, header with the directory's place, end of the stream.
    expect(bytes.readUInt32LE(bytes.length - 1536 + 12)).toBe(3)
    expect(bytes.toString('latin1', bytes.length - 1024, bytes.length - 1020)).toBe('KDMV')
    expect(bytes.subarray(-512).every((byte) => byte === 0)).toBe(true)
    expect(await guestSha(piped, 'vmdk')).toBe(bytesSha(content))
    expect(Buffer.compare(await wholeOf(piped), content)).toBe(0)
    expect(await kindOf(openWritable(piped, 'vmdk'))).toBe('unsupported')
  })
})
