/** Emptying an overlay. (The command's tests of `commit` compare with qemu-img.) */
import { MemoryStore, openDisk, qcow, raw } from '@moraine/engine'
import { expect, it } from 'vitest'
import { createIn, type Subject } from '../support/block-subject.ts'
import { closing } from '../support/disk.ts'
import { subject } from './subject.ts'

it('keeps a backing name that lies behind the first table', async () => {
  const size = 1 << 20
  const image = (await createIn(subject as Subject, { options: '', size })) as MemoryStore
  const name = new TextEncoder().encode('below.raw')
  const place = image.size
  await image.write(place, name)
  const fields = new DataView(new ArrayBuffer(12))
  fields.setBigUint64(0, BigInt(place))
  fields.setUint32(8, name.length)
  await image.write(8, new Uint8Array(fields.buffer))
  const below = MemoryStore.from(new Uint8Array(size).fill(5), 'below.raw')
  const open = (mode: 'read' | 'write') =>
    openDisk(image, {
      formats: [qcow, raw],
      format: 'qcow',
      mode,
      gate: { resolve: ({ name: asked }) => asked, open: async () => below.clone() },
    })
  const disk = await open('write')
  const writable = disk as unknown as {
    write(at: number, bytes: Uint8Array): Promise<void>
    makeEmpty(): Promise<void>
  }
  await writable.write(0, new Uint8Array(4096).fill(1))
  await writable.makeEmpty()
  await disk.close()
  await closing(await open('read'), async (again) => {
    expect(again.info().backing?.name).toBe('below.raw')
    const first = new Uint8Array(4096)
    await again.read(0, first)
    expect(first.every((byte) => byte === 5)).toBe(true)
  })
})
