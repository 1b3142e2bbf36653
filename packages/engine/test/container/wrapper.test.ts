/** Files wrapped in gzip, xz, bzip2, zstd, LZ4 and zip: packed by the system's own programs, opened here; cut, damaged, lying, and much too large. */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import {
  allFormats,
  type ByteSource,
  detectWrapper,
  isMoraineError,
  type Limits,
  MemoryStore,
  openDisk,
  type StreamCodecs,
  type UnwrapOptions,
  unwrapSource,
  wrappingOf,
  xzStream,
} from '@moraine/engine'
import { nodeStreamCodecs, openFile } from '@moraine/engine/node'
import { describe, expect, it } from 'vitest'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith, tool } from '../support/process.ts'
import { qemuImg, qemuIo } from '../support/qemu.ts'
import { Random, seed } from '../support/random.ts'

const chance = seed('wrappers')
const folder = temporaryFolder()
const codecs: StreamCodecs = { ...nodeStreamCodecs, xz: xzStream(() => import('@napi-rs/lzma')) }
const MiB = 1024 * 1024

/** Text that shrinks, bytes that do not, and zeros. */
function content(size = MiB + 1234): Buffer {
  const bytes = Buffer.alloc(size)
  const random = new Random(chance)
  const third = Math.ceil(size / 3)
  bytes.set(random.bytes(third))
  bytes.fill('A line that comes again and again.\n', third, 2 * third)
  return bytes
}

function pack(command: string, args: readonly string[], bytes: Uint8Array): Buffer {
  return execFileSync(command, args, { input: bytes, maxBuffer: 256 * MiB })
}

/** What each program writes, in its several ways. */
const ways: readonly (readonly [tool: string, name: string, args: string[], stated: boolean])[] = [
  ['gzip', 'gzip', ['-c'], false],
  ['gzip', 'gzip', ['-c', '-1'], false],
  ['xz', 'xz', ['-c', '-0'], true],
  ['xz', 'xz', ['-c', '-0', '--block-size=524288', '--check=sha256'], true],
  ['xz', 'xz', ['-c', '-0', '-T2', '--check=none'], true],
  ['bzip2', 'bzip2', ['-c', '-9'], false],
  ['bzip2', 'bzip2', ['-c', '-1'], false],
  ['zstd', 'zstd', ['-c', '-q'], false],
  ['zstd', 'zstd', ['-c', '-q', '-19', '--no-check'], false],
  ['lz4', 'lz4', ['-c', '-q'], false],
  ['lz4', 'lz4', ['-c', '-q', '-9', '-BD', '-B4'], false],
  ['lz4', 'lz4', ['-c', '-q', '-l'], false],
]

async function open(bytes: Uint8Array, options: UnwrapOptions = {}): Promise<ByteSource> {
  return unwrapSource(MemoryStore.from(bytes, 'packed'), { codecs, formats: allFormats, ...options })
}

async function readAll(source: ByteSource, step = 1 * MiB): Promise<Buffer> {
  const all = Buffer.alloc(source.size)
  for (let at = 0; at < all.length; at += step) await source.read(at, all.subarray(at, at + step))
  return all
}

/** Opens and reads all of it. */
async function unpack(bytes: Uint8Array, options: UnwrapOptions = {}): Promise<Buffer> {
  const source = await open(bytes, options)
  try {
    return await readAll(source)
  } finally {
    await source.close()
  }
}

async function failure(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (each: unknown) => each,
  )
  if (!isMoraineError(error)) throw error ?? new Error('nothing failed')
  return `${error.kind}: ${error.reason}`
}

describeWith(['gzip', 'xz', 'bzip2', 'zstd', 'lz4'], 'packed files of other programs', () => {
  const plain = content()

  for (const [program, name, args] of ways) {
    it(`${program} ${args.join(' ')}`, async () => {
      const packed = pack(program, args, plain)
      expect(detectWrapper(packed)).toBe(name)
      expect((await unpack(packed)).equals(plain)).toBe(true)
      // Several in a row are one.
      const [a, b] = [pack(program, args, plain.subarray(0, MiB / 2)), pack(program, args, plain.subarray(MiB / 2))]
      expect((await unpack(Buffer.concat([a, b]))).equals(plain)).toBe(true)
      // Nothing at all.
      if (!args.includes('-l')) expect((await unpack(pack(program, args, Buffer.alloc(0)))).length).toBe(0)
    })

    it(`${program} ${args.join(' ')}: cut, damaged, and followed by something else`, async () => {
      const packed = pack(program, args, plain)
      for (const length of [packed.length - 1, packed.length - 9, packed.length >> 1]) {
        const said = await failure(unpack(packed.subarray(0, length)))
        expect(said, `cut at ${length}`).toMatch(/^corrupt: /)
      }
      expect(await failure(unpack(Buffer.concat([packed, Buffer.from('and more of another kind')])))).toMatch(
        /^corrupt: /,
      )
      if (args.includes('--no-check') || args.includes('--check=none') || args.includes('-l')) return
      const random = new Random(chance)
      for (let turn = 0; turn < 4; turn++) {
        const damaged = Buffer.from(packed)
        const at = random.int(32, packed.length - 1)
        damaged[at] = (damaged[at] as number) ^ (1 << random.int(0, 7))
        // A bit that means nothing may be changed: then the content is right.
        const seen = await unpack(damaged).catch((error: unknown) => error)
        if (Buffer.isBuffer(seen)) expect(seen.equals(plain), `bit in byte ${at}`).toBe(true)
        else expect(isMoraineError(seen), String(seen)).toBe(true)
      }
    })
  }

  it('says whether the size was told or found out', async () => {
    const file = folder.fresh()
    writeFileSync(file, plain)
    const seen: Record<string, unknown> = {}
    for (const [name, packed] of [
      ['gzip', pack('gzip', ['-c'], plain)],
      ['xz', pack('xz', ['-c', '-0'], plain)],
      ['zstd', execFileSync('zstd', ['-c', '-q', file], { maxBuffer: 256 * MiB })],
      ['zstd of a pipe', pack('zstd', ['-c', '-q'], plain)],
    ] as const) {
      let read = 0
      const source = await open(packed, { onLongRead: () => read++ })
      seen[name] = [wrappingOf(source)?.sizeFrom, source.size === plain.length, read]
      await source.close()
    }
    expect(seen).toEqual({
      gzip: ['read', true, 1],
      xz: ['stated', true, 0],
      zstd: ['stated', true, 0],
      'zstd of a pipe': ['read', true, 1],
    })
  })

  it('passes over frames that zstd and LZ4 pass over, and zeros behind gzip and xz', async () => {
    const skipped = Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 5, 0, 0, 0, 1, 2, 3, 4, 5])
    const zstd = pack('zstd', ['-c', '-q'], plain)
    expect((await unpack(Buffer.concat([skipped, zstd, skipped]))).equals(plain)).toBe(true)
    const lz4 = pack('lz4', ['-c', '-q'], plain)
    expect((await unpack(Buffer.concat([skipped, lz4, skipped]))).equals(plain)).toBe(true)
    expect((await unpack(Buffer.concat([pack('gzip', ['-c'], plain), Buffer.alloc(512)]))).equals(plain)).toBe(true)
    expect((await unpack(Buffer.concat([pack('xz', ['-c', '-0'], plain), Buffer.alloc(512)]))).equals(plain)).toBe(true)
  })

  it('opens wrappers around one another, and not too many', async () => {
    let packed: Buffer = pack('xz', ['-c', '-0'], pack('gzip', ['-c'], plain))
    expect((await unpack(packed)).equals(plain)).toBe(true)
    for (let n = 0; n < 3; n++) packed = gzipSync(packed)
    expect(await failure(unpack(packed))).toBe('limit: too many wrappers around one another')
  })
})

describeWith(['zip'], 'zip', () => {
  const plain = content(3 * MiB)

  function zip(names: readonly string[], args: readonly string[] = []): Buffer {
    const home = folder.fresh()
    execFileSync('mkdir', ['-p', home])
    for (const name of names) writeFileSync(`${home}/${name}`, plain)
    execFileSync('zip', ['-q', ...args, `${home}/out.zip`, ...names], { cwd: home })
    return readFileSync(`${home}/out.zip`)
  }

  it.each([[['-9']], [['-0']], [['-fz']], [['-0', '-fz']]])('one member, zip %j', async (args) => {
    const source = await open(zip(['disk.img'], args))
    expect(wrappingOf(source)).toMatchObject({ wrapper: 'zip', member: 'disk.img', sizeFrom: 'stated' })
    expect((await readAll(source)).equals(plain)).toBe(true)
    await source.close()
  })

  it('of a pipe, whose sizes stand behind the data', async () => {
    expect((await unpack(pack('zip', ['-q', '-', '-'], plain))).equals(plain)).toBe(true)
  })

  it('asks which of several', async () => {
    const packed = zip(['a.img', 'b.img'])
    const error = await unpack(packed).catch((each: unknown) => each)
    expect(isMoraineError(error, 'invalid') && error.hint).toBe("It has 'a.img', 'b.img'. Name one as FILE#MEMBER.")
    expect((await unpack(packed, { member: 'b.img' })).equals(plain)).toBe(true)
    expect(await failure(unpack(packed, { member: 'c.img' }))).toBe("missing: the zip has no member 'c.img'")
  })

  it('refuses what is encrypted, damaged, lying or cut', async () => {
    expect(await failure(unpack(zip(['disk.img'], ['-P', 'secret'])))).toMatch(/^unsupported: .*is encrypted$/)
    const packed = zip(['disk.img'])
    expect(await failure(unpack(packed.subarray(0, packed.length - 30)))).toMatch(/^corrupt: the zip is damaged/)
    expect(await failure(unpack(Buffer.concat([packed, Buffer.alloc(9, 1)])))).toMatch(/^corrupt: the zip is damaged/)
    const directory = packed.lastIndexOf(Buffer.from('PK\x01\x02', 'latin1'))
    const larger = Buffer.from(packed)
    larger.writeUInt32LE(plain.length + 1, directory + 24)
    expect(await failure(unpack(larger))).toBe('corrupt: the zip does not hold as much as it says')
    const smaller = Buffer.from(packed)
    smaller.writeUInt32LE(plain.length - 1, directory + 24)
    expect(await failure(unpack(smaller))).toBe('corrupt: the zip does not hold as much as it says')
    const wrong = Buffer.from(packed)
    wrong.writeUInt32LE(1, directory + 16)
    expect(await failure(unpack(wrong))).toBe('corrupt: the zip is damaged: its checksum is wrong')
  })
})

describe('limits', () => {
  const zeros = Buffer.alloc(96 * MiB)
  const limited = (limits: Partial<Limits>) => unpack(gzipSync(zeros), { limits })

  it('bound how much is unpacked', async () => {
    expect(await failure(limited({ unpackedBytes: 64 * MiB }))).toBe('limit: the gzip unpacks to too much')
    expect(await failure(limited({ unpackedRatio: 100 }))).toBe('limit: the gzip unpacks to too much')
    expect((await limited({ unpackedRatio: 1100 })).length).toBe(zeros.length)
  })

  it('count wrappers around one another as one', async () => {
    const bomb = gzipSync(gzipSync(zeros))
    expect(await failure(unpack(bomb, { limits: { unpackedRatio: 5000 } }))).toBe('limit: the gzip unpacks to too much')
  })

  it('bound what is kept, zeros not counted', async () => {
    const image = Buffer.concat([Buffer.from('QFI\xfb\0\0\0\x03', 'latin1'), content(4 * MiB)])
    const limits = { spoolBytes: 1 * MiB }
    expect(await failure(unpack(gzipSync(image), { limits }))).toMatch(/^limit: what is inside would have to be kept/)
    const sparse = Buffer.concat([image.subarray(0, MiB / 2), zeros])
    expect((await unpack(gzipSync(sparse), { limits })).equals(sparse)).toBe(true)
  })

  it('refuse a codec that is not at hand', async () => {
    const packed = Buffer.from('\xfd7zXZ\0', 'latin1')
    expect(await failure(unpack(packed, { codecs: nodeStreamCodecs }))).toBe(
      'unsupported: there is no codec for xz here',
    )
  })
})

describeWith(['qemu-img', 'gzip', 'xz', 'zstd'], 'images inside', () => {
  it('are read here and there as from a file', async () => {
    const image = folder.fresh('.qcow2')
    await qemuImg('create', '-q', '-f', 'qcow2', image, '64M')
    await qemuIo(image, 'qcow2', 'write -P 17 1M 3M', 'write -P 34 60M 64k', 'write -P 51 0 512')
    for (const [program, ...args] of [
      ['gzip', '-k'],
      ['xz', '-k', '-0'],
      ['zstd', '-q', '-k'],
    ]) {
      execFileSync(program as string, [...args, image])
      const packed = `${image}.${{ gzip: 'gz', xz: 'xz', zstd: 'zst' }[program as string]}`
      const source = await unwrapSource(await openFile(packed), { codecs, formats: allFormats })
      const disk = await openDisk(source, { formats: allFormats })
      expect(disk.format).toBe('qcow2')
      const bytes = new Uint8Array(512)
      for (const [offset, value] of [
        [60 * MiB, 34],
        [0, 51],
        [2 * MiB, 17],
        [30 * MiB, 0],
      ] as const) {
        await disk.read(offset, bytes)
        expect(bytes.every((byte) => byte === value)).toBe(true)
      }
      await disk.close()
    }
  })

  it('are unpacked in one pass from front to back, and kept once they are not', async () => {
    const plain = Buffer.alloc(60 * MiB)
    for (let at = 0; at < plain.length; at += 10 * MiB) content(3 * MiB + at / 10).copy(plain, at)
    let passes = 0
    const counted: StreamCodecs = {
      ...codecs,
      zstd: {
        unpack(packed) {
          passes++
          return (codecs.zstd as { unpack(from: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> }).unpack(packed)
        },
      },
    }
    const file = folder.fresh()
    writeFileSync(file, plain)
    execFileSync(tool('xz').path ?? '', ['-k', '-0', file])
    execFileSync('zstd', ['-q', '-1', '--rm', file])
    let spools = 0
    const spool = async () => {
      spools++
      return new MemoryStore()
    }
    const source = await unwrapSource(await openFile(`${file}.zst`), { codecs: counted, formats: allFormats, spool })
    const disk = await openDisk(source, { formats: allFormats })
    expect(disk.format).toBe('raw')
    // A little out of order, as several requests at once come.
    const seen = Buffer.alloc(plain.length)
    const step = 2 * MiB
    for (let at = 0; at < plain.length; at += 4 * step) {
      await Promise.all(
        [3, 0, 2, 1].map(async (turn) => {
          const from = at + turn * step
          if (from < plain.length) await disk.read(from, seen.subarray(from, from + step))
        }),
      )
    }
    expect(seen.equals(plain)).toBe(true)
    expect([passes, spools]).toEqual([1, 0])
    // From the beginning again: another pass. From the middle: it is kept.
    expect((await readAll(source)).equals(plain)).toBe(true)
    expect([passes, spools]).toEqual([2, 0])
    const bytes = Buffer.alloc(512)
    await source.read(20 * MiB, bytes)
    await source.read(59 * MiB, bytes)
    expect(bytes.equals(plain.subarray(59 * MiB, 59 * MiB + 512))).toBe(true)
    await source.read(20 * MiB, bytes)
    expect(bytes.equals(plain.subarray(20 * MiB, 20 * MiB + 512))).toBe(true)
    expect([passes, spools]).toEqual([3, 1])
    await disk.close()
    // Another library, which must not gather what is not asked for.
    const other = await unwrapSource(await openFile(`${file}.xz`), { codecs, spool })
    expect((await readAll(other, 3 * MiB)).equals(plain)).toBe(true)
    expect(spools).toBe(1)
    await other.close()
  })
})
