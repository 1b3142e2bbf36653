/** Raw disks: odd lengths, windows, and that nothing leaves them. */
import { describe, expect, it } from 'vitest'
import { type Extent, isWritable, MemoryStore, openDisk, raw, type WritableDisk } from '../../src/index.ts'

const letters = new TextEncoder().encode('abcdefghijklmnopqrstuvwxyz'.repeat(200)).subarray(0, 5000)

async function opened(window?: { offset?: number; size?: number }, bytes = letters) {
  const store = MemoryStore.from(bytes)
  return { store, disk: await openDisk(store, { formats: [raw], format: 'raw', window }) }
}

async function writable(window?: {
  offset?: number
  size?: number
}): Promise<{ store: MemoryStore; disk: WritableDisk }> {
  const store = MemoryStore.from(letters)
  const disk = await openDisk(store, { formats: [raw], format: 'raw', mode: 'write', window })
  if (!isWritable(disk)) throw new Error('not writable')
  return { store, disk }
}

describe('a raw disk', () => {
  it('has whole sectors, the last one filled up with zeros', async () => {
    const { disk } = await opened()
    expect(disk.size).toBe(5120)
    const bytes = new Uint8Array(620)
    await disk.read(4500, bytes)
    expect(bytes.subarray(0, 500)).toEqual(letters.subarray(4500))
    expect(bytes.subarray(500).every((byte) => byte === 0)).toBe(true)
    const extents: Extent[] = []
    for await (const batch of disk.extents(4608, 512)) extents.push(...batch)
    expect(extents.at(-1)).toMatchObject({ offset: 5000, length: 120, zero: true, data: false })
  })

  it('shows a window, and nothing around it', async () => {
    const { disk } = await opened({ offset: 100, size: 1024 })
    expect(disk.size).toBe(1024)
    const bytes = new Uint8Array(1024)
    await disk.read(0, bytes)
    expect(bytes).toEqual(letters.subarray(100, 1124))
    for await (const [extent] of disk.extents(512, 512)) {
      expect(extent).toMatchObject({ offset: 512, length: 512, host: { offset: 612 } })
    }
    expect((await opened({ offset: 100 })).disk.size).toBe(5120)
    expect((await opened({ offset: 4900 })).disk.size).toBe(512)
  })

  it.each([
    [{ offset: 5121 }, 'Offset (5121) cannot be greater than size of the containing file (5120)'],
    [
      { offset: 1024, size: 4608 },
      'The sum of offset (1024) and size (4608) has to be smaller or equal to the  actual size of the containing file (5120)',
    ],
    [{ size: 1000 }, 'Specified size is not multiple of 512'],
  ])('refuses the window %o', async (window, reason) => {
    await expect(opened(window)).rejects.toMatchObject({ kind: 'invalid', reason })
  })

  it('lets no call leave it', async () => {
    for (const window of [undefined, { offset: 512, size: 1024 }]) {
      const { disk, store } = await writable(window)
      const before = store.bytes()
      const past = disk.size - 511
      await expect(disk.read(past, new Uint8Array(512))).rejects.toMatchObject({ kind: 'io' })
      await expect(disk.read(-1, new Uint8Array(1))).rejects.toMatchObject({ kind: 'io' })
      await expect(disk.write(past, new Uint8Array(512))).rejects.toMatchObject({ kind: 'io' })
      await expect(disk.zero(past, 512, 'unmap')).rejects.toMatchObject({ kind: 'io' })
      await expect(disk.discard(past, 512)).rejects.toMatchObject({ kind: 'io' })
      const walk = (async () => {
        for await (const _batch of disk.extents(past, 512));
      })()
      await expect(walk).rejects.toMatchObject({ kind: 'io' })
      expect(store.bytes()).toEqual(before)
    }
  })

  it('is written in place, up to the end of its last sector', async () => {
    const { disk, store } = await writable()
    await disk.write(5000, new Uint8Array(120).fill(7))
    expect(store.size).toBe(5120)
    expect(disk.size).toBe(5120)
    const part = await writable({ offset: 512, size: 1024 })
    await part.disk.write(0, new Uint8Array(1024).fill(9))
    await part.disk.zero(512, 512, 'allocate')
    const bytes = part.store.bytes()
    expect(bytes.subarray(0, 512)).toEqual(letters.subarray(0, 512))
    expect(bytes.subarray(512, 1024).every((byte) => byte === 9)).toBe(true)
    expect(bytes.subarray(1024, 1536).every((byte) => byte === 0)).toBe(true)
    expect(bytes.subarray(1536)).toEqual(letters.subarray(1536))
    await expect(part.disk.resize(4096)).rejects.toMatchObject({ kind: 'unsupported' })
  })
})
