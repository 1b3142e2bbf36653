/** Anything at all: it never throws, reads and keeps a bounded part, comes to its end soon, and says the same of a stream in any pieces as of a file. */

import { readFileSync } from 'node:fs'
import { type Inspection, inspectedHeadBytes, inspectSource, MemoryStore, StreamInspector } from '@moraine/engine'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { crc32cWithout } from '../../src/bytes/crc32c.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { qemuImg } from '../support/qemu.ts'
import { budget, seed, timeFor } from '../support/random.ts'
import * as images from './images.ts'
import { look } from './look.ts'

const folder = temporaryFolder()
const MiB = 1024 * 1024

const corpus: Buffer[] = [
  images.qcow2(),
  images.qcow(),
  images.qed(),
  images.vmdk(),
  images.streamOptimized(),
  Buffer.from(images.descriptor('twoGbMaxExtentFlat', 'RW 4096 FLAT "x" 0')),
  images.fixedVhd(images.withMbr()),
  images.dynamicVhd(),
  images.vdi(),
  images.parallels(),
  images.bochs(),
  images.cloop(),
  images.dmg(),
  images.asif(),
  images.luks1(),
  images.luks2(),
  images.iso(),
  images.udf(),
  images.gpt(),
  images.tar([
    { name: 'a.ovf', data: images.ovf(['b.vmdk']) },
    { name: 'b.vmdk', data: images.vmdk().subarray(0, 4096) },
  ]),
  images.ovf(['a.vmdk']),
  Buffer.from('H4sIAAAAAAACA0vOz0vOL0nMKwEA6iUqMgoAAAA=', 'base64'),
  Buffer.concat([Buffer.from('28b52ffd04005100', 'hex'), Buffer.alloc(100)]),
  Buffer.concat([Buffer.from('BZh91AY&SY'), Buffer.alloc(3000, 0x5a)]),
  Buffer.concat([Buffer.from('fd377a585a000004e6d6b4460200210116000000742fe5a3', 'hex'), Buffer.alloc(3000, 0xe0)]),
  Buffer.concat([Buffer.from('04224d186440a7', 'hex'), Buffer.alloc(3000, 0x1f)]),
  Buffer.concat([Buffer.from('PK\x03\x04\x14\0\0\0\x08\0', 'latin1'), Buffer.alloc(3000)]),
]

/** Numbers that headers are bent to. */
const odd = fc.constantFrom(0n, 1n, 0x7fffffffn, 0xffffffffn, 1n << 40n, (1n << 53n) - 1n, 1n << 62n, (1n << 64n) - 1n)
const change = fc.record({
  /** Mostly in headers. */
  at: fc.oneof(
    fc.integer({ min: 0, max: 700 }),
    fc.integer({ min: 0, max: 300_000 }),
    fc.integer({ min: -1600, max: -1 }),
  ),
  bytes: fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 24 }),
    odd.map((value) => {
      const bytes = Buffer.alloc(8)
      bytes.writeBigUInt64LE(value)
      return bytes
    }),
    odd.map((value) => {
      const bytes = Buffer.alloc(8)
      bytes.writeBigUInt64BE(value)
      return bytes
    }),
  ),
})

const image = fc
  .record({
    base: fc.constantFrom(...corpus),
    under: fc.option(fc.constantFrom(...corpus), { freq: 4 }),
    behind: fc.option(fc.constantFrom(...corpus), { freq: 4 }),
    changes: fc.array(change, { maxLength: 6 }),
    cut: fc.option(fc.double({ min: 0, max: 1, noNaN: true }), { freq: 3 }),
  })
  .map(({ base, under, behind, changes, cut }) => {
    let data = Buffer.from(under === null || under.length < base.length ? base : under)
    base.copy(data)
    if (behind !== null) data = Buffer.concat([data, behind])
    for (const { at, bytes } of changes) {
      const from = at < 0 ? data.length + at : at
      if (from >= 0 && from < data.length) data.set(bytes.subarray(0, data.length - from), from)
    }
    return cut === null ? data : data.subarray(0, Math.floor(data.length * cut))
  })

function checkShape({ findings, virtualSize, checks }: Inspection): void {
  if (virtualSize !== undefined) expect(Number.isSafeInteger(virtualSize) && virtualSize >= 0).toBe(true)
  for (const finding of findings) {
    expect(finding.evidence.length).toBeGreaterThan(0)
    // What came out of the image is safe to print.
    expect(JSON.stringify(finding)).not.toMatch(/\p{Cc}|\\u00[01]/u)
    if (finding.inner !== undefined) checkShape(finding.inner)
  }
  for (const check of [...checks, ...findings.flatMap((finding) => finding.checks)]) {
    expect(check.sentence.length).toBeLessThan(3000)
  }
}

describe('anything at all', () => {
  it(
    'is judged the same in one pass as in a file, within the budget',
    async () => {
      const seen = new Set<string>()
      const property = fc.asyncProperty(
        image,
        fc.constantFrom(1000, 65_536, 131_072, 131_073, 3_000_000),
        async (data, piece) => {
          const begun = performance.now()
          const found = await look(data, piece)
          expect(performance.now() - begun).toBeLessThan(5000)
          checkShape(found)
          for (const { format } of found.findings) seen.add(format)
        },
      )
      await fc.assert(property, {
        seed: seed('inspection'),
        // First all of them as they are: few runs may not come to each kind.
        examples: corpus.map((data): [Buffer<ArrayBuffer>, number] => [Buffer.from(data), 65_536]),
        numRuns: 1_000_000,
        interruptAfterTimeLimit: budget(6000),
        markInterruptAsFailure: false,
      })
      expect([...seen]).toEqual(
        expect.arrayContaining([
          'qcow2',
          'vmdk',
          'vhd',
          'vdi',
          'iso',
          'dmg',
          'gpt',
          'tar',
          'luks',
          'gzip',
          'xz',
          'bzip2',
        ]),
      )
    },
    timeFor(6000),
  )

  it(
    'a failed check that is seen early stays failed',
    () => {
      const property = fc.property(image, (data) => {
        const inspector = new StreamInspector()
        inspector.push(data.subarray(0, inspectedHeadBytes))
        inspector.push(data.subarray(inspectedHeadBytes, inspectedHeadBytes + 1))
        const early = inspector.seen().findings.map(({ format, checks }) => ({
          format,
          failed: checks.filter(({ verdict }) => verdict === 'failed').map(({ name }) => name),
        }))
        inspector.push(data.subarray(inspectedHeadBytes + 1))
        const { findings } = inspector.end()
        // A wrapper in front of a trailer becomes what the trailer's disk holds.
        for (const { format, failed } of early.filter(
          (each) => !['bzip2', 'gzip', 'xz', 'zstd', 'lz4', 'zip'].includes(each.format),
        )) {
          const later = findings.filter((finding) => finding.format === format).flatMap(({ checks }) => checks)
          for (const name of failed) expect(later).toContainEqual(expect.objectContaining({ name, verdict: 'failed' }))
        }
      })
      fc.assert(property, {
        seed: seed('early inspection'),
        numRuns: 1_000_000,
        interruptAfterTimeLimit: budget(2000),
        markInterruptAsFailure: false,
      })
    },
    timeFor(2000),
  )
})

describeWith(['qemu-img'], 'VHDX with right checksums', () => {
  it(
    'bent anywhere in its tables',
    async () => {
      const path = folder.fresh()
      await qemuImg('create', '-q', '-f', 'vhdx', path, '64M')
      const base = readFileSync(path)
      const metadataAt = 3 * MiB
      const table = (start: number, length: number) =>
        fc.record({ at: fc.integer({ min: start, max: start + length }), bytes: change.map(({ bytes }) => bytes) })
      const bends = fc.array(
        fc.oneof(table(64 * 1024, 80), table(192 * 1024, 100), table(metadataAt, 240), table(metadataAt + 65536, 60)),
        { maxLength: 5 },
      )
      const property = fc.asyncProperty(bends, async (changes) => {
        const data = Buffer.from(base)
        for (const { at, bytes } of changes) data.set(bytes, at)
        for (const [at, length] of [
          [64 * 1024, 4096],
          [192 * 1024, 65536],
        ] as const) {
          data.writeUInt32LE(crc32cWithout(data.subarray(at, at + length), 4), at + 4)
        }
        checkShape(await look(data))
      })
      await fc.assert(property, {
        seed: seed('VHDX inspection'),
        numRuns: 1_000_000,
        interruptAfterTimeLimit: budget(3000),
        markInterruptAsFailure: false,
      })
    },
    timeFor(3000),
  )
})

it('an image of 100 GiB is judged by less than 2 MiB', async () => {
  const huge = new MemoryStore({ size: 100 * 1024 * MiB })
  await huge.write(
    0,
    images.vmdk(images.descriptor(), (data) => data.writeBigUInt64LE(2047n, 36)),
  )
  let read = 0
  const source = new Proxy(huge, {
    get(target, key) {
      if (key !== 'read') return Reflect.get(target, key, target)
      return (offset: number, into: Uint8Array) => {
        read += into.length
        return target.read(offset, into)
      }
    },
  })
  expect((await inspectSource(source)).format).toBe('vmdk')
  expect(read).toBeLessThan(2 * MiB)
})
