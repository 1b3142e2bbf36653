/** Packed clusters that are read while they are on their way into the file. */
import { MemoryStore } from '@moraine/engine'
import { nodeCodecs } from '@moraine/engine/node'
import { expect, it } from 'vitest'
import { createInMemory, openStoreForWriting } from '../support/memory-image.ts'

/** A store whose writes take a while. */
class SlowStore extends MemoryStore {
  override async write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    const bytes = from.slice()
    await new Promise((resolve) => setTimeout(resolve, 20))
    return super.write(offset, bytes, signal)
  }
}

it.each([1, 16])('a packed cluster is read as written at once, refcounts of %i bits', async (bits) => {
  const unit = 65536
  const options = `refcount_bits=${bits}`
  const store = await createInMemory(4 * unit, options, new SlowStore({ name: 'image.qcow2' }))
  const disk = await openStoreForWriting(store)
  // Counts of one bit keep packed clusters from sharing a cluster of the file, so that each is a write of its own.
  for (const value of [1, 2, 3]) {
    const packed = nodeCodecs.deflate?.pack?.(new Uint8Array(unit).fill(value), unit)
    if (packed === undefined) throw new Error('one value throughout did not get smaller')
    await disk.writePacked?.((value - 1) * unit, packed)
  }
  for (const value of [1, 2, 3]) {
    const bytes = new Uint8Array(unit)
    await disk.read((value - 1) * unit, bytes)
    expect(bytes.every((byte) => byte === value)).toBe(true)
  }
  await disk.close()
})
