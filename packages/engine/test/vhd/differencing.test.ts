/** Differencing VHDs: parents by every locator, identity, sector bitmaps; and the sizes and footers of other creators. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { allFormats, type Disk, openDisk, probeFormats } from '@moraine/engine'
import { nodeCodecs, openFile } from '@moraine/engine/node'
import { beforeEach, describe, expect, it } from 'vitest'
import { checkFile, closing, createFile, openImage, openWritable, withImage, withWritable } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { Random } from '../support/random.ts'
import { seal } from './subject.ts'

const folder = temporaryFolder()
const size = 5 << 20

interface Locator {
  code: string
  text: string
}

function encoded({ code, text }: Locator): Buffer {
  return code.startsWith('W2') ? Buffer.from(text, 'utf16le') : Buffer.from(text, code === 'MacX' ? 'utf8' : 'latin1')
}

/** Makes an empty image over `parent`; the locators stand between the table and the footer, `name` in the header. */
async function over(child: string, parent: string | undefined, locators: Locator[], name = ''): Promise<void> {
  await createFile(child, 'vhd', size, 'force_size=on')
  const image = readFileSync(child)
  const parts = locators.map(encoded)
  const bytes = new Uint8Array(2048 + 512 * parts.length + 512)
  bytes.set(image.subarray(0, 2048))
  bytes[63] = 4
  seal(bytes, 0, 512)
  if (parent !== undefined) {
    const above = readFileSync(parent)
    bytes.set(above.subarray(above.length - 512 + 68, above.length - 512 + 84), 512 + 40)
  }
  const view = new DataView(bytes.buffer)
  for (let i = 0; i < name.length; i++) view.setUint16(512 + 64 + i * 2, name.charCodeAt(i))
  parts.forEach((part, i) => {
    const at = 512 + 576 + i * 24
    bytes.set(Buffer.from(locators[i]?.code ?? '', 'latin1'), at)
    view.setUint32(at + 4, 1)
    view.setUint32(at + 8, part.length)
    view.setUint32(at + 20, 2048 + 512 * i)
    bytes.set(part, 2048 + 512 * i)
  })
  seal(bytes, 512, 1024)
  bytes.set(bytes.subarray(0, 512), bytes.length - 512)
  writeFileSync(child, bytes)
}

async function bytesOf(disk: Disk): Promise<Uint8Array> {
  const bytes = new Uint8Array(disk.size)
  await disk.read(0, bytes)
  return bytes
}

let place: string
let base: string
let child: string
let content: Uint8Array

beforeEach(async () => {
  place = folder.fresh()
  mkdirSync(join(place, 'sub'), { recursive: true })
  base = join(place, 'sub', 'base disk.vhd')
  child = join(place, 'child.vhd')
  await createFile(base, 'vhd', size, 'force_size=on')
  content = new Random(3).bytes(size)
  await withWritable(base, 'vhd', (disk) => disk.write(0, content))
})

const relative = { code: 'W2ru', text: '.\\sub\\base disk.vhd' }

describe('differencing vhds', () => {
  it.each([
    [relative],
    [{ code: 'MacX', text: 'file://./sub/base%20disk.vhd' }],
    [{ code: 'MacX', text: 'file:sub/base disk.vhd' }],
    [{ code: 'Wi2r', text: 'sub\\base disk.vhd' }],
    [{ code: 'W2ru', text: '.\\elsewhere.vhd' }, relative],
  ])('find the parent by %j', async (...locators) => {
    await over(child, base, locators as Locator[])
    await withImage(child, 'vhd', async (disk) => {
      expect(basename(disk.parent?.name ?? '')).toBe('base disk.vhd')
      expect(Buffer.compare(await bytesOf(disk), content)).toBe(0)
    })
  })

  it.each([
    [[{ code: 'W2ku', text: 'C:\\Machines\\base disk.vhd' }], ''],
    [[], 'base disk.vhd'],
    [[{ code: 'W2ku', text: '\\\\server\\share\\base disk.vhd' }], 'x.vhd'],
  ])('find the parent of an absolute path beside them: %j %j', async (locators, name) => {
    const beside = join(place, 'sub', 'child.vhd')
    await over(beside, base, locators, name)
    await withImage(beside, 'vhd', async (disk) => {
      expect(Buffer.compare(await bytesOf(disk), content)).toBe(0)
    })
  })

  it('find the parent by its path from the root', async () => {
    await over(child, base, [{ code: 'MacX', text: `file://${encodeURI(base)}` }])
    await withImage(child, 'vhd', async (disk) => {
      expect(disk.parent?.name).toBe(base)
    })
  })

  it('stand over a fixed parent, and over a raw one that has no id', async () => {
    const fixed = join(place, 'fixed.vhd')
    await createFile(fixed, 'vhd', size, 'subformat=fixed,force_size=on')
    await withWritable(fixed, 'vhd', (disk) => disk.write(0, content))
    await over(child, fixed, [{ code: 'W2ru', text: 'fixed.vhd' }])
    await withImage(child, 'vhd', async (disk) => {
      expect(Buffer.compare(await bytesOf(disk), content)).toBe(0)
    })
    writeFileSync(join(place, 'plain.raw'), content)
    await over(child, undefined, [{ code: 'MacX', text: 'file://./plain.raw' }])
    await withImage(child, 'vhd', async (disk) => {
      expect(Buffer.compare(await bytesOf(disk), content)).toBe(0)
    })
  })

  it('name the parent that is missing, and refuse one that is another', async () => {
    await over(child, base, [{ code: 'W2ku', text: 'C:\\Projects\\gone.vhd' }])
    const above = readFileSync(base)
    const id = above.subarray(above.length - 512 + 68, above.length - 512 + 72).toString('hex')
    await expect(openImage(child, 'vhd')).rejects.toMatchObject({
      kind: 'missing',
      message: expect.stringMatching(new RegExp(`gone.vhd.*${id}-`)),
    })
    await createFile(join(place, 'gone.vhd'), 'vhd', size)
    await expect(openImage(child, 'vhd')).rejects.toMatchObject({ kind: 'invalid', field: 'parent_unique_id' })
    const info = await withImage(child, 'vhd', async () => undefined).catch(() => undefined)
    expect(info).toBeUndefined()
    const facts = await closing(await openImage(child, 'vhd', 'info'), async (disk) => disk.info())
    expect(facts.backing?.name).toBe('gone.vhd')
    const closed = openDisk(await openFile(child), { formats: allFormats, format: 'vhd', codecs: nodeCodecs })
    await expect(closed).rejects.toMatchObject({ kind: 'denied' })
  })

  it('take no protocol from a locator', async () => {
    await over(child, base, [{ code: 'W2ru', text: 'nbd:unix:socket' }])
    await expect(openImage(child, 'vhd')).rejects.toMatchObject({ kind: 'missing' })
  })

  it('keep what the parent shows around writes, sector by sector', async () => {
    await over(child, base, [relative])
    const before = readFileSync(base)
    const bytes = content.slice()
    const random = new Random(4)
    await closing(await openWritable(child, 'vhd'), async (disk) => {
      for (const [at, length] of [
        [1000, 10],
        [4096, 512],
        [2_097_100, 200],
        [3_000_001, 70_000],
        [size - 3, 3],
      ] as const) {
        const part = random.bytes(length)
        bytes.set(part, at)
        await disk.write(at, part)
      }
      // Two writes into one sector at once.
      const parts = [20_000, 20_300].map((at) => ({ at, part: random.bytes(100) }))
      await Promise.all(parts.map(({ at, part }) => disk.write(at, part)))
      for (const { at, part } of parts) bytes.set(part, at)
      for (const [at, length, mode] of [
        [50_000, 9000, 'unmap'],
        [1_900_000, 600_000, 'allocate'],
        [4_500_100, 50, 'unmap'],
      ] as const) {
        await disk.zero(at, length, mode)
        bytes.fill(0, at, at + length)
      }
      expect(Buffer.compare(await bytesOf(disk), bytes)).toBe(0)
    })
    await withImage(child, 'vhd', async (disk) => {
      expect(Buffer.compare(await bytesOf(disk), bytes)).toBe(0)
    })
    expect(Buffer.compare(before, readFileSync(base))).toBe(0)
    expect((await checkFile(child, 'vhd')).lines).toEqual([])
    // The locator is where it was.
    await withImage(child, 'vhd', async (disk) => expect(basename(disk.parent?.name ?? '')).toBe('base disk.vhd'))
  })
})

describe('sector bitmaps and footers', () => {
  it('take two requests to one sector at the same time', async () => {
    await createFile(child, 'vhd', size, '', { name: base, format: 'vhd' })
    await withWritable(child, 'vhd', async (disk) => {
      for (let turns = 0; turns < 40; turns++) {
        const at = (8 + 2 * turns) * 512
        await disk.write(at, new Uint8Array(512).fill(1))
        // The sector is in the file, and the one behind it is not.
        const first = disk.write(at + 256, new Uint8Array(256 + 511).fill(2))
        for (let turn = 0; turn < turns; turn++) await new Promise((resolve) => setImmediate(resolve))
        await Promise.all([first, disk.write(at, new Uint8Array(256).fill(4))])
        const wanted = content.slice(at, at + 1024)
        wanted.fill(4, 0, 256)
        wanted.fill(2, 256, 1023)
        const bytes = new Uint8Array(1024)
        await disk.read(at, bytes)
        expect(Buffer.compare(bytes, wanted), `after ${turns} turns`).toBe(0)
      }
    })
    expect((await checkFile(child, 'vhd')).lines).toEqual([])
  })

  it('clear bits of a dynamic image read as zeros, whatever lies there', async () => {
    const image = readFileSync(base)
    const first = image.readUInt32BE(1536) * 512
    image[first] = 0b0111_1111
    image[first + 1] = 0
    writeFileSync(base, image)
    const bytes = content.slice().fill(0, 0, 512).fill(0, 4096, 8192)
    await withImage(base, 'vhd', async (disk) => expect(Buffer.compare(await bytesOf(disk), bytes)).toBe(0))
    await withWritable(base, 'vhd', (disk) => disk.write(100, content.subarray(100, 110)))
    bytes.set(content.subarray(100, 110), 100)
    await withImage(base, 'vhd', async (disk) => expect(Buffer.compare(await bytesOf(disk), bytes)).toBe(0))
  })

  it.each([
    ['win ', 'current'],
    ['qem2', 'current'],
    ['d2v\0', 'current'],
    ['CTXS', 'current'],
    ['tap\0', 'current'],
    ['wa\0\0', 'current'],
    ['vbox', 'current'],
    ['vpc ', 'geometry'],
    ['vs  ', 'geometry'],
    ['qemu', 'geometry'],
  ])('the size of creator %j is by %s', async (creator, by) => {
    const file = folder.fresh('.vhd')
    await createFile(file, 'vhd', 4_212_736)
    const image = readFileSync(file)
    image.write(creator, 28, 'latin1')
    image.writeUInt32BE(4_194_304, 52)
    seal(image, 0, 512)
    writeFileSync(file, image)
    await withImage(file, 'vhd', async (disk) => expect(disk.size).toBe(by === 'current' ? 4_194_304 : 4_212_736))
  })

  it('a fixed image is found by its footer, also one of 511 bytes; a stale footer is not', async () => {
    const file = folder.fresh('.vhd')
    await createFile(file, 'vhd', 1 << 20, 'subformat=fixed,force_size=on')
    const image = readFileSync(file)
    const probe = async (bytes: Uint8Array): Promise<string | undefined> => {
      writeFileSync(file, bytes)
      const source = await openFile(file)
      const [best] = await probeFormats(source, allFormats)
      await source.close()
      return best?.format.name
    }
    expect(await probe(image)).toBe('vhd')
    expect(await probe(image.subarray(0, image.length - 1))).toBe('vhd')
    await withImage(file, 'vhd', async (disk) => expect(disk.size).toBe(1 << 20))
    expect(await probe(Buffer.concat([new Uint8Array(4096), image]))).toBe('raw')
    const bent = Buffer.from(image)
    bent[bent.length - 1] = 1
    expect(await probe(bent)).toBe('raw')
  })

  it('a repair writes either footer from the other', async () => {
    for (const damage of [
      (image: Buffer) => image.fill(0, 0, 512),
      (image: Buffer) => image.fill(0, image.length - 512),
    ]) {
      const image = readFileSync(base)
      const damaged = Buffer.from(image)
      damage(damaged)
      writeFileSync(base, damaged)
      expect((await checkFile(base, 'vhd', 'all')).result).toMatchObject({ corruptions: 0, corruptionsFixed: 1 })
      expect(Buffer.compare(readFileSync(base), image)).toBe(0)
    }
  })
})
