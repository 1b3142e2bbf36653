/** What an image tells the file under it of what it is about to do, as QEMU's drivers do. */
import { expect, it } from 'vitest'
import { allFormats, createImage, isWritable, MemoryStore, openDisk, qcow2 } from '../../src/index.ts'

class Told extends MemoryStore {
  readonly events: string[] = []
  debugEvent(event: string): void {
    this.events.push(event)
  }
  take(): Set<string> {
    return new Set(this.events.splice(0))
  }
}

it('tells reading, allocating and the updates of its tables, in the order in which they happen', async () => {
  const store = new Told({ name: 'told' })
  const sibling = async () => {
    throw new Error('no further file')
  }
  await createImage({ store, sibling }, qcow2, { size: 64n << 20n, options: {} })
  store.take()
  const disk = await openDisk(store, { formats: allFormats, mode: 'write' })
  if (!isWritable(disk)) throw new Error('not writable')
  expect(store.take()).toEqual(new Set(['reftable_load']))
  await disk.write(0, new Uint8Array(65_536).fill(1))
  const written = store.events.slice()
  expect(store.take()).toEqual(new Set(['refblock_load', 'cluster_alloc', 'write_aio']))
  expect(written.indexOf('cluster_alloc')).toBeLessThan(written.indexOf('write_aio'))
  await disk.flush()
  expect(store.events).toEqual(['refblock_update_part', 'l2_update', 'l1_update'])
  store.take()
  await disk.read(0, new Uint8Array(512))
  expect(store.take()).toEqual(new Set(['read_aio']))
  await disk.discard(0, 65_536)
  await disk.flush()
  expect(store.take()).toContain('cluster_free')
  await disk.close()
  const again = await openDisk(store, { formats: allFormats })
  store.take()
  await again.read(0, new Uint8Array(512))
  expect(store.events).toContain('l2_load')
  await again.close()
})
