/** Packed files, bent: bytes changed, cut out, doubled. Each of these kinds has checksums: what comes out is what went in, or a clear error, never other bytes. */
import { execFileSync } from 'node:child_process'
import {
  allFormats,
  detectWrapper,
  isMoraineError,
  MemoryStore,
  type StreamCodecs,
  unwrapSource,
  xzStream,
} from '@moraine/engine'
import { nodeStreamCodecs } from '@moraine/engine/node'
import { expect, it } from 'vitest'
import { describeWith } from '../support/process.ts'
import { budget, Random, seed, timeFor } from '../support/random.ts'

const codecs: StreamCodecs = { ...nodeStreamCodecs, xz: xzStream(() => import('@napi-rs/lzma')) }
const size = 150_000
const slowest = 10_000

const ways: readonly (readonly [program: string, args: readonly string[]])[] = [
  ['gzip', ['-c']],
  ['xz', ['-c', '-0', '--check=crc64']],
  ['bzip2', ['-c', '-1']],
  ['zstd', ['-c', '-q']],
  ['lz4', ['-c', '-q', '-BD', '-B4']],
  ['zip', ['-q', '-', '-']],
]

function bend(bytes: Uint8Array, random: Random): Uint8Array {
  let bent = bytes.slice()
  for (let count = random.int(1, 3); count > 0; count--) {
    const edge = random.int(0, 2)
    // Structures stand at both ends.
    const at =
      edge === 0
        ? random.int(0, Math.min(40, bent.length - 1))
        : edge === 1
          ? Math.max(0, bent.length - random.int(1, 60))
          : random.int(0, bent.length - 1)
    const way = random.int(0, 4)
    if (way < 2) bent[at] = random.int(0, 255)
    else if (way === 2) bent.fill(random.pick([0, 0x7f, 0x80, 0xff]), at, at + random.int(1, 8))
    else if (way === 3) bent = bent.slice(0, Math.max(1, at))
    else bent = new Uint8Array(Buffer.concat([bent.subarray(0, at), bent.subarray(at + random.int(1, 9))]))
    if (bent.length === 0) return new Uint8Array(1)
  }
  return bent
}

async function unpack(bytes: Uint8Array): Promise<Uint8Array> {
  const source = await unwrapSource(MemoryStore.from(bytes, 'packed.raw'), { codecs, formats: allFormats })
  try {
    const all = new Uint8Array(Math.min(source.size, 4 * size))
    for (let at = 0; at < all.length; at += 40_000) await source.read(at, all.subarray(at, at + 40_000))
    return all
  } finally {
    await source.close()
  }
}

describeWith(
  ways.map(([program]) => program),
  'bent files',
  () => {
    const chance = seed('bent wrappers')
    const random = new Random(chance)
    const plain = new Uint8Array(size)
    plain.set(random.bytes(60_000), 10_000)
    plain.fill(0x41, 90_000, 120_000)

    it.each(ways.map(([program, args]) => [program, args] as const))(
      'of %s',
      async (program, args) => {
        const packed = execFileSync(program, args, { input: plain, maxBuffer: 4 * size })
        expect(Buffer.compare(await unpack(new Uint8Array(packed)), plain)).toBe(0)
        const end = Date.now() + budget(500)
        let [same, refused, rounds] = [0, 0, 0]
        for (; rounds < 10 || Date.now() < end; rounds++) {
          const bent = bend(new Uint8Array(packed), new Random(chance + rounds))
          // What does not begin as a packed file is none.
          if (detectWrapper(bent) === undefined) continue
          const began = Date.now()
          try {
            const bytes = await unpack(bent)
            expect(Buffer.compare(bytes, plain), `round ${rounds} of seed ${chance}: the content`).toBe(0)
            same++
          } catch (error) {
            if (!isMoraineError(error)) throw new Error(`round ${rounds} of seed ${chance}`, { cause: error })
            expect(['corrupt', 'invalid', 'limit', 'unsupported', 'io', 'missing']).toContain(error.kind)
            refused++
          }
          expect(Date.now() - began, `round ${rounds} of seed ${chance}`).toBeLessThan(slowest)
        }
        console.info(`bent ${program}: ${rounds} files, ${refused} refused, ${same} as they were`)
        expect(refused).toBeGreaterThan(0)
      },
      timeFor(500),
    )
  },
)
