/** What the decorators promise beyond being sources: budgets, faults, torn writes. */
import {
  type ByteSource,
  cachedSource,
  countingSource,
  faultySource,
  JournalStore,
  MemoryStore,
  seededRandom,
  sliceSource,
} from '@moraine/engine'
import { describe, expect, it } from 'vitest'
import { expectSameBytes, refused, sampleContent } from './conformance.ts'

const page = 4096
const content = sampleContent(100 * page)

function counted(options?: Parameters<typeof cachedSource>[1]) {
  const { source, counts } = countingSource<ByteSource>(MemoryStore.from(content))
  return { counts, cached: cachedSource(source, { pageBytes: page, readAheadBytes: 0, ...options }) }
}

async function readAt(source: ByteSource, offset: number, length: number) {
  const bytes = new Uint8Array(length)
  await source.read(offset, bytes)
  expectSameBytes(bytes, content.subarray(offset, offset + length), `${offset}+${length}`)
}

describe('the cache', () => {
  it('reads each page once, and neighbours in one request', async () => {
    const { cached, counts } = counted()
    await readAt(cached, 100, 5 * page)
    expect(counts).toMatchObject({ reads: 1, bytesRead: 6 * page })
    await readAt(cached, 0, 6 * page)
    expect(counts.reads).toBe(1)
    // Pages 4 to 9: the first two are there, the others are one run.
    await readAt(cached, 4 * page, 6 * page)
    expect(counts).toMatchObject({ reads: 2, bytesRead: 10 * page })
    await readAt(cached, 20 * page, page)
    // 18 to 22 with a hole in the middle filled: two runs.
    await readAt(cached, 18 * page, 5 * page)
    expect(counts).toMatchObject({ reads: 5, bytesRead: 15 * page })
  })

  it('asks once for what many want at the same time', async () => {
    const { cached, counts } = counted()
    await Promise.all(Array.from({ length: 20 }, (_, i) => readAt(cached, i * 100, 1000)))
    expect(counts.reads).toBe(1)
  })

  it('forgets the page that was used least recently', async () => {
    const { cached, counts } = counted({ cacheBytes: 4 * page })
    for (const at of [0, 1, 2, 3, 0, 4]) await readAt(cached, at * page, 10)
    expect(counts.reads).toBe(5)
    await readAt(cached, 0, 10)
    expect(counts.reads).toBe(5)
    await readAt(cached, page, 10)
    expect(counts.reads).toBe(6)
  })

  it('lets large reads pass by', async () => {
    const { cached, counts } = counted({ cacheBytes: 4 * page })
    await readAt(cached, 0, 10)
    await readAt(cached, 10 * page, 50 * page)
    await readAt(cached, 0, 10)
    expect(counts).toMatchObject({ reads: 2, bytesRead: 51 * page })
  })

  it('reads ahead when reads follow each other, and only then', async () => {
    const sequential = counted({ readAheadBytes: 16 * page })
    for (let at = 0; at < 100; at++) await readAt(sequential.cached, at * page, page)
    expect(sequential.counts.reads).toBeLessThan(20)
    expect(sequential.counts.bytesRead).toBe(100 * page)
    const scattered = counted({ readAheadBytes: 16 * page })
    for (let i = 0; i < 30; i++) await readAt(scattered.cached, ((i * 37) % 100) * page, page)
    expect(scattered.counts).toMatchObject({ reads: 30, bytesRead: 30 * page })
  })

  it('has what a sequential reader wants before it asks', async () => {
    const store = MemoryStore.from(content)
    let wanted = 0
    const waited: number[] = []
    const source: ByteSource = {
      name: 'watched',
      size: content.length,
      extents: (offset, length) => store.extents(offset, length),
      close: () => store.close(),
      read(offset, into) {
        if (offset <= wanted) waited.push(wanted / page)
        return store.read(offset, into)
      },
    }
    const cached = cachedSource(source, { pageBytes: page, readAheadBytes: 16 * page })
    for (; wanted < 100 * page; wanted += page) await readAt(cached, wanted, page)
    // While the window opens there is something to wait for; later there is nothing.
    expect(waited[0]).toBe(0)
    expect(Math.max(...waited)).toBeLessThan(10)
  })

  it('does not fail for what it read ahead, and tries a failed page again', async () => {
    let broken = 5 * page
    const store = MemoryStore.from(content)
    const source: ByteSource = {
      name: 'broken',
      size: content.length,
      extents: (offset, length) => store.extents(offset, length),
      close: () => store.close(),
      async read(offset, into) {
        if (offset + into.length > broken) {
          const { MoraineError } = await import('@moraine/engine')
          throw new MoraineError('io', 'Input/output error', { path: 'broken', offset: broken, code: 'EIO' })
        }
        await store.read(offset, into)
      },
    }
    const cached = cachedSource(source, { pageBytes: page, readAheadBytes: 16 * page })
    for (let at = 0; at < 5; at++) await readAt(cached, at * page, page)
    await refused(cached.read(5 * page, new Uint8Array(page)), 'io')
    broken = Number.POSITIVE_INFINITY
    await readAt(cached, 5 * page, page)
  })

  it('lets one reader go without failing the others', async () => {
    let release = () => {}
    const store = MemoryStore.from(content)
    const gate = new Promise<void>((resolve) => {
      release = resolve
    })
    const slow: ByteSource = {
      name: 'slow',
      size: content.length,
      extents: (offset, length) => store.extents(offset, length),
      close: () => store.close(),
      read: (offset, into) => gate.then(() => store.read(offset, into)),
    }
    const cached = cachedSource(slow, { pageBytes: page })
    const abort = new AbortController()
    const first = cached.read(0, new Uint8Array(10), abort.signal)
    const second = readAt(cached, 0, 10)
    abort.abort()
    await refused(first, 'cancelled')
    release()
    await second
  })
})

describe('a slice', () => {
  it('keeps a descriptor only where offsets are the same, and closes what it owns', async () => {
    let closed = 0
    const source: ByteSource = {
      ...{ name: 'x', size: 100, descriptor: 7, identity: '1:2' },
      read: async () => {},
      extents: async function* () {},
      close: async () => {
        closed++
      },
    }
    expect(sliceSource(source, 0, 50).descriptor).toBe(7)
    expect(sliceSource(source, 1, 50).descriptor).toBe(undefined)
    expect(sliceSource(source, 1, 50).identity).not.toBe(source.identity)
    await sliceSource(source, 0, 50).close()
    expect(closed).toBe(0)
    await sliceSource(source, 0, 50, { owns: true }).close()
    expect(closed).toBe(1)
    expect(() => sliceSource(source, 60, 41)).toThrow('passes the end')
  })
})

describe('faults', () => {
  const bytes = new Uint8Array(1000).fill(1)

  it('strike at the chosen call, once or from then on', async () => {
    for (const sticky of [false, true]) {
      const { source, report } = faultySource(new MemoryStore(), { fault: 'ENOSPC', calls: ['write'], at: 2, sticky })
      await source.write(0, bytes)
      await source.read(0, new Uint8Array(10))
      await source.write(1000, bytes)
      const error = await refused(source.write(2000, bytes), 'io')
      expect(error).toMatchObject({ code: 'ENOSPC', reason: 'No space left on device', offset: 2000, path: 'memory' })
      if (sticky) await refused(source.write(2000, bytes), 'io')
      else await source.write(2000, bytes)
      expect(report.faults).toBe(sticky ? 2 : 1)
      expect(report.calls).toBe(4)
    }
  })

  it('leave a write half done when asked to', async () => {
    const store = new MemoryStore()
    const { source } = faultySource(store, { fault: 'ENOSPC', calls: ['write'], at: 0, partial: 300 })
    expect((await refused(source.write(0, bytes), 'io')).offset).toBe(300)
    expect(store.size).toBe(300)
  })

  it('cut the file short', async () => {
    const { source } = faultySource(MemoryStore.from(content), {
      fault: 'truncated',
      calls: ['read'],
      at: 1,
      size: 5000,
    })
    await source.read(6000, new Uint8Array(100))
    await source.read(100, new Uint8Array(100))
    expect(await refused(source.read(4990, new Uint8Array(100)), 'io')).toMatchObject({ code: 'EIO', offset: 5000 })
    expect(source.size).toBe(content.length)
  })

  it('at random are the same for the same seed', async () => {
    const outcome = async (seed: number) => {
      const { source } = faultySource(MemoryStore.from(content), { fault: 'EIO', random: { seed, rate: 0.3 } })
      let pattern = ''
      for (let i = 0; i < 50; i++) {
        await source.read(0, new Uint8Array(1)).then(
          () => {
            pattern += '.'
          },
          () => {
            pattern += 'x'
          },
        )
      }
      return pattern
    }
    expect(await outcome(1)).toBe(await outcome(1))
    expect(await outcome(1)).not.toBe(await outcome(2))
    expect(await outcome(1)).toMatch(/x.*\..*x/)
  })

  it('strike every kind of call', async () => {
    for (const call of ['zero', 'discard', 'resize', 'flush', 'extents', 'copy', 'close'] as const) {
      const { source } = faultySource(new MemoryStore({ size: 100 }), { fault: 'EIO', calls: [call], at: 0 })
      const calls = {
        zero: () => source.zero(0, 1, 'unmap'),
        discard: () => source.discard(0, 1),
        resize: () => source.resize(5),
        flush: () => source.flush(),
        extents: async () => {
          for await (const _ of source.extents(0, 1)) return
        },
        copy: async () => {
          await source.copyFrom?.(source, 0, 0, 1)
        },
        close: () => source.close(),
      }
      await refused(calls[call](), 'io')
    }
  })
})

describe('a power cut', () => {
  it('keeps what was flushed, and of the rest any sectors', async () => {
    const store = new JournalStore(MemoryStore.from(new Uint8Array(2048).fill(9)))
    await store.write(0, new Uint8Array(1024).fill(1))
    await store.flush()
    await store.write(1000, new Uint8Array(4000).fill(2))
    await store.zero(0, 600, 'unmap')
    await store.resize(10_000)
    const seen = new Set<string>()
    for (let seed = 0; seed < 200; seed++) {
      const image = (await store.cut(seededRandom(seed))).bytes()
      for (let at = 0; at < image.length; at += 512) {
        const sector = image.subarray(at, Math.min(image.length, at + 512))
        // Each sector is one of its states, never a mix of two.
        const states = [
          [...sector].map((_, i) => (at + i < 1024 ? 1 : at + i < 2048 ? 9 : 0)),
          [...sector].map((_, i) => (at + i >= 1000 && at + i < 5000 ? 2 : at + i < 1024 ? 1 : at + i < 2048 ? 9 : 0)),
          [...sector].map((_, i) => (at + i < 600 ? 0 : at + i < 1000 ? 1 : at + i < 5000 ? 2 : 0)),
          [...sector].map((_, i) => (at + i < 600 ? 0 : at + i < 1024 ? 1 : at + i < 2048 ? 9 : 0)),
        ]
        const text = [...sector].join()
        expect(
          states.some((state) => state.join() === text),
          `seed ${seed}, sector ${at / 512}: ${text}`,
        ).toBe(true)
      }
      seen.add(Buffer.from(image).toString('base64'))
    }
    expect(seen.size).toBeGreaterThan(50)
  })

  it('can be at any moment, the same for several files', async () => {
    const clock = { time: 0 }
    const image = new JournalStore(new MemoryStore(), clock)
    const data = new JournalStore(new MemoryStore(), clock)
    await data.write(0, new Uint8Array(512).fill(1))
    await data.flush()
    await image.write(0, new Uint8Array(512).fill(2))
    await image.flush()
    const keepAll = () => 0.5
    const sizes: [number, number][] = []
    for (let time = 0; time <= clock.time; time++) {
      sizes.push([(await data.cut(keepAll, time)).size, (await image.cut(keepAll, time)).size])
    }
    expect(sizes).toEqual([
      [0, 0],
      [512, 0],
      [512, 0],
      [512, 512],
      [512, 512],
    ])
    const lose = () => 0
    expect((await data.cut(lose, 1)).size).toBe(0)
    expect((await data.cut(lose, 2)).size).toBe(512)
  })
})
