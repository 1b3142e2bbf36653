import { constants, deflateRawSync, deflateSync } from 'node:zlib'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { adler32 } from '../../src/codec/adler32.ts'
import { inflateRaw, inflateZlib } from '../../src/codec/inflate.ts'
import { isMoraineError } from '../../src/core/index.ts'
import { everyKind, noise, padded, program, text } from './samples.ts'

const strategies = [
  constants.Z_DEFAULT_STRATEGY,
  constants.Z_FILTERED,
  constants.Z_HUFFMAN_ONLY,
  constants.Z_RLE,
  constants.Z_FIXED,
]

function kindOf(action: () => unknown): string {
  try {
    action()
  } catch (error) {
    if (isMoraineError(error)) return error.kind
    throw error
  }
  return 'none'
}

describe('inflateRaw', () => {
  test.each(everyKind(70_001))('decodes what zlib makes of %s', (_name, bytes) => {
    for (const strategy of strategies) {
      for (const level of [0, 1, 3, 6, 9]) {
        for (const [windowBits, memLevel] of [
          [9, 1],
          [12, 9],
          [15, 8],
        ]) {
          const packed = deflateRawSync(bytes, { level, strategy, windowBits, memLevel })
          const output = new Uint8Array(bytes.length)
          expect(inflateRaw(padded(packed, 700), output)).toBe(packed.length)
          expect(Buffer.compare(output, bytes)).toBe(0)
        }
      }
    }
  })

  test('decodes every small size', () => {
    for (let length = 0; length < 300; length++) {
      for (const [, bytes] of everyKind(length)) {
        const packed = deflateRawSync(bytes)
        for (const input of [packed, padded(packed, 3)]) {
          const output = new Uint8Array(length)
          expect(inflateRaw(input, output)).toBe(packed.length)
          expect(output).toEqual(bytes)
        }
      }
    }
  })

  test('stops once the output is full, wherever that is, and writes nothing behind it', () => {
    for (const [, bytes] of everyKind(3000)) {
      for (const level of [0, 6]) {
        const packed = deflateRawSync(bytes, { level })
        for (let length = 0; length < 3000; length += 37) {
          const room = new Uint8Array(3100).fill(0xa5)
          const consumed = inflateRaw(packed, room.subarray(50, 50 + length))
          expect(consumed).toBeLessThanOrEqual(packed.length)
          expect(Buffer.compare(room.subarray(50, 50 + length), bytes.subarray(0, length))).toBe(0)
          expect(
            room.subarray(0, 50).every((b) => b === 0xa5) && room.subarray(50 + length).every((b) => b === 0xa5),
          ).toBe(true)
          // What it says it consumed is all that it needs.
          const again = new Uint8Array(length)
          expect(inflateRaw(packed.subarray(0, consumed), again)).toBe(consumed)
          expect(Buffer.compare(again, bytes.subarray(0, length))).toBe(0)
        }
      }
    }
  })

  test('passes blocks without output, and many blocks', () => {
    const first = deflateRawSync(noise(100), { finishFlush: constants.Z_FULL_FLUSH })
    const last = deflateRawSync(text(100))
    const packed = Buffer.concat([first, Buffer.from([0, 0, 0, 0xff, 0xff]), last])
    const output = new Uint8Array(200)
    expect(inflateRaw(packed, output)).toBe(packed.length)
    expect(Buffer.concat([noise(100), text(100)]).equals(output)).toBe(true)
  })

  test('a cut stream is corrupt, at every length, unless all of the output is there', () => {
    const bytes = program(4000)
    for (const options of [{}, { level: 0 }, { strategy: constants.Z_FIXED }]) {
      const packed = deflateRawSync(bytes, options)
      for (let length = 0; length < packed.length; length++) {
        const output = new Uint8Array(bytes.length)
        const kind = kindOf(() => inflateRaw(packed.subarray(0, length), output))
        // The end of the last block may stand alone in the last two bytes.
        if (length < packed.length - 2) expect(kind, `cut at ${length}`).toBe('corrupt')
        else if (kind === 'none') expect(Buffer.compare(output, bytes)).toBe(0)
        else expect(kind).toBe('corrupt')
      }
    }
  })

  test('a stream that ends before the output is full is corrupt', () => {
    expect(kindOf(() => inflateRaw(deflateRawSync(text(99)), new Uint8Array(100)))).toBe('corrupt')
    expect(kindOf(() => inflateRaw(deflateRawSync(new Uint8Array()), new Uint8Array(1)))).toBe('corrupt')
    expect(kindOf(() => inflateRaw(new Uint8Array(), new Uint8Array(1)))).toBe('corrupt')
  })

  test.each([
    ['a block of type 3', [0x07], 'unknown type'],
    ['a stored length that fails its check', [0x01, 0x01, 0x00, 0x00, 0x00, 0x41], 'fails its check'],
    ['a distance before the beginning', [0x03, 0x02, 0, 0], 'before the beginning'],
    ['287 literal codes', [0xf5, 0xe0, 0x81, 0, 0, 0], 'too many codes'],
    ['31 distance codes', [0x05, 0xfe, 0x81, 0, 0, 0], 'too many codes'],
    ['code lengths without a code', [0x05, 0xc0, 0x00, 0, 0, 0, 0, 0, 0, 0], 'form no code'],
    ['code lengths that are over-subscribed', [0x05, 0xe0, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0], 'form no code'],
  ])('names %s', (_what, bytes, reason) => {
    expect(() => inflateRaw(Uint8Array.from(bytes), new Uint8Array(64))).toThrow(reason)
  })

  test('agrees with zlib about every stream made of changed bytes', async () => {
    const { inflateRawSync } = await import('node:zlib')
    const bytes = text(600)
    const streams = strategies.map((strategy) => deflateRawSync(bytes, { strategy, windowBits: 15 }))
    fc.assert(
      fc.property(
        fc.constantFrom(...streams),
        fc.array(fc.tuple(fc.nat(700), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        (stream, changes) => {
          const input = Uint8Array.from(stream)
          for (const [at, value] of changes) input[at % input.length] = value
          let expected: Uint8Array | undefined
          try {
            expected = inflateRawSync(input, { maxOutputLength: 1 << 20 })
          } catch {}
          if (expected !== undefined) {
            const output = new Uint8Array(expected.length)
            inflateRaw(input, output)
            expect(Buffer.compare(output, expected)).toBe(0)
          }
          // Asked for more than any such stream gives, it must say so.
          expect(kindOf(() => inflateRaw(input, new Uint8Array((expected?.length ?? 1 << 20) + 1)))).toBe('corrupt')
        },
      ),
      { numRuns: 600 },
    )
  })

  test('survives any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(5000), (input, length) => {
        expect(['none', 'corrupt']).toContain(kindOf(() => inflateRaw(input, new Uint8Array(length))))
      }),
      { numRuns: 2000 },
    )
  })
})

describe('inflateZlib', () => {
  test.each(everyKind(20_000))('decodes %s', (_name, bytes) => {
    for (const level of [0, 1, 6, 9]) {
      const packed = deflateSync(bytes, { level })
      const output = new Uint8Array(bytes.length)
      expect(inflateZlib(padded(packed, 100), output)).toBe(packed.length)
      expect(Buffer.compare(output, bytes)).toBe(0)
      inflateZlib(packed, output.subarray(0, 10_000))
    }
  })

  test('checks header, dictionary, checksum and end', () => {
    const bytes = text(1000)
    const packed = deflateSync(bytes)
    const kind = (change: (stream: Uint8Array) => Uint8Array) =>
      kindOf(() => inflateZlib(change(Uint8Array.from(packed)), new Uint8Array(1000)))
    expect(kind((s) => s)).toBe('none')
    expect(kind((s) => s.fill(0x79, 0, 1))).toBe('corrupt')
    expect(kind((s) => s.fill(0x9d, 1, 2))).toBe('corrupt')
    expect(kind((s) => s.fill((s.at(-1) as number) ^ 1, s.length - 1))).toBe('corrupt')
    for (let cut = 0; cut < packed.length; cut++) {
      const result = kind((s) => s.subarray(0, cut))
      if (cut < packed.length - 6 || cut >= packed.length - 4) expect(result, `cut at ${cut}`).toBe('corrupt')
    }
    const dictionary = deflateSync(bytes, { dictionary: Buffer.from('"resolved": "https://') })
    expect(kindOf(() => inflateZlib(dictionary, new Uint8Array(1000)))).toBe('unsupported')
  })
})

test('adler32', () => {
  expect(adler32(new Uint8Array())).toBe(1)
  expect(adler32(Buffer.from('Wikipedia'))).toBe(0x11e60398)
  const bytes = new Uint8Array(100_003).fill(255)
  expect(adler32(bytes)).toBe(deflateSync(bytes).readUInt32BE(deflateSync(bytes).length - 4))
})
