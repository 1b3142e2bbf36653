/** VHD images that grow. */

import { JournalStore, MemoryStore } from '@moraine/engine'
import { expect, it } from 'vitest'
import { type GrowingImage, testGrowing, testGrownAgainstQemu } from '../support/block-resize.ts'
import { createIn, openForWritingIn, openIn, wholeOf } from '../support/block-subject.ts'
import { closing, formatOf } from '../support/disk.ts'
import { seal, subject } from './subject.ts'

/** Sizes as they come out of a creation, since a growth rounds as that does. */
async function rounded(options: string, sizes: readonly number[]): Promise<Map<number, number>> {
  const found = new Map<number, number>()
  for (const size of sizes) {
    const store = await createIn(subject, { options, size })
    found.set(size, await closing(await openIn(subject, store), async (disk) => disk.size))
  }
  return found
}

const small = 4096

/** An image with 128 blocks of 4 KiB, whose table ends where they begin. */
async function smallBlocks(): Promise<MemoryStore> {
  const store = await createIn(subject, { options: 'force_size=on', size: 256 << 20 })
  const bytes = store.bytes()
  const view = new DataView(bytes.buffer)
  view.setUint32(512 + 32, small)
  seal(bytes, 512, 1024)
  for (const footer of [0, bytes.length - 512]) {
    view.setBigUint64(footer + 48, BigInt(128 * small))
    seal(bytes, footer, 512)
  }
  return MemoryStore.from(bytes, store.name)
}

async function growing(options: string, size: number): Promise<GrowingImage> {
  const made = (await rounded(options, [size])).get(size) as number
  const sizes = [made + 1024, made + (1 << 20), made + (4 << 20)]
  const all = await rounded(options, sizes)
  return {
    name: `${options} ${size}`,
    make: () => createIn(subject, { options, size }),
    sizes,
    comesTo: (asked) => all.get(asked) ?? asked,
    // The footers are written one after the other.
    harmless: /^ERROR: the footer at the end differs/,
  }
}

testGrowing(subject, [
  ...(await Promise.all(subject.kinds.map(({ options, size }) => growing(options, size)))),
  {
    name: 'a table without room',
    make: smallBlocks,
    sizes: [129 * small, 130 * small + 512, 2100 * small],
    harmless: /^ERROR: the footer at the end differs/,
  },
])

testGrownAgainstQemu(subject, [
  { options: '', size: 5_500_416, sizes: [5_600_256, 40 << 20] },
  { options: 'subformat=fixed', size: 4 << 20, sizes: [5 << 20] },
  { options: 'force_size=on', size: 256 << 20, sizes: [(256 << 20) + 512] },
  { options: 'subformat=fixed,force_size=on', size: 4 << 20, sizes: [(4 << 20) + 512] },
])

it('fixed images become smaller, the others do not', async () => {
  const store = await createIn(subject, { options: 'subformat=fixed,force_size=on', size: 4 << 20 })
  const disk = await openForWritingIn(subject, store)
  await disk.write(0, new Uint8Array(4 << 20).fill(7))
  await disk.resize(1 << 20, 'off', true)
  await disk.close()
  expect(store.size).toBe((1 << 20) + 512)
  expect((await closing(await openIn(subject, store), wholeOf)).every((byte) => byte === 7)).toBe(true)
  const dynamic = await openForWritingIn(subject, await createIn(subject, { options: '', size: 4 << 20 }))
  await expect(dynamic.resize(1 << 20, 'off', true)).rejects.toMatchObject({ kind: 'unsupported' })
  await dynamic.close()
})

it('a fixed image is known as one at any moment', async () => {
  for (const options of ['subformat=fixed', 'subformat=fixed,force_size=on']) {
    const journal = new JournalStore(await createIn(subject, { options, size: 4 << 20 }))
    const disk = await openForWritingIn(subject, journal)
    await disk.resize(6 << 20)
    await disk.close()
    const kinds = new Set<boolean>()
    for (let time = 0; time <= journal.entries.length; time++) {
      for (const fate of [0, 0.5]) {
        const image = await journal.cut(() => fate, time)
        const bytes = image.bytes()
        const [head, tail] = [bytes.subarray(0, 131_072), bytes.subarray(-1536)]
        kinds.add(formatOf('vhd').probe({ name: image.name, size: image.size, head, tail }) !== undefined)
      }
    }
    expect([...kinds]).toEqual([true])
  }
})
