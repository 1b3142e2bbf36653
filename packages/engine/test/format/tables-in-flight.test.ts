/** Tables on their way to the file: as long as a write of them runs, a reader who needs the room gets what was set, not what stands in the file. */
import { type ByteStore, MemoryStore } from '@moraine/engine'
import { describe, expect, it } from 'vitest'
import { BlockTable } from '../../src/format/block-table.ts'
import { EntryTables, placeOf } from '../../src/format/entry-tables.ts'
import { MetadataCache } from '../../src/format/qcow2/metadata-cache.ts'
import { GrainDirectory } from '../../src/format/vmdk/grain-directory.ts'
import { GrainTables } from '../../src/format/vmdk/grain-tables.ts'

const page = 64 * 1024

/** A store whose writes reach it only when `release` says so. */
function slowStore(): { store: ByteStore; release: () => void; started: Promise<void> } {
  const memory = new MemoryStore({ size: 16 << 20 })
  let release = () => {}
  let start = () => {}
  const gate = new Promise<void>((resolve) => {
    release = resolve
  })
  const started = new Promise<void>((resolve) => {
    start = resolve
  })
  const store = new Proxy(memory, {
    get(target, name) {
      if (name !== 'write') {
        const value = Reflect.get(target, name, target)
        return typeof value === 'function' ? value.bind(target) : value
      }
      return async (offset: number, bytes: Uint8Array) => {
        start()
        await gate
        await target.write(offset, bytes)
      }
    },
  })
  return { store, release, started }
}

/** Sets one thing, writes it back, and reads so much else meanwhile that it does not stay by use. */
async function setReadOthersGet(parts: {
  slow: ReturnType<typeof slowStore>
  set: () => Promise<void>
  writeBack: () => Promise<unknown>
  readOthers: () => Promise<void>
  get: () => Promise<number>
}): Promise<void> {
  await parts.set()
  const writing = parts.writeBack()
  await parts.slow.started
  await parts.readOthers()
  expect(await parts.get(), 'while it is written').toBe(7)
  parts.slow.release()
  await writing
  expect(await parts.get(), 'afterwards').toBe(7)
}

describe('a table that is being written stays in memory', () => {
  it('entries of blocks (VDI, VHD, Parallels)', async () => {
    const slow = slowStore()
    const table = new BlockTable(slow.store, { offset: 0, entries: 2 << 20, order: 'little', cacheBytes: page })
    await setReadOthersGet({
      slow,
      set: async () => table.set(5, 7),
      writeBack: () => table.writeBack(slow.store),
      readOthers: async () => {
        for (let index = page; index < table.entries; index += page / 4) await table.get(index)
      },
      get: () => table.get(5),
    })
  })

  it('entries of clusters (qcow, QED)', async () => {
    const slow = slowStore()
    const tables = new EntryTables(slow.store, page, 'qed')
    const place = placeOf('l2', 0, 8192, 5)
    await setReadOthersGet({
      slow,
      set: async () => tables.set(await tables.load(place), place.at, 0, 7),
      writeBack: () => tables.writeBack('l2', slow.store),
      readOthers: async () => {
        for (let at = 1; at < 100; at++) await tables.load(placeOf('l2', at * page, 8192, 0))
      },
      get: async () => (await tables.load(place)).view.getUint32(place.at, true),
    })
  })

  it('pages of qcow2', async () => {
    const slow = slowStore()
    const cache = new MetadataCache(slow.store, 4096, page)
    await setReadOthersGet({
      slow,
      set: async () => {
        const loaded = await cache.load(0, 'l2')
        loaded.view.setUint32(0, 7)
        cache.touch(loaded)
      },
      writeBack: () => cache.writeBack('l2', slow.store),
      readOthers: async () => {
        for (let at = 1; at < 100; at++) await cache.load(at * 4096, 'l2')
      },
      get: async () => (await cache.load(0, 'l2')).view.getUint32(0),
    })
  })

  it('grain tables of VMDK, also one that the directory does not name yet', async () => {
    for (const isNew of [false, true]) {
      const slow = slowStore()
      const memory = new MemoryStore({ size: page })
      const directory = new GrainDirectory(memory, 0, 1000)
      for (let index = isNew ? 1 : 0; index < 1000; index++)
        await directory.set(index, (page + index * 2048) / 512, memory)
      const tables = new GrainTables(slow.store, directory, undefined, 2048, page)
      const get = async () => (await tables.get(0))?.view.getUint32(0, true) ?? -1
      await setReadOthersGet({
        slow,
        set: async () => {
          const table = isNew ? tables.fresh(0, page, 0) : await tables.get(0)
          if (table === undefined) throw new Error('no table')
          table.view.setUint32(0, 7, true)
          tables.touch(table)
        },
        writeBack: () => tables.writeBack(slow.store),
        readOthers: async () => {
          for (let index = 1; index < 1000; index += 2) await tables.get(index)
        },
        get,
      })
      for (let index = 2; index < 1000; index += 2) await tables.get(index)
      expect(await get(), 'before the directory names it').toBe(7)
    }
  })
})

it('a page of a grain directory that is read while it is set comes to what was set', async () => {
  const store = new MemoryStore({ size: 16 << 20 })
  const held: (() => void)[] = []
  let holds = false
  const slow = new Proxy(store, {
    get(target, name) {
      if (name !== 'read') {
        const value = Reflect.get(target, name, target)
        return typeof value === 'function' ? value.bind(target) : value
      }
      return async (offset: number, into: Uint8Array) => {
        await target.read(offset, into)
        if (holds) await new Promise<void>((resolve) => held.push(resolve))
      }
    },
  })
  // 17 pages of 16384 entries, one more than are kept.
  const directory = new GrainDirectory(slow, 0, 17 * 16_384)
  for (let index = 0; index < directory.count; index += 16_384) await directory.get(index)
  holds = true
  const reading = directory.get(3)
  await turns()
  expect(held).toHaveLength(1)
  const setting = directory.set(3, 9, slow)
  await turns()
  for (const release of held.splice(0)) release()
  await Promise.all([reading, setting])
  expect(await directory.get(3)).toBe(9 * 512)
})

/** Lets everything go on that can. */
async function turns(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 5))
}
