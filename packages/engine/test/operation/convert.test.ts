/** What a conversion promises besides the right bytes: plans and losses, progress, cancellation, salvage, errors, bounded memory. */
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { allFormats } from '../../src/format/all.ts'
import {
  type ByteSource,
  type ByteStore,
  type ConversionRequest,
  compareDisks,
  type DiskFormat,
  faultySource,
  isWritable,
  MemoryStore,
  openDisk,
  type Progress,
  planConversion,
  raw,
  type WritableDisk,
} from '../../src/index.ts'
import { nodeCodecs } from '../../src/platform/node/index.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { expectClean, qemuImg, qemuIo } from '../support/qemu.ts'
import { Random, seed } from '../support/random.ts'
import { newImage, openForReading, openForWriting, randomPieces, recorded, writeSparse } from './support.ts'

const folder = temporaryFolder()
const qcow2 = allFormats.find(({ name }) => name === 'qcow2') as DiskFormat
const mebibyte = 1024 * 1024

/** A raw disk over a store. */
async function rawDisk(store: ByteSource) {
  return openDisk(store, { formats: [raw], format: 'raw' })
}

async function rawTarget(store: ByteStore): Promise<WritableDisk> {
  const disk = await openDisk(store, { formats: [raw], format: 'raw', mode: 'write' })
  if (!isWritable(disk)) throw new Error('not writable')
  return disk
}

/** `size` bytes of which every third 100,000 are zeros. */
function striped(size: number): MemoryStore {
  const bytes = new Uint8Array(size).fill(9)
  for (let at = 0; at < size; at += 300_000) bytes.fill(0, at, at + 100_000)
  return MemoryStore.from(bytes)
}

/** A store whose calls take a while; tells how many are under way. */
function slow(
  store: ByteStore,
  milliseconds: number,
): { store: ByteStore; underWay: () => number; calls: () => number } {
  let underWay = 0
  let calls = 0
  const proxy = new Proxy(store, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key, target)
      if (key === 'copyFrom') return undefined
      if (key !== 'write' && key !== 'zero' && key !== 'read') {
        return typeof value === 'function' ? value.bind(target) : value
      }
      return async (...args: unknown[]) => {
        underWay++
        calls++
        await sleep(milliseconds)
        try {
          return await (value as (...args: unknown[]) => Promise<void>).apply(target, args)
        } finally {
          underWay--
        }
      }
    },
  })
  return { store: proxy, underWay: () => underWay, calls: () => calls }
}

describe('a plan', () => {
  it('tells size and length before any byte moves', async () => {
    const disk = await rawDisk(new MemoryStore({ size: 1000 }))
    const plan = await planConversion(disk, { format: raw })
    expect([plan.virtualSize, plan.length]).toEqual([1024, 1024])
    expect(plan.losses).toEqual([{ what: 'size', reason: expect.stringContaining('from 1000 to 1024 bytes') }])
    expect((await planConversion(disk, { format: qcow2 })).length).toBeUndefined()
  })

  it.each<[string, Partial<ConversionRequest>]>([
    ['a sparse size that is no multiple of 512', { sparseBytes: 1000 }],
    ['a sparse size over 16 MiB', { sparseBytes: 32 * mebibyte }],
    ['no request at all', { requests: 0 }],
    ['too many requests', { requests: 17 }],
    ['packing into raw', { compress: true }],
    ['packing and in-kernel copies', { compress: true, copyOffload: true, format: qcow2 }],
    ['packing and preallocation', { compress: true, format: qcow2, options: { preallocation: 'full' } }],
    ['in-kernel copies and salvage', { copyOffload: true, salvage: true }],
    ['a zero target with a backing file', { targetIsZero: true, backing: { name: 'x' } }],
  ])('refuses %s', async (_what, request) => {
    const disk = await rawDisk(new MemoryStore({ size: 1024 }))
    await expect(planConversion(disk, { format: raw, ...request })).rejects.toMatchObject({ kind: 'invalid' })
  })

  it('refuses a target that is too small', async () => {
    const disk = await rawDisk(striped(mebibyte))
    const target = await rawTarget(new MemoryStore({ size: 1024 }))
    const run = (await planConversion(disk, { format: raw })).run(target)
    await expect(run).rejects.toMatchObject({ kind: 'invalid', reason: 'output file is smaller than input file' })
  })
})

describe('a run', () => {
  it('copies, whatever the number of requests and their order', async () => {
    const source = striped(9 * mebibyte + 512)
    for (const requests of [1, 3, 16]) {
      for (const outOfOrder of [false, true]) {
        const store = new MemoryStore({ size: source.size })
        const target = await rawTarget(store)
        const plan = await planConversion(await rawDisk(source), { format: raw, requests, outOfOrder })
        await plan.run(target)
        expect(Buffer.compare(store.bytes(), source.bytes())).toBe(0)
      }
    }
  })

  it('reports progress in bytes of data that never goes back and ends at its total', async () => {
    const source = new MemoryStore({ size: 100 * mebibyte })
    await source.write(0, new Uint8Array(5 * mebibyte).fill(1))
    await source.write(50 * mebibyte, new Uint8Array(mebibyte).fill(1))
    for (const sparseBytes of [4096, 0]) {
      const seen: Progress[] = []
      const target = await rawTarget(new MemoryStore({ size: source.size }))
      const plan = await planConversion(await rawDisk(source), { format: raw, sparseBytes })
      await plan.run(target, { onProgress: (progress) => seen.push({ ...progress }) })
      const total = sparseBytes === 0 ? 100 * mebibyte : 6 * mebibyte
      expect(seen[0]).toEqual({ done: 0, total })
      expect(seen.at(-1)).toEqual({ done: total, total })
      for (let i = 1; i < seen.length; i++) expect(seen[i]?.done).toBeGreaterThanOrEqual(seen[i - 1]?.done ?? 0)
    }
  })

  it('writes zeros into what is not known to read as zeros, and only there', async () => {
    const source = striped(3 * mebibyte)
    const existing = async () => {
      const store = new MemoryStore({ size: source.size })
      await store.write(0, new Uint8Array(source.size).fill(5))
      return store
    }
    const copy = async (store: ByteStore, targetIsZero: boolean | undefined) => {
      const out = recorded(await rawTarget(store))
      const request: ConversionRequest = { format: raw, ...(targetIsZero !== undefined && { targetIsZero }) }
      await (await planConversion(await rawDisk(source), request)).run(out.disk)
      return out.writes.filter(({ zero }) => zero).length
    }
    const store = await existing()
    expect(await copy(store, false)).toBeGreaterThan(0)
    expect(Buffer.compare(store.bytes(), source.bytes())).toBe(0)
    expect(await copy(await existing(), true)).toBe(0)
    const fresh = new MemoryStore({ size: source.size })
    expect(await copy(fresh, undefined)).toBe(0)
    expect(Buffer.compare(fresh.bytes(), source.bytes())).toBe(0)
    const device = await existing()
    Object.defineProperty(device, 'kind', { value: 'device' })
    expect(await copy(device, undefined)).toBeGreaterThan(0)
    expect(Buffer.compare(device.bytes(), source.bytes())).toBe(0)
  })

  it('stops soon when cancelled, with nothing left in flight', async () => {
    const source = await rawDisk(striped(64 * mebibyte))
    for (const format of [raw, qcow2]) {
      const { store, underWay, calls } = slow(new MemoryStore(), 5)
      await format.create?.(
        { store, sibling: () => Promise.reject(new Error('no sibling')) },
        { size: source.size, options: format.resolveOptions?.(BigInt(source.size), {}) ?? {} },
      )
      const disk = await openDisk(store, { formats: [format], format: format.name, mode: 'write', codecs: nodeCodecs })
      if (!isWritable(disk)) throw new Error('not writable')
      const stop = new AbortController()
      const before = calls()
      const run = (await planConversion(source, { format })).run(disk, { signal: stop.signal })
      setTimeout(() => stop.abort(), 40)
      await expect(run).rejects.toMatchObject({ kind: 'cancelled' })
      expect(underWay()).toBe(0)
      const after = calls()
      expect(after).toBeGreaterThan(before)
      await sleep(30)
      expect(calls()).toBe(after)
    }
  })

  it('does not begin when cancelled before', async () => {
    const source = await rawDisk(striped(mebibyte))
    const out = recorded(await rawTarget(new MemoryStore({ size: source.size })))
    const plan = await planConversion(source, { format: raw })
    await expect(plan.run(out.disk, { signal: AbortSignal.abort() })).rejects.toMatchObject({ kind: 'cancelled' })
    expect(out.writes).toEqual([])
  })

  it('ends with the first error of the target, nothing left in flight', async () => {
    const source = await rawDisk(striped(32 * mebibyte))
    for (const at of [0, 1, 5]) {
      const plan = { fault: 'ENOSPC', calls: ['write'], at, sticky: true } as const
      const { store, underWay } = slow(faultySource(new MemoryStore({ size: source.size }), plan).source, 2)
      const run = (await planConversion(source, { format: raw })).run(await rawTarget(store))
      await expect(run).rejects.toMatchObject({ kind: 'io', code: 'ENOSPC' })
      expect(underWay()).toBe(0)
    }
  })

  it('ends with the first error of the source, or takes zeros for what cannot be read', async () => {
    const bytes = new Uint8Array(4 * mebibyte).fill(3)
    const bad = 1_234_944
    const damaged = (): ByteSource => {
      const store = MemoryStore.from(bytes)
      const read = store.read.bind(store)
      const { source } = faultySource(store, { fault: 'EIO', calls: ['read'], at: 0, sticky: true })
      store.read = (offset, into, signal) =>
        offset < bad + 1024 && offset + into.length > bad
          ? source.read(offset, into, signal)
          : read(offset, into, signal)
      return store
    }
    const store = new MemoryStore({ size: bytes.length })
    const failing = (await planConversion(await rawDisk(damaged()), { format: raw })).run(await rawTarget(store))
    await expect(failing).rejects.toMatchObject({ kind: 'io', code: 'EIO' })
    const warnings: string[] = []
    const saved = new MemoryStore({ size: bytes.length })
    const request = { format: raw, salvage: true, warn: (line: string) => warnings.push(line) }
    await (await planConversion(await rawDisk(damaged()), request)).run(await rawTarget(saved))
    const expected = bytes.slice()
    expected.fill(0, bad, bad + 1024)
    expect(Buffer.compare(saved.bytes(), expected)).toBe(0)
    expect(warnings).toEqual([
      expect.stringMatching(`error while reading offset ${bad}: `),
      expect.stringMatching(`error while reading offset ${bad + 512}: `),
    ])
  })

  it('keeps under a rate', async () => {
    const source = await rawDisk(MemoryStore.from(new Uint8Array(8 * mebibyte).fill(1)))
    const target = await rawTarget(new MemoryStore({ size: source.size }))
    const start = performance.now()
    await (await planConversion(source, { format: raw, rate: 40 * mebibyte })).run(target)
    // The first chunk passes at once.
    expect(performance.now() - start).toBeGreaterThan(140)
  })
})

describeWith(['qemu-img', 'qemu-io'], 'a conversion', () => {
  it('copies inside the kernel when asked to, and with -S 0', async () => {
    const path = folder.fresh('.raw')
    const random = new Random(seed('offload'))
    writeSparse(path, 9_000_000, randomPieces(random, 9_000_000, 6, 3_000_000))
    for (const request of [{ copyOffload: true }, { sparseBytes: 0 }]) {
      const source = await openForReading(path, 'raw')
      const out = folder.fresh('.raw')
      const target = await newImage(out, raw, source.size)
      await (await planConversion(source, { format: raw, ...request })).run(target)
      await target.close()
      await source.close()
      await qemuImg('compare', '-f', 'raw', '-F', 'raw', path, out)
    }
  })

  it.each(['zlib', 'zstd'])('packs with %s what qemu-img can read', async (compression) => {
    const path = folder.fresh('.raw')
    const random = new Random(seed(`pack ${compression}`))
    const size = 12 * mebibyte + 1536
    writeSparse(path, size, [
      ...randomPieces(random, size, 8, 2_000_000),
      { offset: 300_000, bytes: new TextEncoder().encode('moraine '.repeat(400_000)) },
      { offset: size - 700, bytes: new Uint8Array(700).fill(4) },
    ])
    for (const cluster of [4096n, 65_536n, 2_097_152n]) {
      const options = { compression_type: compression, cluster_size: cluster }
      const source = await openForReading(path, 'raw')
      const out = folder.fresh('.qcow2')
      const target = await newImage(out, qcow2, source.size, options)
      const seen: Progress[] = []
      const plan = await planConversion(source, { format: qcow2, options, compress: true })
      await plan.run(target, { onProgress: (progress) => seen.push({ ...progress }) })
      await target.close()
      await source.close()
      expect(seen.at(-1)?.done).toBe(seen[0]?.total)
      await expectClean(out, 'qcow2')
      await qemuImg('compare', '-f', 'raw', '-F', 'qcow2', path, out)
      const back = await openForReading(out, 'qcow2')
      const bare = folder.fresh('.raw')
      const unpacked = await newImage(bare, raw, back.size)
      await (await planConversion(back, { format: raw })).run(unpacked)
      await unpacked.close()
      await back.close()
      await qemuImg('compare', '-f', 'raw', '-F', 'raw', path, bare)
    }
  })

  it('leaves an overlay showing the same, with extended L2 entries too', async () => {
    const base = folder.fresh('.qcow2')
    const top = folder.fresh('.qcow2')
    await qemuImg('create', '-f', 'qcow2', base, '5M')
    await qemuIo(base, 'qcow2', 'write -P 1 0 3M')
    await qemuImg('create', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top, '8M')
    await qemuIo(top, 'qcow2', 'write -P 2 100k 10k', 'write -z 1M 100k', 'write -P 3 6M 4k', 'write -z 7M 64k')
    for (const options of [{}, { extended_l2: true, cluster_size: 16_384n }]) {
      for (const compress of [false, true]) {
        const source = await openForReading(top, 'qcow2')
        const disk = await openForReading(base, 'qcow2')
        const backing = { name: base, format: 'qcow2' }
        const plan = await planConversion(source, { format: qcow2, options, compress, backing: { ...backing, disk } })
        expect(plan.losses).toEqual([])
        const out = folder.fresh('.qcow2')
        const target = await newImage(out, qcow2, source.size, options, backing)
        await plan.run(target)
        await target.close()
        await source.close()
        await disk.close()
        await expectClean(out, 'qcow2')
        await qemuImg('compare', '-f', 'qcow2', '-F', 'qcow2', top, out)
      }
    }
  })

  it('replaces what was in an existing image', async () => {
    const random = new Random(seed('existing'))
    const path = folder.fresh('.raw')
    writeSparse(path, 9_000_000, randomPieces(random, 9_000_000, 8, 2_000_000))
    const out = folder.fresh('.qcow2')
    await qemuImg('create', '-f', 'qcow2', out, '12M')
    await qemuIo(out, 'qcow2', 'write -P 7 0 9000448', 'write -P 8 9000448 100k')
    const source = await openForReading(path, 'raw')
    const target = await openForWriting(out, 'qcow2')
    await (await planConversion(source, { format: qcow2, targetIsZero: false })).run(target)
    await target.close()
    await expectClean(out, 'qcow2')
    const result = await openForReading(out, 'qcow2')
    const bytes = new Uint8Array(100 * 1024)
    await result.read(9_000_448, bytes)
    expect(bytes.every((byte) => byte === 8)).toBe(true)
    const part = await openDisk(await sliceOf(result, source.size), { formats: [raw], format: 'raw' })
    expect(await compareDisks(source, part)).toMatchObject({ identical: true })
    await source.close()
    await result.close()
  })

  it('tells what is lost', async () => {
    const base = folder.fresh('.raw')
    writeSparse(base, mebibyte, [])
    const path = folder.fresh('.qcow2')
    await qemuImg('create', '-f', 'qcow2', '-b', base, '-F', 'raw', path)
    await qemuImg('snapshot', '-c', 'one', path)
    await qemuImg('snapshot', '-c', 'two', path)
    await qemuImg('bitmap', '--add', path, 'changes')
    const source = await openForReading(path, 'qcow2')
    const plan = await planConversion(source, { format: qcow2 })
    expect(plan.losses.map(({ what }) => what)).toEqual(['snapshots', 'bitmaps', 'backing file'])
    await source.close()
  })

  it('of a sparse terabyte in 10,000 pieces takes moments and little memory', async () => {
    const path = folder.fresh('.raw')
    const bytes = new Uint8Array(512).fill(1)
    writeSparse(
      path,
      2 ** 40,
      Array.from({ length: 10_000 }, (_, i) => ({ offset: i * 104_857_600, bytes })),
    )
    const source = await openForReading(path, 'raw')
    const out = folder.fresh('.raw')
    const target = await newImage(out, raw, source.size)
    const before = process.memoryUsage().rss
    const start = performance.now()
    await (await planConversion(source, { format: raw })).run(target)
    expect(performance.now() - start).toBeLessThan(15_000)
    expect(process.memoryUsage().rss - before).toBeLessThan(150 * mebibyte)
    await target.close()
    const copy = await openForReading(out, 'raw')
    expect(await compareDisks(source, copy)).toEqual({ identical: true, sizeMismatch: false })
    await source.close()
    await copy.close()
  })
})

/** The first bytes of a disk, as a source. */
async function sliceOf(disk: ByteSource, size: number): Promise<ByteSource> {
  return {
    name: 'a part',
    size,
    read: (offset, into, signal) => disk.read(offset, into, signal),
    extents: (offset, length, signal) => disk.extents(offset, length, signal),
    close: () => Promise.resolve(),
  }
}
