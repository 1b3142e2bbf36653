/** What every store that can be written to must do. */
import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import type { ImageStore } from '../../src/store/store.ts'

const id = (number: number) => `00000000-0000-4000-8000-${String(number).padStart(12, '0')}`
let last = 0
const newKey = () => `${id(++last)}.ab12cd34`
const MiB = 1024 * 1024

/** @param open Makes an empty store. @param names All that is kept anywhere in it. */
export function storeSuite(
  title: string,
  open: () => Promise<{ store: ImageStore; names(): Promise<string[]> }>,
): void {
  async function put(store: ImageStore, data: Uint8Array, key = newKey()): Promise<string> {
    const upload = await store.begin(key, data.length)
    for (let at = 0; at < data.length; at += 700_001) await upload.write(data.subarray(at, at + 700_001))
    await upload.commit()
    return key
  }
  async function get(store: ImageStore, key: string): Promise<Buffer> {
    const source = await store.open(key)
    const data = Buffer.alloc(source.size)
    await source.read(0, data)
    await source.close()
    return data
  }

  describe(title, () => {
    it('gives back what was put in: nothing, bytes, zeros at the end', async () => {
      const { store } = await open()
      for (const data of [Buffer.alloc(0), Buffer.from('x'), randomBytes(3 * MiB), Buffer.alloc(2 * MiB)]) {
        expect((await get(store, await put(store, data))).equals(data)).toBe(true)
      }
    })

    it('lets buffers be reused, and shows what was written so far', async () => {
      const { store } = await open()
      const upload = await store.begin(newKey())
      const piece = Buffer.alloc(1000, 1)
      await upload.write(piece)
      piece.fill(2)
      await upload.write(piece)
      const source = await upload.read()
      const seen = Buffer.alloc(2000)
      await source.read(0, seen)
      expect([source.size, seen.equals(Buffer.concat([Buffer.alloc(1000, 1), Buffer.alloc(1000, 2)]))]).toEqual([
        2000,
        true,
      ])
      await source.close()
      await upload.abort()
    })

    it('goes on with what was flushed or suspended, if it can, and lets only the new name commit', async () => {
      const { store, names } = await open()
      if (store.resume === undefined) return
      const data = randomBytes(3 * MiB)
      const keys = [newKey(), newKey(), newKey()] as const
      const first = await store.begin(keys[0])
      await first.write(data.subarray(0, MiB))
      expect(await first.flush?.()).toBe(MiB)
      await first.write(data.subarray(MiB, 2 * MiB))
      expect(await first.flush?.()).toBe(2 * MiB)
      // Processes that are held for dead have the file open still: they spoil nothing.
      const second = await store.resume(keys[0], MiB, keys[1])
      await second.write(data.subarray(MiB, 2.5 * MiB))
      await first.suspend?.()
      await first.abort()
      const third = await store.resume(keys[1], 2.5 * MiB, keys[2])
      await expect(second.commit()).rejects.toThrow()
      await second.abort()
      await third.write(data.subarray(2.5 * MiB, 2.75 * MiB))
      expect(await third.suspend?.()).toBe(2.75 * MiB)
      const last = await store.resume(keys[2], 2.75 * MiB)
      await last.write(data.subarray(2.75 * MiB))
      await last.commit()
      const [, , key] = keys
      expect((await get(store, key)).equals(data)).toBe(true)
      expect(await names()).toHaveLength(1)
      await expect(store.resume(newKey(), 5)).rejects.toThrow()
    })

    it('shows nothing before the commit, and keeps nothing of what is aborted', async () => {
      const { store, names } = await open()
      const key = newKey()
      const upload = await store.begin(key)
      await upload.write(randomBytes(MiB))
      await expect(store.open(key)).rejects.toThrow()
      await upload.abort()
      await upload.abort()
      await expect(store.open(key)).rejects.toThrow()
      expect(await names()).toEqual([])
    })

    it('keeps what is aborted after the commit', async () => {
      const { store } = await open()
      const key = newKey()
      const upload = await store.begin(key)
      await upload.write(Buffer.from('whole'))
      await upload.commit()
      await upload.abort()
      expect((await get(store, key)).toString()).toBe('whole')
    })

    it('removes, also what is not there, and lets go on who reads', async () => {
      const { store, names } = await open()
      const data = randomBytes(MiB)
      const key = await put(store, data)
      const source = await store.open(key)
      await store.remove(key)
      await store.remove(key)
      const seen = Buffer.alloc(data.length)
      await source.read(0, seen)
      await source.close()
      expect(seen.equals(data)).toBe(true)
      await expect(store.open(key)).rejects.toMatchObject({ kind: 'missing' })
      expect(await names()).toEqual([])
    })

    it('takes many uploads at once', async () => {
      const { store } = await open()
      const all = Array.from({ length: 8 }, () => randomBytes(MiB))
      const keys = await Promise.all(all.map((data) => put(store, data)))
      const back = await Promise.all(keys.map((key) => get(store, key)))
      expect(back.every((data, at) => data.equals(all[at] ?? Buffer.alloc(0)))).toBe(true)
    })

    it('sweeps away what nobody knows, whole or not, and nothing else', async () => {
      const { store } = await open()
      const [kept, orphan] = [await put(store, Buffer.from('kept')), await put(store, Buffer.from('orphan'))]
      const [running, left] = [newKey(), newKey()]
      const upload = await store.begin(running)
      await upload.write(Buffer.from('running'))
      const stale = await store.begin(left)
      await stale.write(Buffer.from('left'))
      const known = new Set([kept, running])
      const removed = await store.sweep(async (keys) => new Set(keys.filter((key) => known.has(key))))
      expect(removed.toSorted()).toEqual([orphan, left].toSorted())
      await stale.abort()
      await upload.commit()
      expect([(await get(store, kept)).toString(), (await get(store, running)).toString()]).toEqual(['kept', 'running'])
      await expect(store.open(orphan)).rejects.toThrow()
    })

    it('finds no data of its own by an address that a client gives', async () => {
      const { store } = await open()
      const key = await put(store, Buffer.from('x'))
      expect(await store.keyOf(store.urlOf(key))).toBeUndefined()
      expect(await store.keyOf('file:///etc/passwd')).toBeUndefined()
    })

    it('refuses keys that it did not give', async () => {
      const { store } = await open()
      for (const key of ['../x', '', 'a/b', '/etc/passwd', `${id(1)}/../x`]) {
        await expect(store.begin(key)).rejects.toThrow()
        await expect(store.open(key)).rejects.toThrow()
        await expect(store.remove(key)).rejects.toThrow()
      }
    })
  })
}

/** What every store must do with data that is there. @param open Makes a store that has this data under the key that it returns, and nothing under `missing`. */
export function readingSuite(
  title: string,
  open: (data: Uint8Array) => Promise<{ store: ImageStore; key: string; missing: string }>,
): void {
  describe(`${title}, read`, () => {
    const data = randomBytes(2 * MiB)

    it('gives any part of it', async () => {
      const { store, key } = await open(data)
      const source = await store.open(key)
      expect(source.size).toBe(data.length)
      for (const [from, to] of [
        [0, 1],
        [MiB - 3, MiB + 3],
        [data.length - 1, data.length],
        [0, data.length],
      ] as const) {
        const part = Buffer.alloc(to - from)
        await source.read(from, part)
        expect(part.equals(data.subarray(from, to))).toBe(true)
      }
      await source.close()
    })

    it('says that what is not there is missing, and removes that without a word', async () => {
      const { store, missing } = await open(data)
      await expect(store.open(missing)).rejects.toMatchObject({ kind: 'missing' })
      await store.remove(missing)
    })

    it('keeps what it is told to keep', async () => {
      const { store, key } = await open(data)
      await store.sweep(async (keys) => new Set(keys))
      await (await store.open(key)).close()
    })

    it('has an address for it', async () => {
      const { store, key } = await open(data)
      expect(URL.canParse(store.urlOf(key))).toBe(true)
    })
  })
}
