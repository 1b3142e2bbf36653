/** Repairs of VHD: blocks that two entries share, or that lie over something else, get a place of their own. */
import type { MemoryStore } from '@moraine/engine'
import { expect, it } from 'vitest'
import { checkIn, createIn, openForWritingIn, openIn, wholeOf } from '../support/block-subject.ts'
import { closing } from '../support/disk.ts'
import { Random } from '../support/random.ts'
import { subject } from './subject.ts'

const block = 2 << 20
/** Where the table stands in a new image. */
const table = 1536

async function make(): Promise<{ store: MemoryStore; content: Uint8Array }> {
  const store = await createIn(subject, { options: 'force_size=on', size: 5 * block })
  const content = new Uint8Array(5 * block)
  await closing(await openForWritingIn(subject, store), async (disk) => {
    for (const at of [0, 1, 3]) {
      const bytes = new Random(at + 1).bytes(block)
      await disk.write(at * block, bytes)
      content.set(bytes, at * block)
    }
  })
  return { store, content }
}

async function bend(store: MemoryStore, edit: (view: DataView) => void): Promise<void> {
  const bytes = store.bytes()
  edit(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength))
  await store.write(0, bytes)
}

async function content(store: MemoryStore): Promise<Uint8Array> {
  return closing(await openIn(subject, store), wholeOf)
}

it.each([
  ['one block for two entries', (view: DataView) => view.setUint32(table + 8, view.getUint32(table + 4)), 1],
  [
    'one block for four entries',
    (view: DataView) => {
      for (const entry of [0, 2, 4]) view.setUint32(table + entry * 4, view.getUint32(table + 4))
    },
    3,
  ],
  ['a block that begins within another', (view: DataView) => view.setUint32(table + 8, view.getUint32(table) + 64), 2],
  ['a block over the table', (view: DataView) => view.setUint32(table + 16, 2), 1],
] as const)('%s', async (_name, edit, found) => {
  const { store } = await make()
  await bend(store, edit)
  const before = await closing(await openIn(subject, store, 'check'), wholeOf)
  const first = await checkIn(subject, store, 'none')
  expect(first.result.corruptions, `${first.lines}`).toBe(found)
  const repair = await checkIn(subject, store, 'all')
  expect([repair.result.corruptions, repair.result.corruptionsFixed]).toEqual([0, found])
  const after = await checkIn(subject, store, 'none')
  expect([after.result.corruptions, after.lines]).toEqual([0, []])
  const now = await content(store)
  expect(Buffer.compare(now, before), 'what was read before is read now').toBe(0)
  // A write into one goes nowhere else.
  await closing(await openForWritingIn(subject, store), (disk) => disk.write(2 * block, new Uint8Array(block).fill(9)))
  now.fill(9, 2 * block, 3 * block)
  expect(Buffer.compare(await content(store), now)).toBe(0)
})

it('leaves a sound image as it is', async () => {
  const { store, content: held } = await make()
  const bytes = store.bytes().slice()
  const { result, lines } = await checkIn(subject, store, 'all')
  expect([result.corruptionsFixed, result.leaksFixed, lines]).toEqual([0, 0, []])
  expect(Buffer.compare(store.bytes(), bytes)).toBe(0)
  expect(Buffer.compare(await content(store), held)).toBe(0)
})
