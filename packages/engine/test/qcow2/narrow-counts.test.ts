/** Snapshots that a narrow reference count cannot hold: refused, and the image is as it was, without a leak. (qemu-img leaks the copy of the L1 table.) */
import { MemoryStore, type WritableDisk } from '@moraine/engine'
import { describe, expect, it } from 'vitest'
import { closing } from '../support/disk.ts'
import { checkStore, createInMemory, openStore, openStoreForWriting } from '../support/memory-image.ts'
import { buildQcow2 } from '../support/qcow2-builder.ts'
import { Random } from '../support/random.ts'

const size = 3 << 20

/** Several L2 tables, the first of them shared by fewer snapshots than the last. */
async function fill(disk: WritableDisk): Promise<void> {
  const random = new Random(1)
  for (let at = 0; at < size; at += 200_000) await disk.write(at, random.bytes(Math.min(60_000, size - at)))
}

async function contentOf(store: MemoryStore): Promise<Buffer> {
  return closing(await openStore(store), async (disk) => {
    const bytes = Buffer.alloc(disk.size)
    await disk.read(0, bytes)
    return bytes
  })
}

async function expectSound(store: MemoryStore): Promise<void> {
  const { result, lines } = await checkStore(store, 'none')
  expect([result.corruptions, result.leaks, result.checkErrors], lines.slice(0, 5).join('; ')).toEqual([0, 0, 0])
}

describe('counts too narrow for one more snapshot', () => {
  it.each([1, 2, 4])('of %i bits: the snapshot is refused and nothing is left of it', async (bits) => {
    const most = 2 ** bits - 1
    const store = await createInMemory(size, `cluster_size=512,refcount_bits=${bits}`)
    let before = Buffer.alloc(0)
    await closing(await openStoreForWriting(store), async (disk) => {
      await fill(disk)
      for (let i = 1; i < most; i++) {
        await disk.snapshots?.create(`s${i}`)
        // The first clusters become the disk's own again: one more of them can be shared, and so the failure comes late.
        await disk.write(0, new Uint8Array(100_000).fill(i))
      }
      await disk.flush()
      before = Buffer.from(store.bytes())
      for (let i = 0; i < 2; i++) {
        await expect(disk.snapshots?.create('one too many')).rejects.toMatchObject({ kind: 'limit', field: 'refcount' })
      }
      expect(disk.info().snapshots.length).toBe(most - 1)
      expect(disk.info().dirty).toBe(false)
    })
    await expectSound(store)
    expect(Buffer.compare(await contentOf(store), await contentOf(MemoryStore.from(before)))).toBe(0)
    await closing(await openStore(store), async (disk) => expect(disk.info().dirty).toBe(false))
  })

  it('the disk can be written on after a refusal', async () => {
    const store = await createInMemory(size, 'cluster_size=512,refcount_bits=1')
    const expected = await closing(await openStoreForWriting(store), async (disk) => {
      await fill(disk)
      await expect(disk.snapshots?.create('one')).rejects.toMatchObject({ kind: 'limit' })
      await disk.write(100_000, new Uint8Array(300_000).fill(9))
      const bytes = Buffer.alloc(size)
      await disk.read(0, bytes)
      return bytes
    })
    await expectSound(store)
    expect(Buffer.compare(await contentOf(store), expected)).toBe(0)
  })

  it('a snapshot that cannot be applied changes neither size nor content', async () => {
    const store = await createInMemory(size, 'cluster_size=512,refcount_bits=2')
    const expected = await closing(await openStoreForWriting(store), async (disk) => {
      await fill(disk)
      await disk.snapshots?.create('one')
      await disk.snapshots?.create('two')
      await disk.resize(size + 512_000)
      await expect(disk.snapshots?.apply('one')).rejects.toMatchObject({ kind: 'limit' })
      expect(disk.size).toBe(size + 512_000)
      const bytes = Buffer.alloc(disk.size)
      await disk.read(0, bytes)
      return bytes
    })
    await expectSound(store)
    expect(Buffer.compare(await contentOf(store), expected)).toBe(0)
  })

  it('compressed clusters that share one are counted one by one', async () => {
    const clusters = Object.fromEntries(
      [0, 1, 2, 3, 4].map((index) => [index, { kind: 'compressed', bytes: index + 1 } as const]),
    )
    const image = buildQcow2({ clusterBits: 12, size: 65_536n, refcountOrder: 3, clusters })
    const store = MemoryStore.from(image.bytes)
    const before = await contentOf(store)
    await closing(await openStoreForWriting(store), async (disk) => {
      let taken = 0
      for (; taken < 300; taken++) {
        const refused = await disk.snapshots?.create(`s${taken}`).then(
          () => undefined,
          (error) => error,
        )
        if (refused === undefined) continue
        expect(refused).toMatchObject({ kind: 'limit' })
        break
      }
      expect(taken).toBeLessThan(255)
      expect(taken).toBeGreaterThan(20)
    })
    await expectSound(store)
    expect(Buffer.compare(await contentOf(store), before)).toBe(0)
  })
})
