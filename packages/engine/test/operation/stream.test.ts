/** Conversions written front to back: exact lengths, images that qemu-img finds sound and equal, bounded memory. */
import { closeSync, openSync, readFileSync, statSync, writeSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { allFormats } from '../../src/format/all.ts'
import { streamQcow2 } from '../../src/format/qcow2/stream.ts'
import { type Disk, type DiskFormat, type Extent, type OptionValues, planConversion, raw } from '../../src/index.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { expectClean, qemuImg, qemuIo } from '../support/qemu.ts'
import { Random, seed } from '../support/random.ts'
import { openForReading, randomPieces, writeSparse } from './support.ts'

const folder = temporaryFolder()

async function streamed(
  source: Disk,
  format: DiskFormat,
  options: OptionValues,
  path: string,
  compress = false,
): Promise<number> {
  const plan = await (await planConversion(source, { format, options, compress })).stream()
  const descriptor = openSync(path, 'w')
  let length = 0
  for await (const chunk of plan.chunks()) {
    expect(chunk.length).toBeGreaterThan(0)
    writeSync(descriptor, chunk)
    length += chunk.length
  }
  closeSync(descriptor)
  expect(plan.length).toBe(compress ? undefined : length)
  return length
}

const qcow2 = allFormats.find(({ name }) => name === 'qcow2') as DiskFormat

const optionSets: OptionValues[] = [
  {},
  { compat: '0.10' },
  { cluster_size: 512n },
  { cluster_size: 4096n, refcount_bits: 1 },
  { cluster_size: 2_097_152n, refcount_bits: 64 },
  { cluster_size: 16_384n, extended_l2: true, lazy_refcounts: true },
  { compression_type: 'zstd', refcount_bits: 4 },
]

describeWith(['qemu-img', 'qemu-io'], 'a stream', () => {
  it.each(optionSets)('of qcow2 is sound and holds the same: %o', async (options) => {
    const random = new Random(seed('stream'))
    for (let round = 0; round < 3; round++) {
      const path = folder.fresh('.raw')
      const size = round === 0 ? 1000 : random.int(1, 12 * 1024 * 1024)
      writeSparse(path, size, randomPieces(random, size, random.int(0, 10), 2_000_000))
      const source = await openForReading(path, 'raw')
      const out = folder.fresh('.qcow2')
      await streamed(source, qcow2, options, out)
      await source.close()
      await expectClean(out, 'qcow2')
      await qemuImg('compare', '-f', 'raw', '-F', 'qcow2', path, out)
    }
  })

  it.each(optionSets)('of compressed qcow2 is sound and holds the same: %o', async (options) => {
    const random = new Random(seed('compressed stream'))
    for (let round = 0; round < 3; round++) {
      const path = folder.fresh('.raw')
      const size = round === 0 ? 1000 : random.int(1, 12 * 1024 * 1024)
      const pieces = randomPieces(random, size, random.int(0, 10), 1_000_000)
      // Half of it shrinks.
      for (const { bytes } of pieces) bytes.fill(7, 0, random.int(0, bytes.length))
      writeSparse(path, size, pieces)
      const source = await openForReading(path, 'raw')
      const out = folder.fresh('.qcow2')
      const length = await streamed(source, qcow2, options, out, true)
      const again = folder.fresh('.qcow2')
      expect(await streamed(source, qcow2, options, again, true)).toBe(length)
      await source.close()
      expect(readFileSync(again).equals(readFileSync(out))).toBe(true)
      await expectClean(out, 'qcow2')
      await qemuImg('compare', '-f', 'raw', '-F', 'qcow2', path, out)
    }
  })

  it('of an empty disk is an image of no size', async () => {
    const path = folder.fresh('.raw')
    writeSparse(path, 0, [])
    const source = await openForReading(path, 'raw')
    const out = folder.fresh('.qcow2')
    await streamed(source, qcow2, {}, out)
    await source.close()
    await expectClean(out, 'qcow2')
  })

  it('of a chain of images flattens it, into qcow2 and into raw', async () => {
    const base = folder.fresh('.qcow2')
    const top = folder.fresh('.qcow2')
    await qemuImg('create', '-f', 'qcow2', base, '10M')
    await qemuIo(base, 'qcow2', 'write -P 1 100k 70k', 'write -z 3M 1M', 'write -P 2 5M 4k')
    await qemuImg('create', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top, '30M')
    await qemuIo(top, 'qcow2', 'write -P 3 1M 64k', 'write -z 5M 64k', 'write -P 4 25M 130k')
    const source = await openForReading(top, 'qcow2')
    const flat = folder.fresh('.qcow2')
    const bare = folder.fresh('.raw')
    await streamed(source, qcow2, {}, flat)
    expect(await streamed(source, raw, {}, bare)).toBe(30 * 1024 * 1024)
    await source.close()
    await expectClean(flat, 'qcow2')
    await qemuImg('compare', top, flat)
    await qemuImg('compare', top, bare)
  })

  it('of a sparse raw file has its bytes and its length', async () => {
    const path = folder.fresh('.raw')
    const random = new Random(seed('stream raw'))
    writeSparse(path, 5_000_001, randomPieces(random, 5_000_001, 6, 2_000_000))
    const source = await openForReading(path, 'raw')
    const out = folder.fresh('.raw')
    expect(await streamed(source, raw, {}, out)).toBe(5_000_192)
    await source.close()
    await qemuImg('compare', '-f', 'raw', '-F', 'raw', path, out)
  })
})

describe('a stream', () => {
  it('of 64 TiB that are nearly all holes costs little', async () => {
    const path = folder.fresh('.raw')
    const size = 15 * 2 ** 40
    const piece = (offset: number) => ({ offset, bytes: Uint8Array.of(1) })
    writeSparse(path, size, [piece(0), piece(2 ** 42), piece(size - 1)])
    const source = await openForReading(path, 'raw')
    // The same three pieces, four times as far apart: more than a host's file system takes.
    const wide = stretched(source, 4)
    const plan = await streamQcow2(wide, {})
    let length = 0
    for await (const chunk of plan.chunks()) length += chunk.length
    expect(length).toBe(plan.length)
    expect(length).toBe((1 + 1 + 1 + 15 + 3 + 3) * 65_536)
    await source.close()
    expect(statSync(path).size).toBe(size)
  })

  it('stops when cancelled, and when nobody takes any more', async () => {
    const path = folder.fresh('.raw')
    writeSparse(path, 8_000_000, [{ offset: 0, bytes: new Uint8Array(4_000_000).fill(7) }])
    const source = await openForReading(path, 'raw')
    for (const format of [raw, qcow2]) {
      const plan = await (await planConversion(source, { format })).stream()
      const stop = new AbortController()
      const taken: Uint8Array[] = []
      const all = (async () => {
        for await (const chunk of plan.chunks(stop.signal)) {
          taken.push(chunk)
          stop.abort()
        }
      })()
      await expect(all).rejects.toMatchObject({ kind: 'cancelled' })
      expect(taken).toHaveLength(1)
      for await (const _chunk of plan.chunks()) break
    }
    await source.close()
  })

  it('notices that the source was changed meanwhile', async () => {
    const path = folder.fresh('.raw')
    writeSparse(path, 8_000_000, [{ offset: 0, bytes: new Uint8Array(100_000).fill(7) }])
    const source = await openForReading(path, 'raw')
    let walks = 0
    const changing: Disk = Object.create(source, {
      // More runs than are remembered, fewer of them on the second walk.
      size: { value: 2 ** 36 },
      extents: {
        value: async function* () {
          const count = walks++ === 0 ? 70_000 : 69_000
          const batch: Extent[] = []
          for (let i = 0; i < count; i++) {
            batch.push({ offset: i * 131_072, length: 1, allocated: true, data: true, zero: false, depth: 0 })
          }
          yield batch
        },
      },
      read: { value: () => Promise.resolve() },
    })
    const plan = await streamQcow2(changing, {})
    const all = (async () => {
      for await (const _chunk of plan.chunks());
    })()
    await expect(all).rejects.toMatchObject({ kind: 'io' })
    await source.close()
  })

  it('cannot be made of what needs a file', async () => {
    const path = folder.fresh('.raw')
    writeSparse(path, 1024, [])
    const source = await openForReading(path, 'raw')
    await expect(streamQcow2(source, { preallocation: 'full' })).rejects.toMatchObject({ kind: 'unsupported' })
    await expect(streamQcow2(source, { data_file: 'x' })).rejects.toMatchObject({ kind: 'unsupported' })
    const elsewhere = await planConversion(source, { format: qcow2, compress: true, options: { data_file: 'x' } })
    await expect(elsewhere.stream()).rejects.toMatchObject({ kind: 'unsupported' })
    await source.close()
  })
})

/** A disk whose extents lie `times` as far apart; their content is that of the disk. */
function stretched(disk: Disk, times: number): Disk {
  return Object.create(disk, {
    size: { value: disk.size * times },
    extents: {
      value: async function* (this: Disk) {
        for await (const batch of disk.extents(0, disk.size)) {
          yield batch.flatMap((extent): Extent[] =>
            extent.zero ? [] : [{ ...extent, offset: Math.floor((extent.offset * times) / 65_536) * 65_536 }],
          )
        }
      },
    },
    read: {
      value: (_offset: number, into: Uint8Array) => {
        into.fill(1)
        return Promise.resolve()
      },
    },
  })
}
