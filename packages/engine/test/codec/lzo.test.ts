/** Beginnings of LZO1X streams, beside lzop. */
import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { lzoDecodePart } from '../../src/codec/lzo-decode.ts'
import { describeWith, tool } from '../support/process.ts'
import { Random, seed } from '../support/random.ts'
import { everyKind, program } from './samples.ts'

describeWith(['lzop'], 'what lzop packs', () => {
  const pack = (bytes: Uint8Array, ...args: string[]): Buffer =>
    execFileSync(tool('lzop').path ?? '', ['-c', ...args], { input: bytes, maxBuffer: 1 << 26 })

  test('comes out as it was, whatever it is and however it was packed', () => {
    const all: [string, Uint8Array][] = [1, 3, 4, 20, 300, 70_000].flatMap((length) => [...everyKind(length)])
    for (const [kind, bytes] of [...all, ['a program, of several blocks', program(900_000)] as const]) {
      for (const args of [['-1'], ['-9'], ['-3', '-C'], ['-3', '-F', '--crc32']]) {
        const output = new Uint8Array(bytes.length)
        const part = lzoDecodePart(pack(bytes, ...args), output)
        expect(part, `${kind} of ${bytes.length}, ${args}`).toEqual({ filled: bytes.length, ended: true })
        expect(Buffer.compare(output, bytes)).toBe(0)
      }
    }
  })

  test('gives what came before where input or output end', () => {
    const bytes = program(300_000)
    const packed = pack(bytes, '-9')
    for (const length of [0, 1, 4096, 262_144, 262_145, 299_999]) {
      const output = new Uint8Array(length)
      expect(lzoDecodePart(packed, output).filled).toBe(length)
      expect(Buffer.compare(output, bytes.subarray(0, length))).toBe(0)
    }
    for (const length of [0, 9, 30, 60, 1000, packed.length - 4, packed.length - 1]) {
      const output = new Uint8Array(bytes.length)
      const { filled, ended } = lzoDecodePart(packed.subarray(0, length), output)
      expect(ended).toBe(false)
      expect(Buffer.compare(output.subarray(0, filled), bytes.subarray(0, filled))).toBe(0)
    }
  })

  test('never fails on damage, and never fills more than there is', () => {
    const packed = pack(program(20_000), '-9')
    const random = new Random(seed('lzo'))
    for (let round = 0; round < 3000; round++) {
      const damaged = Buffer.from(packed)
      for (let hit = 0; hit < 4; hit++) damaged[random.int(0, damaged.length - 1)] = random.int(0, 255)
      const output = new Uint8Array(random.int(0, 30_000))
      expect(lzoDecodePart(damaged, output).filled).toBeLessThanOrEqual(output.length)
    }
  })
})
