/** Both worlds side by side: Node's codecs and the portable ones give the same bytes and the same errors. */
import { writeFileSync } from 'node:fs'
import { deflateRawSync, deflateSync, inflateRawSync, zstdCompressSync } from 'node:zlib'
import { describe, expect, test } from 'vitest'
import { portableCodecs } from '../../src/codec/portable.ts'
import { zstdFrameLength } from '../../src/codec/zstd-frame.ts'
import { allFormats, type Codecs, isMoraineError, openDisk, readPadded } from '../../src/index.ts'
import { nodeCodecs, openFile } from '../../src/node.ts'
import { decoders, oneShotCodecs, packView } from '../../src/platform/node/codecs.ts'
import { ReusedStream } from '../../src/platform/node/zlib-stream.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { qemuImg } from '../support/qemu.ts'
import { everyKind, noise, padded, program, text } from './samples.ts'

const worlds: [string, Codecs][] = [
  ['node', nodeCodecs],
  ['node without reused streams', oneShotCodecs],
  ['portable', portableCodecs],
]

const packers = { deflate: deflateRawSync, zlib: deflateSync, zstd: zstdCompressSync }
const names = ['deflate', 'zlib', 'zstd'] as const

function codec(codecs: Codecs, name: (typeof names)[number]) {
  const found = codecs[name]
  if (found === undefined) throw new Error(`no ${name}`)
  return found
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

describe.each(worlds)('%s', (_world, codecs) => {
  test.each(names)('%s: fills the output, whatever follows the stream', (name) => {
    const { unpack } = codec(codecs, name)
    for (const length of [1, 512, 4096, 65_536, 300_000]) {
      for (const [kind, bytes] of everyKind(length)) {
        const packed = packers[name](bytes)
        for (const padding of [0, 1, 511, 3000]) {
          const output = new Uint8Array(length)
          unpack(padded(packed, padding), output)
          expect(Buffer.compare(output, bytes), `${kind} of ${length}`).toBe(0)
        }
        // As compressed clusters lie: the next stream right behind.
        const output = new Uint8Array(length)
        unpack(Buffer.concat([packed, packed]), output)
        expect(Buffer.compare(output, bytes)).toBe(0)
      }
    }
  })

  test.each(names)('%s: cuts a stream that gives more than the output holds', (name) => {
    const { unpack } = codec(codecs, name)
    for (const [, bytes] of everyKind(70_000)) {
      const packed = packers[name](bytes)
      for (const length of [0, 1, 4096, 65_536, 69_999]) {
        const output = new Uint8Array(length)
        unpack(packed, output)
        expect(Buffer.compare(output, bytes.subarray(0, length))).toBe(0)
      }
    }
  })

  test.each(names)('%s: what ends early, is cut or damaged is corrupt', (name) => {
    const { unpack } = codec(codecs, name)
    const bytes = program(5000)
    const packed = packers[name](bytes)
    expect(kindOf(() => unpack(packed, new Uint8Array(5001)))).toBe('corrupt')
    expect(kindOf(() => unpack(padded(packed, 5000), new Uint8Array(5001)))).toBe('corrupt')
    expect(kindOf(() => unpack(packed.subarray(0, packed.length >> 1), new Uint8Array(5000)))).toBe('corrupt')
    expect(kindOf(() => unpack(new Uint8Array(), new Uint8Array(1)))).toBe('corrupt')
    expect(kindOf(() => unpack(new Uint8Array(100).fill(0xff), new Uint8Array(100)))).toBe('corrupt')
  })
})

describe.each(worlds.slice(0, 2))('packing with %s', (_world, packing) => {
  test.each(['deflate', 'zstd'] as const)('%s: all worlds read it, and what does not shrink is told', (name) => {
    const { pack } = codec(packing, name)
    if (pack === undefined) throw new Error('cannot pack')
    for (const length of [512, 4096, 65_536, 2_097_152]) {
      for (const [kind, bytes] of everyKind(length)) {
        const packed = pack(bytes, length)
        if (kind === 'noise') {
          expect(packed).toBeUndefined()
          continue
        }
        if (packed === undefined) {
          expect(length, kind).toBe(512)
          continue
        }
        expect(packed.length).toBeLessThan(length)
        expect(pack(bytes, packed.length)).toBeUndefined()
        expect(pack(bytes, packed.length + 1)).toBeDefined()
        for (const [, codecs] of worlds) {
          const output = new Uint8Array(length)
          codec(codecs, name).unpack(padded(packed, 99), output)
          expect(Buffer.compare(output, bytes)).toBe(0)
        }
        if (name === 'deflate') expect(inflateRawSync(packed, { windowBits: 12 }).equals(bytes)).toBe(true)
        else {
          expect(zstdFrameLength(packed)).toBe(packed.length)
          // The size is in the header, the checksum is not: descriptor bits 7-6 or 5, and 2.
          expect((packed[4] as number) & 0xe0).not.toBe(0)
          expect((packed[4] as number) & 4).toBe(0)
        }
      }
    }
  })
})

describe('reused streams', () => {
  test('are in use on this Node', () => {
    for (const name of names) expect(decoders[name].get(), name).toBeDefined()
    for (const name of ['deflate', 'zstd'] as const) {
      const buffers = [true, true, false, false].map((reuse, i) => packView(name, text(70_000 + i), reuse).buffer)
      expect(buffers[0] === buffers[1], name).toBe(true)
      expect(buffers[2] === buffers[3], name).toBe(false)
    }
  })

  test('pack as the public functions do, unit after unit', () => {
    for (const name of ['deflate', 'zstd'] as const) {
      for (const length of [1, 5, 512, 65_536, 2_097_152, 4096, 65_537]) {
        for (const [kind, bytes] of everyKind(length)) {
          const reused = packView(name, bytes).length
          // Not to the byte: what Node's zlib finds at the end of a unit depends on what lay there before, and libzstd goes by the room it has.
          const oneShot = packView(name, bytes, false).length
          expect(Math.abs(reused - oneShot), `${name}, ${kind} of ${length}`).toBeLessThanOrEqual(8 + oneShot / 1000)
        }
      }
    }
  })

  test('go on after an error', () => {
    const bytes = program(70_000)
    for (const name of names) {
      const packed = packers[name](bytes)
      const output = new Uint8Array(70_000)
      for (let turn = 0; turn < 3; turn++) {
        expect(kindOf(() => codec(nodeCodecs, name).unpack(noise(1000), output))).toBe('corrupt')
        codec(nodeCodecs, name).unpack(packed, output.fill(0))
        expect(Buffer.compare(output, bytes)).toBe(0)
        expect(decoders[name].get()).toBeDefined()
      }
    }
  })

  test('are not used where Node is made differently, or does not give the right bytes', () => {
    const handle = { reset() {}, writeSync() {} }
    const state = new Uint32Array(2)
    const streamOf = (inside: object, proof: () => boolean = () => true) =>
      new ReusedStream(() => ({ on() {}, ...inside }), proof).get()
    expect(streamOf({})).toBeUndefined()
    expect(streamOf({ _handle: null, _writeState: state })).toBeUndefined()
    expect(streamOf({ _handle: { writeSync() {} }, _writeState: state })).toBeUndefined()
    expect(streamOf({ _handle: handle, _writeState: [0, 0] })).toBeUndefined()
    expect(streamOf({ _handle: handle, _writeState: state }, () => false)).toBeUndefined()
    const throwing = () => {
      throw new Error('no')
    }
    expect(streamOf({ _handle: handle, _writeState: state }, throwing)).toBeUndefined()
    // One that does nothing and says nothing gives no result.
    const silent = streamOf({ _handle: handle, _writeState: state })
    expect(silent).toBeDefined()
    expect(silent?.write(2, new Uint8Array(1), new Uint8Array(1))).toBeUndefined()
  })
})

describeWith(['qemu-img'], 'clusters that qemu-img packs', () => {
  const folder = temporaryFolder()
  test.each([
    ['zlib', 512],
    ['zlib', 65_536],
    ['zlib', 2_097_152],
    ['zstd', 65_536],
    ['zstd', 2_097_152],
  ])('%s, clusters of %d bytes', async (type, clusterSize) => {
    const content = Buffer.concat([program(2_000_000), text(1_500_000), noise(200_000), program(494_304, 30 << 20)])
    const raw = folder.fresh('.raw')
    const image = folder.fresh('.qcow2')
    writeFileSync(raw, content)
    const options = `cluster_size=${clusterSize},compression_type=${type}`
    await qemuImg('convert', '-c', '-O', 'qcow2', '-o', options, raw, image)
    const disk = await openDisk(await openFile(image), { formats: allFormats, codecs: {} })
    try {
      let units = 0
      for await (const batch of disk.extents(0, disk.size)) {
        for (const { offset, length, packed } of batch) {
          if (packed === undefined) continue
          units++
          const input = new Uint8Array(packed.length)
          await readPadded(packed.source, packed.offset, input)
          const expected = content.subarray(offset, offset + length)
          for (const [world, codecs] of worlds) {
            const output = new Uint8Array(packed.size)
            codecs[packed.codec]?.unpack(input, output)
            expect(Buffer.compare(output.subarray(packed.skip, packed.skip + length), expected), world).toBe(0)
          }
        }
      }
      // All but the noise.
      expect(units).toBeGreaterThan(Math.floor(3_500_000 / clusterSize) * 0.8)
    } finally {
      await disk.close()
    }
  })
})
