/** LZFSE: streams of Apple's encoder and of the encoder for tests, with all that may be damaged about them. 7-Zip reads what the latter makes in the tests of DMG. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { lzfseDecode } from '../../src/codec/lzfse-decode.ts'
import { isMoraineError } from '../../src/core/index.ts'
import { budget, Random, seed, timeFor } from '../support/random.ts'
import { type LzfseKind, lzfseBlocks, lzfseOf } from './lzfse-encode.ts'
import { appleStreams, sentences } from './lzfse-samples.ts'
import { everyKind, noise, padded, periods, runs, text } from './samples.ts'

const runSeed = seed('LZFSE')
const kinds: LzfseKind[] = ['plain', 'lzvn', 'v1', 'v2']

function long(ms: number): fc.Parameters<unknown> {
  return { seed: runSeed, numRuns: 1_000_000, interruptAfterTimeLimit: budget(ms), markInterruptAsFailure: false }
}

function decoded(packed: Uint8Array, length: number): Uint8Array {
  const output = new Uint8Array(length)
  lzfseDecode(packed, output)
  return output
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

/** Content of a random shape: any bytes, few different ones, runs, repeats from near and far. */
function shape(random: Random): Uint8Array {
  const bytes = random.bytes(random.pick([1, 2, 7, 50, 700, 6000, 40_000]))
  const symbols = random.pick([1, 2, 3, 17, 256])
  for (let at = 0; at < bytes.length; at++) bytes[at] = (bytes[at] as number) % symbols
  for (let copies = random.int(0, 40); copies > 0 && bytes.length > 10; copies--) {
    const to = random.int(1, bytes.length - 1)
    const distance = random.int(1, Math.min(to, random.pick([1, 8, 300, 40_000])))
    const end = Math.min(bytes.length, to + random.pick([3, 10, 20, 300, 5000]))
    for (let at = to; at < end; at++) bytes[at] = bytes[at - distance] as number
  }
  return bytes
}

describe('lzfseDecode', () => {
  test.each(appleStreams)('decodes what Apple’s encoder makes of %s', (_name, content, packed) => {
    const bytes = content()
    const stream = Buffer.from(packed, 'base64')
    expect(Buffer.compare(decoded(stream, bytes.length), bytes)).toBe(0)
    expect(Buffer.compare(decoded(padded(stream, 100), bytes.length), bytes)).toBe(0)
    expect(kindOf(() => decoded(stream, bytes.length + 1))).toBe('corrupt')
  })

  test.each(everyKind(150_000))('decodes %s, in every kind of block', (_name, bytes) => {
    const random = new Random(runSeed)
    for (const list of [['lzvn'], ['v1'], ['v2'], kinds] as const) {
      const packed = lzfseOf(bytes, random, list)
      expect(Buffer.compare(decoded(packed, bytes.length), bytes), `${list}`).toBe(0)
    }
  })

  test(
    'decodes content of every shape',
    () => {
      fc.assert(
        fc.property(fc.integer(), fc.subarray(kinds, { minLength: 1 }), (start, list) => {
          const random = new Random(start)
          const bytes = shape(random)
          expect(Buffer.compare(decoded(lzfseOf(bytes, random, list), bytes.length), bytes)).toBe(0)
        }),
        long(1500),
      )
    },
    timeFor(1500),
  )

  test('stops once the output is full, wherever that is, and writes nothing outside it', () => {
    const random = new Random(runSeed)
    for (const bytes of [text(2000), runs(2000), periods(2000)]) {
      for (const list of kinds.map((kind) => [kind])) {
        const packed = lzfseOf(bytes, random, list)
        for (let length = 0; length <= 2000; length += 13) {
          const room = new Uint8Array(2100).fill(0xa5)
          lzfseDecode(packed, room.subarray(50, 50 + length))
          expect(Buffer.compare(room.subarray(50, 50 + length), bytes.subarray(0, length))).toBe(0)
          const outside = [...room.subarray(0, 50), ...room.subarray(50 + length)]
          expect(outside.every((byte) => byte === 0xa5)).toBe(true)
        }
      }
    }
  })

  test('a cut stream is corrupt, at every length', () => {
    const random = new Random(runSeed)
    const bytes = text(900)
    for (const list of [...kinds.map((kind) => [kind]), kinds]) {
      const packed = lzfseOf(bytes, random, list)
      for (let length = 0; length < packed.length - 4; length++) {
        const cut = Uint8Array.from(packed.subarray(0, length))
        // The eight bytes of LZVN's last instruction give nothing.
        const kind = kindOf(() => expect(Buffer.compare(decoded(cut, 900), bytes)).toBe(0))
        expect(kind, `${list} cut at ${length} of ${packed.length}`).toBe('corrupt')
      }
    }
  })

  test(
    'survives every change',
    () => {
      const random = new Random(runSeed)
      const streams = [text(600), runs(3000), periods(900), noise(300)].flatMap((bytes) =>
        [['lzvn'], ['v1'], ['v2'], kinds].map((list) => ({
          size: bytes.length,
          packed: Uint8Array.from(lzfseOf(bytes, random, list as LzfseKind[])),
        })),
      )
      let refused = 0
      fc.assert(
        fc.property(
          fc.constantFrom(...streams),
          fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }),
          ({ packed, size }, changes) => {
            const input = Uint8Array.from(packed)
            for (const [at, value] of changes) input[at % input.length] = value
            const kind = kindOf(() => decoded(input, size))
            expect(['none', 'corrupt']).toContain(kind)
            if (kind === 'corrupt') refused++
          },
        ),
        long(1500),
      )
      expect(refused).toBeGreaterThan(20)
    },
    timeFor(1500),
  )

  test(
    'survives any bytes behind a good beginning',
    () => {
      fc.assert(
        fc.property(
          fc.constantFrom('bvx-', 'bvxn', 'bvx1', 'bvx2', ''),
          fc.uint8Array({ maxLength: 1200 }),
          fc.nat(9000),
          (magic, body, length) => {
            const input = Buffer.concat([Buffer.from(magic), body])
            // Sizes that can be.
            if (input.length > 11) {
              input[6] = 0
              input[7] = 0
              input.writeUInt16LE(input.length - 12, 8)
              if (magic === 'bvxn') input.writeUInt16LE(0, 10)
            }
            expect(['none', 'corrupt']).toContain(kindOf(() => decoded(input, length)))
          },
        ),
        long(500),
      )
    },
    timeFor(500),
  )
})

/** A block of LZVN with these instructions. */
function lzvn(size: number, ...code: number[]): Buffer {
  const block = Buffer.from([...Buffer.from('bvxn'), 0, 0, 0, 0, 0, 0, 0, 0, ...code])
  block.writeUInt32LE(size, 4)
  block.writeUInt32LE(code.length, 8)
  return block
}

const lzvnEnd = [6, 0, 0, 0, 0, 0, 0, 0]

describe('names what is damaged', () => {
  const content = sentences(400)
  const sound1 = lzfseBlocks(content, 0, 400, 'v1', new Random(1))
  const sound2 = lzfseBlocks(content, 0, 400, 'v2', new Random(1))
  const with1 = (edit: (block: Buffer) => void): Buffer => {
    const copy = Buffer.from(sound1)
    edit(copy)
    return copy
  }
  const with2 = (edit: (block: Buffer) => void): Buffer => {
    const copy = Buffer.from(sound2)
    edit(copy)
    return copy
  }
  const literalEnd = 772 + sound1.readUInt32LE(20)
  const add = (block: Buffer, at: number, value: number): number =>
    block.writeUInt16LE(block.readUInt16LE(at) + value, at)
  /** Where the frequency of a literal lies that occurs more than once. */
  const frequent = 258 + 2 * ' '.charCodeAt(0)

  test('nothing, in what the others are made from', () => {
    expect(Buffer.compare(decoded(sound1, 400), content)).toBe(0)
    expect(Buffer.compare(decoded(sound2, 400), content)).toBe(0)
    expect(sound1.readUInt16LE(frequent)).toBeGreaterThan(1)
    expect(sound1.readInt32LE(28)).toBeLessThan(0)
    expect([...decoded(lzvn(6, 0xe2, 1, 2, 0x0e, 0x16, 0x00, 2, 0xf1, ...lzvnEnd), 6)]).toEqual([1, 2, 1, 2, 1, 2])
  })

  test.each<[string, Buffer, RegExp]>([
    ['no stream', Buffer.alloc(0), /ends early/],
    ['the end alone', Buffer.from('bvx$'), /fewer bytes than it should/],
    ['half a magic', Buffer.from('bv'), /ends early/],
    ['an unknown block', Buffer.from('bvx3\0\0\0\0'), /unknown kind/],
    ['a plain block that is cut', Buffer.from('bvx-\x09\0\0\0abc'), /plain block is cut/],
    ['a plain block that is short', Buffer.from('bvx-\x03\0\0\0abcbvx$'), /fewer bytes than it should/],
    ['an LZVN header that is cut', Buffer.from('bvxn\x03\0\0\0\0'), /header of a block is cut/],
    ['an LZVN block that is cut', lzvn(400, 0xe1, 1, ...lzvnEnd).subarray(0, 15), /block is cut/],
    ['an LZVN block without instructions', lzvn(400), /do not end/],
    ['the instruction 70', lzvn(400, 0x70, 0, 0, 0, ...lzvnEnd), /unknown instruction/],
    ['the instruction d0', lzvn(400, 0xd0, 0, 0, 0, ...lzvnEnd), /unknown instruction/],
    ['the instruction 1e', lzvn(400, 0x1e, 0, 0, 0, ...lzvnEnd), /unknown instruction/],
    ['literals that are cut', lzvn(400, 0xe0, 9, 1, 2, 3), /instruction is cut/],
    ['a literal length that is cut', lzvn(400, 0xe1, 1, 0xe0), /instruction is cut/],
    ['a distance that is cut', lzvn(400, 0xe1, 1, 0x07, 1), /instruction is cut/],
    ['no distance before', lzvn(400, 0xe1, 1, 0xf1, ...lzvnEnd), /before the beginning/],
    ['a distance of nothing', lzvn(400, 0xe1, 1, 0x00, 0, ...lzvnEnd), /before the beginning/],
    ['a distance too far', lzvn(400, 0xe1, 1, 0x00, 2, ...lzvnEnd), /before the beginning/],
    ['an LZVN block that gives more', lzvn(2, 0xe3, 1, 2, 3, ...lzvnEnd), /more bytes than it says/],
    [
      'an LZVN block that gives more than all',
      lzvn(400, 0xe1, 1, 0x00, 1, 0xf0, 255, 0xf0, 109, 0xe1, 5, ...lzvnEnd),
      /more bytes than it says/,
    ],
    ['an LZVN block that gives less', lzvn(4, 0xe3, 1, 2, 3, ...lzvnEnd), /fewer bytes than it says/],
    ['an LZVN block that goes on', lzvn(3, 0xe3, 1, 2, 3, ...lzvnEnd, 0x0e), /not the last/],
    ['an LZVN block without its end', lzvn(3, 0xe3, 1, 2, 3, 0x0e), /do not end/],
    ['a header that is cut', sound1.subarray(0, 771), /header of a block is cut/],
    ['a body that is cut', sound1.subarray(0, sound1.length - 1), /a block is cut/],
    ['40,001 literals', with1((block) => void block.writeUInt32LE(40_001, 12)), /too many literals/],
    ['more literals than bytes', with1((block) => void block.writeUInt32LE(404, 12)), /too many literals/],
    ['more matches than bytes', with1((block) => void block.writeUInt32LE(401, 16)), /too many matches/],
    ['a stream of 1 MiB', with1((block) => void block.writeUInt32LE(1 << 20, 20)), /too long/],
    ['another stream of 4 GiB', with1((block) => void block.writeUInt32LE(0xffff_ffff, 24)), /too long/],
    ['one bit too many', with1((block) => void block.writeInt32LE(1, 28)), /outside its last byte/],
    ['eight bits too few', with1((block) => void block.writeInt32LE(-8, 40)), /outside its last byte/],
    ['state 1024 of literals', with1((block) => void block.writeUInt16LE(1024, 38)), /first state/],
    ['state 64 of literal lengths', with1((block) => void block.writeUInt16LE(64, 44)), /first state/],
    ['state 64 of match lengths', with1((block) => void block.writeUInt16LE(64, 46)), /first state/],
    ['state 256 of distances', with1((block) => void block.writeUInt16LE(256, 48)), /first state/],
    ['a frequency too high', with1((block) => void add(block, frequent, 1)), /too many/],
    ['a frequency too low', with1((block) => void add(block, frequent, -1)), /too few/],
    ['frequencies of 65,535', with1((block) => void block.fill(0xff, 50, 770)), /too many/],
    ['a bit past the end', with1((block) => void block.writeUInt8(0xff, literalEnd - 1)), /not end where it should/],
    ['bits without bytes', with1((block) => void block.writeUInt32LE(0, 20)), /not end where it should/],
    ['eight literals fewer', with1((block) => void add(block, 12, -8)), /not used up/],
    ['no literals', with1((block) => void block.writeUInt32LE(0, 12)), /more literals than it has/],
    ['two matches fewer', with1((block) => void add(block, 16, -2)), /not used up/],
    ['one match of many', with1((block) => void block.writeUInt16LE(1, 16)), /not used up/],
    ['one byte fewer', with1((block) => void add(block, 4, -1)), /more bytes than it says/],
    ['a packed header that is cut', sound2.subarray(0, 31), /header of a block is cut/],
    ['a packed header of 31 bytes', with2((block) => void block.writeUInt32LE(31, 24)), /header of a block is cut/],
    [
      'a packed header of 4 GiB',
      with2((block) => void block.writeUInt32LE(0xffff_ffff, 24)),
      /header of a block is cut/,
    ],
    ['frequencies that are cut', with2((block) => void add(block, 24, -1)), /frequencies of a block are cut/],
    ['a byte behind the frequencies', with2((block) => void add(block, 24, 1)), /do not fill/],
    ['no frequencies', with2((block) => void block.writeUInt32LE(32, 24)), /too few|not end where/],
  ])('%s', (_what, stream, reason) => {
    expect(kindOf(() => decoded(stream, 400))).toBe('corrupt')
    expect(() => decoded(stream, 400)).toThrow(reason)
  })

  test('a block that gives fewer bytes than it says', () => {
    expect(() =>
      decoded(
        with1((block) => void add(block, 4, 1)),
        500,
      ),
    ).toThrow(/fewer bytes than it says/)
  })

  test.each(['lzvn', 'v1', 'v2'] as const)('a match before the beginning (%s)', (kind) => {
    // Behind another block it reaches back into that; alone it cannot.
    const bytes = Uint8Array.from([...noise(300), ...noise(300)])
    const first = lzfseBlocks(bytes, 0, 300, 'plain', new Random(1))
    const second = lzfseBlocks(bytes, 300, 600, kind, new Random(1))
    expect(Buffer.compare(decoded(Buffer.concat([first, second]), 600), bytes)).toBe(0)
    expect(kindOf(() => decoded(second, 300))).toBe('corrupt')
    expect(() => decoded(second, 300)).toThrow(/before the beginning/)
  })
})

test('work is bounded by what is read and given', () => {
  // Blocks that give nothing, or one byte and all tables.
  const nothing = Buffer.from('bvx-\0\0\0\0'.repeat(200_000))
  const one = lzfseBlocks(Uint8Array.of(7), 0, 1, 'v2', new Random(1))
  const many = Buffer.concat(new Array<Buffer>(4000).fill(one))
  const began = performance.now()
  expect(kindOf(() => decoded(nothing, 9))).toBe('corrupt')
  expect(decoded(many, 4000).every((byte) => byte === 7)).toBe(true)
  expect(kindOf(() => decoded(many, 1 << 20))).toBe('corrupt')
  expect(performance.now() - began).toBeLessThan(2000)
})
