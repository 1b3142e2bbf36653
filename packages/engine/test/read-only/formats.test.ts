/** cloop, Bochs and DMG: read as QEMU reads them, and refused by name where they are damaged. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { deflateSync } from 'node:zlib'
import { allFormats, MemoryStore, openDisk, portableCodecs, probeFormats } from '@moraine/engine'
import { openFile } from '@moraine/engine/node'
import { describe, expect, it } from 'vitest'
import { adcDecode } from '../../src/codec/adc.ts'
import { type LzfseKind, lzfseOf } from '../codec/lzfse-encode.ts'
import { everyKind } from '../codec/samples.ts'
import { diskSha, kindOf, mapOf, openImage, openWritable, withImage } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith, runOk } from '../support/process.ts'
import { bytesSha, guestSha } from '../support/qemu.ts'
import { Random, seed } from '../support/random.ts'
import { samples, samplesFolder, unpackedSample } from '../support/samples.ts'
import { bochsOf, cloopOf, type DmgPiece, dmgOf } from './builders.ts'

const folder = temporaryFolder()
const random = new Random(seed('read-only formats'))

function sample(size: number): Uint8Array {
  const content = new Uint8Array(size)
  for (let at = 0; at < size; at += 9 * 512) {
    if (random.bool(0.6)) content.set(random.bytes(Math.min(size - at, random.int(1, 7) * 512)), at)
  }
  return content
}

function saved(image: Uint8Array, name: string): string {
  const file = folder.fresh(`.${name}`)
  writeFileSync(file, image)
  return file
}

async function inMemory(name: string, bytes: Uint8Array): Promise<MemoryStore> {
  const store = new MemoryStore({ name })
  await store.write(0, bytes)
  return store
}

const zlib = 0x8000_0005
const lzfse = 0x8000_0007

function dmgPieces(content: Uint8Array): DmgPiece[] {
  const pieces: DmgPiece[] = []
  for (let at = 0; at < content.length; ) {
    const size = Math.min(random.int(1, 200) * 512, content.length - at)
    const bytes = content.subarray(at, at + size)
    const kind = random.int(0, 2)
    if (kind === 0) {
      bytes.fill(0)
      pieces.push({ type: random.bool() ? 0 : 2, size })
    } else pieces.push(kind === 1 ? { type: 1, size, stored: bytes } : { type: zlib, size, stored: deflateSync(bytes) })
    at += size
  }
  return pieces
}

/** Chunks of LZFSE, with some of zeros between. */
function lzfsePieces(content: Uint8Array, kinds: readonly LzfseKind[]): { list: DmgPiece[]; content: Uint8Array } {
  const list: DmgPiece[] = []
  for (let at = 0; at < content.length; ) {
    const size = Math.min(random.int(1, 400) * 512, content.length - at)
    const bytes = content.subarray(at, at + size)
    at += size
    if (at < content.length && random.bool(0.2)) {
      bytes.fill(0)
      list.push({ type: 0, size })
    } else list.push({ type: lzfse, size, stored: lzfseOf(bytes, random, kinds) })
  }
  return { list, content }
}

/** Images of every format with the content they hold. */
function images(): [format: string, image: Buffer, content: Uint8Array][] {
  const made: [string, Buffer, Uint8Array][] = []
  for (const [blocks, blockSize] of [
    [5, 65_536],
    [9000, 512],
    [7, 1536],
  ] as const) {
    const content = sample(blocks * blockSize)
    made.push(['cloop', cloopOf(content, blockSize), content])
  }
  for (const version of [1, 2] as const) {
    for (const extentSize of [512, 4096, 65_536, 8 << 20]) {
      const content = sample(400 * 512)
      made.push(['bochs', bochsOf(content, extentSize, version), content])
    }
  }
  for (const [metadata, odd] of [
    ['plist', 0],
    ['plist', 1],
    ['plist', 300],
    ['plist', 511],
    ['fork', 0],
  ] as const) {
    const content = sample(3000 * 512)
    made.push(['dmg', dmgOf(dmgPieces(content), metadata, odd), content])
  }
  return made
}

describe('formats that are only read', () => {
  it('show the content that they were made from', async () => {
    for (const [format, image, content] of images()) {
      const file = saved(image, format)
      await withImage(file, format, async (disk) => {
        expect(disk.size).toBe(content.length)
        expect(await diskSha(disk), format).toBe(bytesSha(content))
        for (const { start, length, zero } of await mapOf(disk)) {
          if (zero) expect(content.subarray(start, start + length).every((byte) => byte === 0)).toBe(true)
        }
        for (let i = 0; i < 20; i++) {
          const at = random.int(0, content.length - 1)
          const part = new Uint8Array(random.int(1, Math.min(30_000, content.length - at)))
          await disk.read(at, part)
          expect(Buffer.compare(part, content.subarray(at, at + part.length))).toBe(0)
        }
      })
      expect(await kindOf(openWritable(file, format))).toBe('denied')
    }
  })

  it('are recognised', async () => {
    for (const [format, image] of images()) {
      const [best] = await probeFormats(await inMemory('image', image), allFormats)
      expect(best?.format.name).toBe(format)
    }
  })

  it('decode ADC', async () => {
    // Five literals; three bytes from two back; the long form: six from eight back.
    const packed = Uint8Array.of(0x84, 1, 2, 3, 4, 5, 0x00, 1, 0x42, 0, 7)
    const plain = Uint8Array.of(1, 2, 3, 4, 5, 4, 5, 4, 1, 2, 3, 4, 5, 4)
    const output = new Uint8Array(plain.length)
    adcDecode(packed, output)
    expect(output).toEqual(plain)
    expect(() => adcDecode(packed.subarray(0, 9), new Uint8Array(14))).toThrow(/early/)
    expect(() => adcDecode(Uint8Array.of(0x80, 1, 0x00, 1), new Uint8Array(9))).toThrow(/before/)
    const literals = Buffer.concat(
      Array.from({ length: 4 }, (_, i) => Buffer.concat([Buffer.of(0xff), Buffer.alloc(128, i + 1)])),
    )
    const file = saved(dmgOf([{ type: 0x8000_0004, size: 512, stored: literals }], 'plist'), 'dmg')
    await withImage(file, 'dmg', async (disk) => {
      const bytes = new Uint8Array(512)
      await disk.read(0, bytes)
      expect([bytes[0], bytes[127], bytes[128], bytes[511]]).toEqual([1, 1, 2, 4])
    })
  })

  it('decode bzip2 and xz', async () => {
    const plain = Buffer.from('moraine '.repeat(512))
    for (const [type, text] of [
      [0x8000_0006, 'QlpoOTFBWSZTWfpbBj4ABP+RgEAAIiOQACAAUIYEBVJp6mSwBoAwAQAQAeAGADQB8XckU4UJD6WwY+A='],
      [
        0x8000_0008,
        '/Td6WFoAAATm1rRGAgAhARYAAAB0L+Wj4A//ACJdADabyqqZI4KKsUGP/64EF7pJscGMnUA6pm058mE9ADMasl4AAAB0uxjtWY73NwABPoAgAAAArK3x7LHEZ/sCAAAAAARZWg==',
      ],
    ] as const) {
      const stored = Buffer.from(text, 'base64')
      await withImage(saved(dmgOf([{ type, size: 4096, stored }], 'plist'), 'dmg'), 'dmg', async (disk) => {
        expect(await diskSha(disk)).toBe(bytesSha(plain))
      })
      const damaged = saved(dmgOf([{ type, size: 4096, stored: stored.subarray(0, 20) }], 'plist'), 'dmg')
      expect(await kindOf(withImage(damaged, 'dmg', diskSha))).toBe('corrupt')
    }
  })

  it('decode LZFSE', async () => {
    for (const kind of ['plain', 'lzvn', 'v1', 'v2'] as const) {
      const pieces = lzfsePieces(sample(2000 * 512), [kind])
      const image = dmgOf(pieces.list, 'plist')
      await withImage(saved(image, 'dmg'), 'dmg', async (disk) => {
        expect(await diskSha(disk), kind).toBe(bytesSha(pieces.content))
      })
      const last = pieces.list.at(-1)?.stored?.length ?? 0
      const end = pieces.list.reduce((sum, { stored }) => sum + (stored?.length ?? 0), 0)
      const damaged = saved(Buffer.from(image).fill(0xff, end - last, end - last + 40), 'dmg')
      expect(await kindOf(withImage(damaged, 'dmg', diskSha)), kind).toBe('corrupt')
    }
  })

  it('prefer a codec that is handed in', async () => {
    const image = dmgOf([{ type: lzfse, size: 512, stored: Uint8Array.of(1, 2, 3) }], 'plist')
    const open = async (codecs = {}) =>
      openDisk(await inMemory('x.dmg', image), { formats: allFormats, format: 'dmg', codecs })
    const bytes = new Uint8Array(512)
    await expect((await open()).read(0, bytes)).rejects.toMatchObject({ kind: 'corrupt' })
    await expect((await open({ lzfse: undefined })).read(0, bytes)).rejects.toMatchObject({
      kind: 'unsupported',
      value: 'lzfse',
    })
    const unpack = (input: Uint8Array, output: Uint8Array) => void output.fill(input[2] ?? 0)
    await (await open({ lzfse: { unpack } })).read(0, bytes)
    expect(bytes[0]).toBe(3)
  })

  const cloop = cloopOf(sample(4 * 4096), 4096)
  const bochs = bochsOf(sample(40 * 512).fill(1, 0, 512), 4096, 2)
  const dmg = dmgOf([{ type: zlib, size: 4096, stored: deflateSync(new Uint8Array(4096).fill(1)) }], 'plist')
  const bend = (image: Buffer, edit: (copy: Buffer) => Buffer | undefined): Buffer => {
    const copy = Buffer.from(image)
    return edit(copy) ?? copy
  }
  const set = (image: Buffer, at: number, value: number, order: 'BE' | 'LE') =>
    bend(image, (copy) => void (order === 'BE' ? copy.writeUInt32BE(value, at) : copy.writeUInt32LE(value, at)))
  const inTrailer = (at: number, value: bigint) =>
    bend(dmg, (copy) => void copy.writeBigUInt64BE(value, copy.length - 512 + at))
  it.each<[string, string, string, Buffer]>([
    ['blocks of nothing', 'cloop', 'invalid', set(cloop, 128, 0, 'BE')],
    ['blocks off the sectors', 'cloop', 'invalid', set(cloop, 128, 1000, 'BE')],
    ['blocks of 128 MiB', 'cloop', 'invalid', set(cloop, 128, 1 << 27, 'BE')],
    ['2^32 − 1 blocks', 'cloop', 'invalid', set(cloop, 132, 0xffff_ffff, 'BE')],
    ['a table of 2 GiB', 'cloop', 'limit', set(cloop, 132, 0x1000_0000, 'BE')],
    ['a table past the file', 'cloop', 'corrupt', set(cloop, 132, 100_000, 'BE')],
    ['offsets that go back', 'cloop', 'corrupt', set(cloop, 140, 9999, 'BE')],
    ['a block past the file', 'cloop', 'corrupt', set(cloop, 136 + 4 * 8 + 4, 0x7fff_ffff, 'BE')],
    ['a damaged block', 'cloop', 'corrupt', bend(cloop, (copy) => copy.fill(0xff, 136 + 40, 136 + 60))],
    ['an empty file', 'cloop', 'invalid', Buffer.alloc(0)],
    ['another version', 'bochs', 'not-this-format', set(bochs, 64, 0x30000, 'LE')],
    ['a catalog of 2^32 − 1', 'bochs', 'invalid', set(bochs, 72, 0xffff_ffff, 'LE')],
    ['a catalog too short', 'bochs', 'invalid', set(bochs, 72, 1, 'LE')],
    ['extents of 256', 'bochs', 'invalid', set(bochs, 80, 256, 'LE')],
    ['extents of 3000', 'bochs', 'invalid', set(bochs, 80, 3000, 'LE')],
    ['extents of 1 GiB', 'bochs', 'invalid', set(bochs, 80, 1 << 30, 'LE')],
    ['a bitmap of 2^32 − 1', 'bochs', 'invalid', set(bochs, 76, 0xffff_ffff, 'LE')],
    ['an extent outside', 'bochs', 'corrupt', set(bochs, 512, 0x7fff_ffff, 'LE')],
    ['a disk of 2^63', 'bochs', 'limit', set(bochs, 92, 0x8000_0000, 'LE')],
    ['a catalog outside', 'bochs', 'corrupt', set(bochs, 68, 0x7fff_fe00, 'LE')],
    ['no trailer', 'dmg', 'not-this-format', set(dmg, dmg.length - 512, 0, 'BE')],
    ['an empty file', 'dmg', 'not-this-format', Buffer.alloc(0)],
    ['a property list past the trailer', 'dmg', 'corrupt', inTrailer(0xd8, 99_999n)],
    ['a property list of 2^60', 'dmg', 'corrupt', inTrailer(0xe0, 2n ** 60n)],
    ['no property list', 'dmg', 'invalid', inTrailer(0xe0, 0n)],
    ['a data fork past the trailer', 'dmg', 'corrupt', inTrailer(0x18, 99_999n)],
    ['2^63 sectors', 'dmg', 'limit', inTrailer(0x1ec, 2n ** 63n)],
    ['a disk longer than its chunks', 'dmg', 'corrupt', inTrailer(0x1ec, 100n)],
    ['a damaged chunk', 'dmg', 'corrupt', bend(dmg, (copy) => copy.fill(0xff, 0, 8))],
    ['an encrypted image', 'dmg', 'unsupported', bend(dmg, (copy) => void copy.write('encrcdsa'))],
    [
      'a chunk of 2^40 sectors',
      'dmg',
      'limit',
      dmgOf([{ type: zlib, size: 2 ** 49, stored: Buffer.alloc(9) }], 'plist'),
    ],
    ['an unknown chunk', 'dmg', 'unsupported', dmgOf([{ type: 77, size: 512, stored: Buffer.alloc(9) }], 'plist')],
  ])('refuse %s (%s: %s)', async (_name, format, kind, image) => {
    const began = performance.now()
    const file = saved(image, format)
    expect(await kindOf(openImage(file, format).then((disk) => diskSha(disk).finally(() => disk.close())))).toBe(kind)
    expect(performance.now() - began).toBeLessThan(1000)
  })

  it('survive any change', async () => {
    for (const [format, image] of images().filter(([, bytes]) => bytes.length < 300_000)) {
      for (let i = 0; i < 20; i++) {
        const bytes = Buffer.from(image)
        const tender = format === 'dmg' ? bytes.length - 512 : 0
        for (let n = 0; n < 3; n++)
          bytes[tender + random.int(0, Math.min(511, bytes.length - 1))] = random.pick([0, 1, 127, 255])
        const source = await inMemory('image', bytes)
        const opening = openDisk(source, { formats: allFormats, format, codecs: portableCodecs })
        await kindOf(
          opening.then(async (disk) => {
            await kindOf(disk.read(0, new Uint8Array(Math.min(disk.size, 1 << 20))))
            await disk.close()
          }),
        )
      }
    }
  })
})

const known = samples().filter(({ format }) => ['cloop', 'dmg', 'parallels', 'bochs'].includes(format))
const title = samplesFolder === undefined ? 'samples [skipped: the folder MORAINE_SAMPLES is not there]' : 'samples'

describe.skipIf(samplesFolder === undefined)(title, () => {
  it.each(known.map((entry) => [entry.file, entry] as const))('%s reads as qemu-img reads it', async (_name, entry) => {
    const file = unpackedSample(entry, folder.fresh())
    const [best] = await probeFormats(await openFile(file), allFormats)
    expect(best?.format.name).toBe(entry.format)
    await withImage(file, entry.format, async (disk) => {
      expect(disk.size).toBe(entry.virtualSize)
      expect(await diskSha(disk)).toBe(entry.rawSha)
    })
  })
})

describeWith(['qemu-img'], 'formats that are only read, and QEMU', () => {
  it('hold the same content for QEMU', async () => {
    for (const [format, image, content] of images()) {
      expect(await guestSha(saved(image, format), format), format).toBe(bytesSha(content))
    }
  })
})

describeWith(['7zz'], 'LZFSE in DMG, and 7-Zip', () => {
  it('holds the same content for 7-Zip', async () => {
    // 7-Zip 26.02 has no bvx1, and refuses every plain block.
    for (const kinds of [['lzvn'], ['v2'], ['lzvn', 'v2']] as const) {
      const parts = everyKind(600 * 512).map(([, bytes]) => lzfsePieces(bytes, kinds))
      const content = Buffer.concat(parts.map((part) => part.content))
      const file = saved(
        dmgOf(
          parts.flatMap((part) => part.list),
          'plist',
        ),
        'dmg',
      )
      const unpacked = folder.fresh()
      await runOk('7zz', ['x', '-tdmg', '-y', `-o${unpacked}`, file])
      expect(bytesSha(readFileSync(join(unpacked, '0')))).toBe(bytesSha(content))
      await withImage(file, 'dmg', async (disk) => expect(await diskSha(disk)).toBe(bytesSha(content)))
    }
  })
})
