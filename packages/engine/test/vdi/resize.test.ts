/** VDI images that grow. */
import { MemoryStore } from '@moraine/engine'
import { kindsOf, testGrowing, testGrownAgainstQemu } from '../support/block-resize.ts'
import { createIn } from '../support/block-subject.ts'
import { subject } from './subject.ts'

const small = 4096

/** An image with blocks of 4 KiB, `blocks` of them, and a map that ends where they begin. */
async function smallBlocks(options: string, blocks: number): Promise<MemoryStore> {
  const store = await createIn(subject, { options, size: blocks << 20 })
  const bytes = new Uint8Array(512 + blocks * 4)
  await store.read(0, bytes)
  const view = new DataView(bytes.buffer)
  view.setUint32(376, small, true)
  view.setBigUint64(368, BigInt(blocks * small), true)
  const image = MemoryStore.from(bytes, store.name)
  if (options === 'static=on') await image.resize(bytes.length + blocks * small)
  return image
}

testGrowing(subject, [
  ...kindsOf(subject),
  {
    name: 'a map without room',
    make: () => smallBlocks('', 128),
    sizes: [129 * small, 130 * small + 512, 2100 * small],
  },
  {
    name: 'a full map without room',
    make: () => smallBlocks('static=on', 256),
    sizes: [257 * small, 1400 * small],
    harmless: /^ERROR: block index \d+ too large, is \d+/,
  },
])

testGrownAgainstQemu(subject, [
  { options: '', size: 5_500_416, sizes: [5_501_440, 40 << 20] },
  { options: 'static=on', size: 128 << 20, sizes: [129 << 20] },
])
