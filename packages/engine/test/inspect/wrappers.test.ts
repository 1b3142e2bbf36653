/** Compressed images: what the usual tools write is unpacked as far as the budget goes, and what is inside is judged. */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { deflateRawSync, gzipSync, zstdCompressSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { bzip2DecodePart } from '../../src/codec/bzip2-decode.ts'
import { lz4DecodePart } from '../../src/codec/lz4-frame.ts'
import { xzDecodePart } from '../../src/codec/xz-decode.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith, tool } from '../support/process.ts'
import { Random, seed } from '../support/random.ts'
import * as images from './images.ts'
import { failures, look, sentenceFor } from './look.ts'

const folder = temporaryFolder()
const MiB = 1024 * 1024

function pack(program: string, data: Uint8Array, ...options: string[]): Buffer {
  const { path = program } = tool(program)
  return execFileSync(path, ['-c', ...options], { input: data, maxBuffer: 1 << 28, stdio: ['pipe', 'pipe', 'pipe'] })
}

/** Data of several kinds: text, noise, zeros, long repeats. */
function mixed(random: Random, length: number): Buffer {
  const parts: Buffer[] = []
  for (let size = 0; size < length; ) {
    const next = random.pick([
      () => Buffer.from(random.bytes(random.int(1, 20_000))),
      () => Buffer.alloc(random.int(1, 100_000)),
      () => Buffer.alloc(random.int(1, 40_000), Buffer.from(random.bytes(random.int(1, 300)))),
      () => Buffer.from('the quick brown fox '.repeat(random.int(1, 500))),
    ])()
    parts.push(next)
    size += next.length
  }
  return Buffer.concat(parts).subarray(0, length)
}

const programs = ['bzip2', 'gzip', 'lz4', 'xz', 'zip', 'zstd']
const decoders = { xz: xzDecodePart, bzip2: bzip2DecodePart, lz4: lz4DecodePart }

describeWith(programs, 'what tools pack', () => {
  it.each([
    ['xz', ['-6']],
    ['xz', ['-0']],
    ['xz', ['-9e', '--check=sha256']],
    ['xz', ['--lzma2=lc=0,lp=2,pb=0', '--check=none']],
    ['xz', ['--block-size=50000', '-T2']],
    ['bzip2', ['-9']],
    ['bzip2', ['-1']],
    ['lz4', ['-1']],
    ['lz4', ['-9', '-B4', '-BD', '-BX']],
    ['lz4', ['-l']],
  ] as const)('%s %j decodes to the same, whole and cut', (program, options) => {
    const random = new Random(seed(`${program} ${options.join(' ')}`))
    for (const length of [0, 1, 1000, 300_000, 1_500_000]) {
      const data = mixed(random, length)
      const packed = pack(program, data, ...options)
      const whole = new Uint8Array(length + 10)
      const { filled, ended } = decoders[program](packed, whole)
      expect([filled, ended]).toEqual([length, true])
      expect(Buffer.from(whole.subarray(0, length)).equals(data)).toBe(true)
      // Into less room, and from less input.
      const half = new Uint8Array(Math.floor(length / 2))
      expect(decoders[program](packed, half).filled).toBe(half.length)
      expect(Buffer.from(half).equals(data.subarray(0, half.length))).toBe(true)
      const cut = decoders[program](packed.subarray(0, Math.floor(packed.length / 2)), whole)
      expect(Buffer.from(whole.subarray(0, cut.filled)).equals(data.subarray(0, cut.filled))).toBe(true)
    }
  })

  it.each(['gzip', 'bzip2', 'xz', 'zstd', 'lz4', 'zip'] as const)(
    '%s of a qcow2 with a backing file is not safe',
    async (program) => {
      const data = images.qcow2((header) => header.writeBigUInt64BE(512n, 8))
      const found = await look(packAs(program, data))
      expect([found.format, failures(found), found.verdict]).toEqual([program, ['backing-file'], 'failed'])
      expect(found.findings[0]?.inner).toMatchObject({ format: 'qcow2', size: data.length })
    },
  )

  it.each(['gzip', 'bzip2', 'xz', 'zstd', 'lz4', 'zip'] as const)(
    '%s of a large disk shows its beginning',
    async (program) => {
      const random = new Random(seed(program))
      const disk = images.withMbr(
        Buffer.concat([Buffer.alloc(512), mixed(random, 3 * MiB), Buffer.from(random.bytes(MiB))]),
      )
      const found = await look(packAs(program, disk))
      const inner = found.findings[0]?.inner
      expect(inner?.findings.map(({ format }) => format)).toContain('mbr')
      expect(inner?.size).toBe(undefined)
      expect([found.verdict, failures(found)]).toEqual(['unknown', []])
      expect(sentenceFor(found, 'content')).toContain('only the beginning')
    },
  )

  function packAs(program: string, data: Uint8Array): Buffer {
    if (program !== 'zip') return pack(program, data)
    const path = folder.fresh('.raw')
    writeFileSync(path, data)
    execFileSync(tool('zip').path ?? 'zip', ['-q', `${path}.zip`, path.slice(dirname(path).length + 1)], {
      cwd: dirname(path),
    })
    return readFileSync(`${path}.zip`)
  }
})

describe('what unpacking costs', () => {
  it('a zstd or zip that says it unpacks to a thousand times as much is not taken', async () => {
    const bomb = zstdCompressSync(Buffer.alloc(64 * MiB))
    const found = await look(bomb)
    expect([failures(found), found.findings[0]?.facts]).toEqual([['decompression-ratio'], { unpackedSize: 64 * MiB }])
    expect(sentenceFor(found, 'decompression-ratio')).toMatch(/bytes out for a byte in is \d+; rule: at most 1100/)
    expect(failures(await look(zip([3_000_000_000, 3_000_000_000])))).toEqual(['decompression-ratio'])
    expect(failures(await look(zip([10_000])))).toEqual([])
  })

  it('gzip cannot pass the bound, and its second member is not overlooked', async () => {
    const zeros = gzipSync(Buffer.alloc(32 * MiB))
    expect([failures(await look(zeros)), (await look(zeros)).verdict]).toEqual([[], 'unknown'])
    const two = await look(Buffer.concat([gzipSync('first'), gzipSync(images.qcow2())]))
    expect([two.verdict, sentenceFor(two, 'content')]).toEqual([
      'unknown',
      expect.stringMatching(/cannot be seen|only the beginning/),
    ])
  })

  it('a wrapper in a wrapper is looked into, as deep as three', async () => {
    const hostile = images.qcow2((header) => header.writeBigUInt64BE(512n, 8))
    expect(failures(await look(gzipSync(gzipSync(hostile))))).toEqual(['backing-file'])
    const deep = await look(gzipSync(gzipSync(gzipSync(hostile))))
    expect(deep.verdict).toBe('unknown')
  })

  /** A zip with one small member whose directory claims other sizes. */
  function zip(sizes: readonly number[]): Buffer {
    const packed = deflateRawSync(Buffer.alloc(10_000))
    const local = Buffer.alloc(30)
    local.write('PK\x03\x04', 'latin1')
    local.writeUInt16LE(8, 8)
    local.writeUInt32LE(packed.length, 18)
    local.writeUInt32LE(10_000, 22)
    const entries = sizes.map((size) => {
      const entry = Buffer.alloc(46)
      entry.write('PK\x01\x02', 'latin1')
      entry.writeUInt32LE(size, 24)
      return entry
    })
    const end = Buffer.alloc(22)
    end.write('PK\x05\x06', 'latin1')
    end.writeUInt16LE(sizes.length, 8)
    end.writeUInt16LE(sizes.length, 10)
    end.writeUInt32LE(46 * sizes.length, 12)
    end.writeUInt32LE(30 + packed.length, 16)
    return Buffer.concat([local, packed, ...entries, end])
  }
})
