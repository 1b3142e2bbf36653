/** Conversions that fail or are stopped at any moment: one error, nothing in flight, workers included. */
import { existsSync } from 'node:fs'
import { afterAll, describe, expect, it } from 'vitest'
import { allFormats } from '../../src/format/all.ts'
import {
  type ByteStore,
  compareDisks,
  createImage,
  type DiskFormat,
  faultySource,
  isMoraineError,
  isWritable,
  MemoryStore,
  openDisk,
  planConversion,
  raw,
} from '../../src/index.ts'
import { nodeCodecs, workers } from '../../src/platform/node/index.ts'
import { temporaryFolder } from '../support/folder.ts'
import { Random, seed } from '../support/random.ts'
import { newImage, openForReading, randomPieces, writeSparse } from './support.ts'

const folder = temporaryFolder()
const qcow2 = allFormats.find(({ name }) => name === 'qcow2') as DiskFormat
const mebibyte = 1024 * 1024

afterAll(() => workers().close())

/** A raw disk in memory, with holes. */
async function sample(random: Random, size: number) {
  const store = new MemoryStore({ size })
  for (const { offset, bytes } of randomPieces(random, size, 8, 400_000)) await store.write(offset, bytes)
  return openDisk(store, { formats: [raw], format: 'raw' })
}

/** Converts into a fresh image in memory that fails by plan after its creation. */
async function convertInto(source: Awaited<ReturnType<typeof sample>>, compress: boolean, at: number) {
  const store = new MemoryStore()
  const sibling = () => Promise.reject(new Error('no further file was expected'))
  await createImage({ store, sibling }, qcow2, { size: BigInt(source.size) })
  const faulty = faultySource(store as ByteStore, {
    fault: 'ENOSPC',
    calls: ['write', 'resize', 'zero'],
    at,
    sticky: true,
  })
  const opened = await openDisk(faulty.source, {
    formats: [qcow2],
    format: 'qcow2',
    mode: 'write',
    codecs: nodeCodecs,
  })
  if (!isWritable(opened)) throw new Error('not writable')
  const plan = await planConversion(source, { format: qcow2, compress })
  try {
    await plan.run(opened)
    await opened.close()
  } finally {
    await opened.close().catch(() => {})
  }
  return { store, faults: faulty.report.faults, calls: faulty.report.calls }
}

describe('a conversion to qcow2', () => {
  it.each([false, true])('fails once, whichever write of the target fails (packed: %s)', async (compress) => {
    const random = new Random(seed('faults of the target'))
    const source = await sample(random, 3 * mebibyte)
    const { calls, store } = await convertInto(source, compress, Number.POSITIVE_INFINITY)
    const copy = await openDisk(store, { formats: [qcow2], format: 'qcow2', codecs: nodeCodecs })
    expect(await compareDisks(source, copy)).toEqual({ identical: true, sizeMismatch: false })
    expect(calls).toBeGreaterThan(3)
    for (let at = 0; at < calls; at++) {
      const failed = await convertInto(source, compress, at).then(
        () => undefined,
        (error: unknown) => error,
      )
      expect(isMoraineError(failed, 'io'), `call ${at}: ${failed}`).toBe(true)
      expect((failed as { code?: string }).code).toBe('ENOSPC')
    }
  })

  it('fails once, whichever read of the source fails', async () => {
    const random = new Random(seed('faults of the source'))
    const content = new MemoryStore({ size: 3 * mebibyte })
    for (const { offset, bytes } of randomPieces(random, content.size, 8, 400_000)) await content.write(offset, bytes)
    const convert = async (at: number) => {
      const { source, report } = faultySource(content, { fault: 'EIO', calls: ['read'], at })
      const disk = await openDisk(source, { formats: [raw], format: 'raw' })
      const store = new MemoryStore({ size: content.size })
      const target = await openDisk(store, { formats: [raw], format: 'raw', mode: 'write' })
      if (!isWritable(target)) throw new Error('not writable')
      await (await planConversion(disk, { format: raw })).run(target)
      return report.calls
    }
    const calls = await convert(Number.POSITIVE_INFINITY)
    expect(calls).toBeGreaterThan(1)
    for (let at = 0; at < calls; at++) await expect(convert(at)).rejects.toMatchObject({ kind: 'io', code: 'EIO' })
  })
})

describe('with workers, a conversion', () => {
  /** 40 MiB of which all can be packed. */
  function source(): string {
    const path = folder.file('words.raw')
    if (!existsSync(path)) {
      const words = new TextEncoder().encode('a glacier carries its moraine along; '.repeat(28_000))
      writeSparse(
        path,
        40 * mebibyte,
        Array.from({ length: 40 }, (_, i) => ({ offset: i * mebibyte, bytes: words.subarray(i * 7) })),
      )
    }
    return path
  }

  it('packs, packs again and unpacks the same content', async () => {
    const first = await openForReading(source(), 'raw')
    let previous = first
    const steps = [
      { format: qcow2, options: { compression_type: 'zstd' }, compress: true },
      { format: qcow2, options: { compression_type: 'zlib', cluster_size: 16_384n }, compress: true },
      { format: qcow2, options: { cluster_size: 2_097_152n }, compress: true },
      { format: qcow2, options: {}, compress: false },
      { format: qcow2, options: {}, compress: true },
      { format: raw, options: {}, compress: false },
    ]
    for (const step of steps) {
      const path = folder.fresh('.img')
      const target = await newImage(path, step.format, first.size, step.options)
      await (await planConversion(previous, step)).run(target)
      await target.close()
      if (previous !== first) await previous.close()
      previous = await openForReading(path, step.format.name)
      expect(await compareDisks(first, previous)).toEqual({ identical: true, sizeMismatch: false })
    }
    await previous.close()
    await first.close()
  })

  it('stops when cancelled', async () => {
    const packed = folder.fresh('.qcow2')
    const plainSource = await openForReading(source(), 'raw')
    for (const [from, format, compress] of [
      [plainSource, qcow2, true],
      [undefined, raw, false],
      [undefined, qcow2, false],
    ] as const) {
      const disk = from ?? (await openForReading(packed, 'qcow2'))
      const path = from === undefined ? folder.fresh('.img') : packed
      const target = await newImage(path, format, disk.size)
      const stop = new AbortController()
      const plan = await planConversion(disk, { format, compress })
      const onProgress = ({ done }: { done: number }) => {
        if (done > 0) stop.abort()
      }
      await expect(plan.run(target, { signal: stop.signal, onProgress })).rejects.toMatchObject({ kind: 'cancelled' })
      await target.close()
      if (from === undefined) await disk.close()
      else {
        const whole = await newImage(packed, qcow2, disk.size)
        await (await planConversion(disk, { format: qcow2, compress: true })).run(whole)
        await whole.close()
      }
    }
    await plainSource.close()
  })

  it('names the place of a damaged packed unit', async () => {
    const path = folder.fresh('.qcow2')
    const plain = await openForReading(source(), 'raw')
    const target = await newImage(path, qcow2, plain.size)
    await (await planConversion(plain, { format: qcow2, compress: true })).run(target)
    await target.close()
    await plain.close()
    const damage = await openForReading(path, 'qcow2')
    let unit: { offset: number; length: number } | undefined
    for await (const batch of damage.extents(20 * mebibyte, 65_536)) unit ??= batch[0]?.packed
    await damage.close()
    if (unit === undefined) throw new Error('nothing is packed')
    const { openSync, writeSync, closeSync } = await import('node:fs')
    const descriptor = openSync(path, 'r+')
    writeSync(descriptor, new Uint8Array(200).fill(0xff), 0, 200, unit.offset)
    closeSync(descriptor)
    const damaged = await openForReading(path, 'qcow2')
    const out = await newImage(folder.fresh('.raw'), raw, damaged.size)
    const run = (await planConversion(damaged, { format: raw })).run(out)
    await expect(run).rejects.toMatchObject({ kind: 'corrupt', path })
    await out.close()
    await damaged.close()
  })
})
