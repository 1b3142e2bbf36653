/** What every source and every store must do, as one suite: each member of the family runs it. */

import { type ByteSource, type ByteStore, type Extent, isMoraineError, seededRandom } from '@moraine/engine'
import { afterEach, describe, expect, it } from 'vitest'

/** Bytes that differ by offset, with stretches of zeros so that there are holes to find. */
export function sampleContent(length: number, seed = 1): Uint8Array {
  const random = seededRandom(seed)
  const bytes = new Uint8Array(length)
  for (let at = 0; at < length; ) {
    const run = Math.min(length - at, 1 + Math.floor(random() * 40_000))
    if (random() < 0.5) for (let i = 0; i < run; i++) bytes[at + i] = Math.floor(random() * 256)
    at += run
  }
  return bytes
}

/** Asserts that a promise fails with a `MoraineError` of this kind; gives the error. */
export async function refused(promise: Promise<unknown>, kind: string) {
  const error = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  )
  if (!isMoraineError(error)) throw new Error(`expected a MoraineError of kind ${kind}, got ${String(error)}`)
  expect(error.kind, error.message).toBe(kind)
  return error
}

async function allExtents(source: ByteSource, offset: number, length: number): Promise<Extent[]> {
  const all: Extent[] = []
  for await (const batch of source.extents(offset, length)) {
    expect(batch.length).toBeGreaterThan(0)
    all.push(...batch)
  }
  return all
}

async function bytesOf(source: ByteSource, offset = 0, length = source.size - offset): Promise<Uint8Array> {
  const bytes = new Uint8Array(length)
  await source.read(offset, bytes)
  return bytes
}

/** Compares without the cost of a matcher over a million elements. */
export function expectSameBytes(actual: Uint8Array, expected: Uint8Array, where = ''): void {
  const difference = Buffer.compare(actual, expected)
  if (difference === 0) return
  const at = actual.findIndex((byte, i) => byte !== expected[i])
  throw new Error(
    `${where}: lengths ${actual.length} and ${expected.length}, first difference at ${at}: ${actual[at]}, not ${expected[at]}`,
  )
}

/** Every source. `make` gives one over a copy of `content`. */
export function sourceConformance(title: string, make: (content: Uint8Array) => Promise<ByteSource>): void {
  describe(`${title} is a source`, () => {
    const length = 300_123
    const content = sampleContent(length)
    const open: ByteSource[] = []
    const opened = async (bytes = content) => {
      const source = await make(bytes)
      open.push(source)
      return source
    }
    afterEach(async () => {
      for (const source of open.splice(0)) await source.close()
    })

    it('has a name and a size', async () => {
      const source = await opened()
      expect(source.name).not.toBe('')
      expect(source.size).toBe(length)
    })

    it('reads any range, into nothing but what it was given', async () => {
      const source = await opened()
      expectSameBytes(await bytesOf(source), content, 'whole')
      const random = seededRandom(7)
      for (let i = 0; i < 60; i++) {
        const offset = Math.floor(random() * length)
        const size = Math.floor(random() * Math.min(70_000, length - offset + 1))
        const buffer = new Uint8Array(size + 20).fill(0xa5)
        await source.read(offset, buffer.subarray(10, 10 + size))
        expectSameBytes(buffer.subarray(10, 10 + size), content.subarray(offset, offset + size), `${offset}+${size}`)
        expect([...buffer.subarray(0, 10), ...buffer.subarray(10 + size)].every((byte) => byte === 0xa5)).toBe(true)
      }
      await source.read(0, new Uint8Array(0))
      await source.read(length, new Uint8Array(0))
    })

    it('reads many ranges at once', async () => {
      const source = await opened()
      const random = seededRandom(9)
      await Promise.all(
        Array.from({ length: 40 }, async () => {
          const offset = Math.floor(random() * length)
          const size = Math.floor(random() * Math.min(30_000, length - offset))
          expectSameBytes(await bytesOf(source, offset, size), content.subarray(offset, offset + size))
        }),
      )
    })

    it('refuses what passes the end, what is no range, and what was cancelled', async () => {
      const source = await opened()
      await refused(source.read(length - 1, new Uint8Array(2)), 'io')
      await refused(source.read(length + 5, new Uint8Array(1)), 'io')
      await refused(source.read(-1, new Uint8Array(2)), 'invalid')
      await refused(source.read(0.5, new Uint8Array(2)), 'invalid')
      await refused(source.read(0, new Uint8Array(2), AbortSignal.abort()), 'cancelled')
      await refused(allExtents(source, length - 1, 2), 'io')
      // It still works after all of that.
      expectSameBytes(await bytesOf(source, 5, 100), content.subarray(5, 105))
    })

    it('tells extents that cover the range exactly, zeros where it says so', async () => {
      const source = await opened()
      for (const [offset, size] of [
        [0, length],
        [1, length - 2],
        [4095, 8194],
        [length - 1, 1],
        [100_000, 0],
      ] as const) {
        let at = offset
        for (const extent of await allExtents(source, offset, size)) {
          expect(extent.offset).toBe(at)
          expect(extent.length).toBeGreaterThan(0)
          expect(extent.depth).toBe(0)
          expect(extent.data || extent.zero).toBe(true)
          if (extent.zero) {
            const there = content.subarray(extent.offset, extent.offset + extent.length)
            expectSameBytes(new Uint8Array(extent.length), there, 'an extent of zeros')
          }
          at += extent.length
        }
        expect(at).toBe(offset + size)
      }
    })

    it('can be empty', async () => {
      const source = await opened(new Uint8Array(0))
      expect(source.size).toBe(0)
      await source.read(0, new Uint8Array(0))
      expect(await allExtents(source, 0, 0)).toEqual([])
      await refused(source.read(0, new Uint8Array(1)), 'io')
    })
  })
}

/** What differs between stores. */
export interface StoreTraits {
  /** It cannot grow. */
  fixed?: boolean
}

/** Every store. `make` gives one that holds a copy of `content`, opened for writing. */
export function storeConformance(
  title: string,
  make: (content: Uint8Array) => Promise<ByteStore>,
  traits: StoreTraits = {},
): void {
  describe(`${title} is a store`, () => {
    const length = 512 * 1024
    const content = sampleContent(length, 3)
    const open: ByteStore[] = []
    const opened = async () => {
      const store = await make(content)
      open.push(store)
      return store
    }
    afterEach(async () => {
      for (const store of open.splice(0)) await store.close()
    })

    it.each([1, 2, 3])('does what an array does, seed %i', async (seed) => {
      const random = seededRandom(seed * 1000)
      const store = await opened()
      let model = content.slice()
      const most = traits.fixed === true ? length : 2 * length
      const grow = (size: number) => {
        if (size <= model.length) return
        const next = new Uint8Array(size)
        next.set(model)
        model = next
      }
      for (let i = 0; i < 60; i++) {
        const offset = Math.floor(random() * most)
        const size = Math.floor(random() * Math.min(80_000, most - offset))
        const what = random()
        if (what < 0.4) {
          const bytes = sampleContent(size, i)
          await store.write(offset, bytes)
          if (size > 0) grow(offset + size)
          model.set(bytes, Math.min(offset, model.length - size))
        } else if (what < 0.75) {
          await store.zero(offset, size, what < 0.6 ? 'unmap' : 'allocate')
          if (size > 0) grow(offset + size)
          model.fill(0, offset, offset + size)
        } else if (what < 0.85) {
          const end = Math.min(offset + size, model.length)
          await store.discard(offset, size)
          for (let at = offset; at < end; at += 1) {
            // As before or zero: take over what it is, and check that it is one of the two.
            const left = await bytesOf(store, at, end - at)
            for (const [j, byte] of left.entries()) {
              if (byte !== 0 && byte !== model[at + j]) throw new Error(`discard made ${byte} at ${at + j}`)
            }
            model.set(left, at)
            at = end
          }
        } else if (what < 0.9 && traits.fixed !== true) {
          await store.resize(offset, what < 0.88 ? 'off' : offset > model.length ? 'falloc' : 'metadata')
          if (offset < model.length) model = model.slice(0, offset)
          else grow(offset)
        } else await store.flush()
        expect(store.size).toBe(model.length)
      }
      expectSameBytes(await bytesOf(store), model, `seed ${seed}`)
      for (const extent of await allExtents(store, 0, store.size)) {
        if (!extent.zero) continue
        const there = model.subarray(extent.offset, extent.offset + extent.length)
        expectSameBytes(new Uint8Array(extent.length), there, 'an extent of zeros')
      }
    })

    it('takes many writes at once, in any order', async () => {
      const store = await opened()
      const piece = 16 * 1024
      const order = Array.from({ length: length / piece }, (_, i) => (i * 7 + 3) % (length / piece))
      const base = traits.fixed === true ? 0 : length
      await Promise.all(
        order.map((i) =>
          i % 3 === 0
            ? store.zero(base + i * piece, piece, i % 2 === 0 ? 'unmap' : 'allocate')
            : store.write(base + i * piece, new Uint8Array(piece).fill(i + 1)),
        ),
      )
      expect(store.size).toBe(base + length)
      const bytes = await bytesOf(store, base)
      for (const i of order) {
        const expected = new Uint8Array(piece).fill(i % 3 === 0 ? 0 : i + 1)
        expectSameBytes(bytes.subarray(i * piece, (i + 1) * piece), expected, `piece ${i}`)
      }
    })

    it('keeps the neighbours of what it zeroes', async () => {
      const store = await opened()
      await store.write(0, new Uint8Array(length).fill(0xee))
      await store.zero(5000, 20_001, 'unmap')
      await store.zero(100_001, 9, 'allocate')
      const expected = new Uint8Array(length).fill(0xee).fill(0, 5000, 25_001).fill(0, 100_001, 100_010)
      expectSameBytes(await bytesOf(store), expected)
    })

    it('refuses what was cancelled and what is no range', async () => {
      const store = await opened()
      await refused(store.write(0, new Uint8Array(5), AbortSignal.abort()), 'cancelled')
      await refused(store.zero(0, 5, 'unmap', AbortSignal.abort()), 'cancelled')
      await refused(store.write(-5, new Uint8Array(5)), 'invalid')
      await refused(store.zero(-5, 5, 'unmap'), 'invalid')
      expectSameBytes(await bytesOf(store), content)
    })

    if (traits.fixed === true) {
      it('does not grow', async () => {
        const store = await opened()
        expect((await refused(store.write(length - 10, new Uint8Array(11)), 'io')).code).toBe('ENOSPC')
        expect((await refused(store.zero(length, 1, 'unmap'), 'io')).code).toBe('ENOSPC')
        await refused(store.resize(length + 512), 'unsupported')
        await store.resize(length)
        await store.resize(512)
        expect(store.size).toBe(length)
      })
    } else {
      it('gives up its end and grows again with zeros', async () => {
        const store = await opened()
        await store.write(0, new Uint8Array(length).fill(1))
        await store.resize(1000)
        await store.resize(3000)
        expectSameBytes(await bytesOf(store), new Uint8Array(3000).fill(1, 0, 1000))
        await store.resize(8192, 'full')
        expectSameBytes(await bytesOf(store, 1000), new Uint8Array(7192))
      })
    }
  })
}
