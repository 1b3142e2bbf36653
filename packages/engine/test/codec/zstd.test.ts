import { constants, createZstdCompress, type ZstdOptions, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { xxh64 } from '../../src/codec/xxh64.ts'
import { zstdDecode } from '../../src/codec/zstd-decode.ts'
import { zstdFrameLength } from '../../src/codec/zstd-frame.ts'
import { isMoraineError } from '../../src/core/index.ts'
import { everyKind, noise, padded, program, text } from './samples.ts'

const {
  ZSTD_c_checksumFlag: checksumFlag,
  ZSTD_c_compressionLevel: compressionLevel,
  ZSTD_c_contentSizeFlag: contentSizeFlag,
  ZSTD_c_strategy: strategy,
  ZSTD_c_minMatch: minMatch,
  ZSTD_c_windowLog: windowLog,
} = constants

function pack(bytes: Uint8Array, params: ZstdOptions['params'] = {}): Uint8Array {
  return zstdCompressSync(bytes, { params })
}

function kindOf(action: () => unknown): string {
  try {
    action()
  } catch (error) {
    if (isMoraineError(error)) return error.kind
    throw error
  }
  return 'none'
}

/** Packs in pieces, so that the frame does not know its size and has a block for each. */
async function packStream(pieces: Uint8Array[]): Promise<Uint8Array> {
  const stream = createZstdCompress()
  const chunks: Buffer[] = []
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  for (const piece of pieces) {
    stream.write(piece)
    await new Promise<void>((done) => stream.flush(constants.ZSTD_e_flush, done))
  }
  stream.end()
  await new Promise((done) => stream.on('end', done))
  return Buffer.concat(chunks)
}

function skippable(length: number): Uint8Array {
  const frame = new Uint8Array(8 + length).fill(0x5a)
  new DataView(frame.buffer).setUint32(0, 0x184d2a53, true)
  new DataView(frame.buffer).setUint32(4, length, true)
  return frame
}

describe('zstdDecode', () => {
  test.each(everyKind(400_000))('decodes what libzstd makes of %s', (_name, bytes) => {
    for (const level of [-50, -5, 1, 2, 3, 6, 12, 19]) {
      for (const checksum of [0, 1]) {
        const packed = pack(bytes, { [compressionLevel]: level, [checksumFlag]: checksum })
        const input = padded(packed, 900)
        const output = new Uint8Array(bytes.length)
        expect(zstdDecode(input, output)).toBe(packed.length)
        expect(Buffer.compare(output, bytes)).toBe(0)
        expect(zstdFrameLength(input)).toBe(packed.length)
      }
    }
  })

  test('decodes every strategy, small windows and short matches', () => {
    for (const [, bytes] of everyKind(150_000)) {
      for (let s = 1; s <= 9; s++) {
        const packed = pack(bytes, { [strategy]: s, [minMatch]: 3, [windowLog]: 10, [contentSizeFlag]: s % 2 })
        const output = new Uint8Array(bytes.length)
        expect(zstdDecode(packed, output)).toBe(packed.length)
        expect(Buffer.compare(output, bytes)).toBe(0)
      }
    }
  })

  test('decodes every small size', () => {
    for (let length = 0; length < 400; length++) {
      for (const [, bytes] of everyKind(length)) {
        for (const level of [1, 19]) {
          const packed = pack(bytes, { [compressionLevel]: level, [checksumFlag]: 1 })
          const output = new Uint8Array(length)
          // With nothing to fill, nothing is looked at.
          expect(zstdDecode(packed, output)).toBe(length === 0 ? 0 : packed.length)
          expect(output).toEqual(bytes)
        }
      }
    }
  })

  test('stops once the output is full, wherever that is, and writes nothing behind it', () => {
    for (const [, bytes] of everyKind(3000)) {
      const packed = pack(bytes, { [compressionLevel]: 3, [checksumFlag]: 1 })
      for (let length = 0; length <= 3000; length += 37) {
        const room = new Uint8Array(3100).fill(0xa5)
        expect(zstdDecode(packed, room.subarray(50, 50 + length))).toBeLessThanOrEqual(packed.length)
        expect(Buffer.compare(room.subarray(50, 50 + length), bytes.subarray(0, length))).toBe(0)
        expect(room.subarray(0, 50).every((b) => b === 0xa5)).toBe(true)
        expect(room.subarray(50 + length).every((b) => b === 0xa5)).toBe(true)
      }
    }
  })

  test('decodes frames written in pieces, whose size is not said', async () => {
    const pieces = [text(70_000), program(200_000), new Uint8Array(), noise(5000), new Uint8Array(9000), text(70_000)]
    const packed = await packStream(pieces)
    const bytes = Buffer.concat(pieces)
    const output = new Uint8Array(bytes.length)
    expect(zstdDecode(padded(packed, 10), output)).toBe(packed.length)
    expect(bytes.equals(output)).toBe(true)
    expect(zstdFrameLength(padded(packed, 10))).toBe(packed.length)
  })

  test('passes from frame to frame, and over skippable ones, until the output is full', () => {
    const parts = [text(1000), program(3000), noise(500), new Uint8Array(2000)]
    const frames = parts.map((part) => pack(part))
    const input = Buffer.concat([
      skippable(0),
      ...frames.flatMap((frame, i) => [frame, pack(new Uint8Array()), skippable(i * 100)]),
      noise(50),
    ])
    const bytes = Buffer.concat(parts)
    const output = new Uint8Array(bytes.length)
    zstdDecode(input, output)
    expect(bytes.equals(output)).toBe(true)
    expect(zstdFrameLength(input)).toBe(8)
    expect(kindOf(() => zstdDecode(input, new Uint8Array(bytes.length + 1)))).toBe('corrupt')
  })

  test('a match does not reach into the frame before', () => {
    const bytes = text(2000)
    const packed = pack(bytes)
    // The second frame's first match may look back only within its own bytes: decoding it alone and behind another must be the same.
    const output = new Uint8Array(4000)
    zstdDecode(Buffer.concat([packed, packed]), output)
    expect(Buffer.concat([bytes, bytes]).equals(output)).toBe(true)
  })

  test('a cut stream is corrupt at every length, unless all of the output is there', () => {
    for (const bytes of [program(3000), noise(300), new Uint8Array(3000), text(140_000)]) {
      const packed = pack(bytes, { [checksumFlag]: 1 })
      const step = packed.length > 4000 ? 101 : 1
      for (let length = 0; length < packed.length; length += step) {
        expect(
          kindOf(() => zstdDecode(packed.subarray(0, length), new Uint8Array(bytes.length))),
          `cut at ${length}`,
        ).toBe('corrupt')
        expect(zstdFrameLength(packed.subarray(0, length))).toBeUndefined()
      }
    }
  })

  test.each([
    ['no frame', [1, 2, 3, 4, 5], 'no zstd frame'],
    ['a reserved bit', [0x28, 0xb5, 0x2f, 0xfd, 0x28, 10], 'reserved bit'],
    ['a block of type 3', [0x28, 0xb5, 0x2f, 0xfd, 0x20, 10, 0x57, 0, 0], 'unknown type'],
    ['a block over 128 KiB', [0x28, 0xb5, 0x2f, 0xfd, 0x20, 10, 0x03, 0x00, 0x20, 1], 'larger than 128 KiB'],
    ['a wrong content size', [0x28, 0xb5, 0x2f, 0xfd, 0x20, 9, 0x53, 0, 0, 1], 'another size'],
    [
      'a Huffman tree that is missing',
      [0x28, 0xb5, 0x2f, 0xfd, 0x20, 10, 0x25, 0, 0, 0xa3, 0x40, 0, 0],
      'before the first',
    ],
  ])('names %s', (_what, bytes, reason) => {
    expect(() => zstdDecode(Uint8Array.from(bytes), new Uint8Array(10))).toThrow(reason)
  })

  test('a dictionary is not supported', () => {
    const frame = [0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 10, 0x53, 0, 0, 1]
    expect(kindOf(() => zstdDecode(Uint8Array.from(frame), new Uint8Array(10)))).toBe('unsupported')
    frame[5] = 0
    const output = new Uint8Array(10)
    expect(zstdDecode(Uint8Array.from(frame), output)).toBe(frame.length)
    expect(output).toEqual(new Uint8Array(10).fill(1))
  })

  test('agrees with libzstd about every stream made of changed bytes', () => {
    const streams = [text(900), program(2000), noise(40), text(140_000)].flatMap((bytes) =>
      [1, 3, 19].map((level) => ({
        size: bytes.length,
        packed: pack(bytes, { [compressionLevel]: level, [checksumFlag]: 0 }),
      })),
    )
    let good = 0
    fc.assert(
      fc.property(
        fc.constantFrom(...streams),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 3 }),
        ({ packed, size }, changes) => {
          const input = Uint8Array.from(packed)
          // The frame header stays: other window sizes and dictionaries are told apart elsewhere.
          for (const [at, value] of changes) input[9 + (at % (input.length - 9))] = value
          let expected: Uint8Array | undefined
          try {
            expected = zstdDecompressSync(input, { maxOutputLength: 1 << 20 })
          } catch {}
          const output = new Uint8Array(size)
          let refusal = ''
          try {
            zstdDecode(input, output)
          } catch (error) {
            if (!isMoraineError(error, 'corrupt')) throw error
            refusal = error.reason
          }
          if (expected === undefined) return
          // libzstd does not notice streams of literals that do not end where they should; the standard calls them corrupt (section 4.2.2).
          if (/a stream of literals/.test(refusal)) return
          good++
          if (expected.length < size) expect(refusal).not.toBe('')
          else {
            expect(refusal).toBe('')
            expect(Buffer.compare(output, expected.subarray(0, size))).toBe(0)
          }
        },
      ),
      { numRuns: 1500 },
    )
    expect(good).toBeGreaterThan(50)
  })

  test('survives any bytes behind a good header', () => {
    const header = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58]
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), fc.nat(2), fc.nat(9000), (body, mode, length) => {
        // A compressed block over all of the body, a good section of literals before random sequences, or nothing good at all.
        const head = mode === 0 ? [] : [...header, 5 | ((body.length << 3) & 0xff), body.length >> 5, 0]
        if (mode === 2 && body.length > 5) body.set([3 << 3, 1, 2, 3, 4])
        const input = Uint8Array.from([...head, ...body])
        expect(['none', 'corrupt', 'unsupported']).toContain(kindOf(() => zstdDecode(input, new Uint8Array(length))))
      }),
      { numRuns: 4000 },
    )
  })

  test('a changed checksum or content is noticed', () => {
    const bytes = noise(1000)
    const packed = pack(bytes, { [checksumFlag]: 1 })
    for (const at of [packed.length - 1, packed.length - 500]) {
      const input = Uint8Array.from(packed)
      input[at] = (input[at] as number) ^ 1
      expect(kindOf(() => zstdDecode(input, new Uint8Array(1000)))).toBe('corrupt')
    }
  })
})

test('xxh64', () => {
  // The first three are published; the others are the checksums that libzstd writes.
  expect(xxh64(new Uint8Array())).toBe(0xef46db3751d8e999n)
  expect(xxh64(Buffer.from('a'))).toBe(0xd24ec4f1a98c6e5bn)
  expect(xxh64(Buffer.from('abc'))).toBe(0x44bc2cf5ad770999n)
  for (const length of [4, 7, 8, 31, 32, 33, 63, 64, 100, 1000, 65_536]) {
    const bytes = noise(length)
    const packed = Buffer.from(pack(bytes, { [checksumFlag]: 1 }))
    expect(Number(xxh64(bytes) & 0xffffffffn), `length ${length}`).toBe(packed.readUInt32LE(packed.length - 4))
  }
})
