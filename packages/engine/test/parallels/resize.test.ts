/** Parallels images that grow. */
import { MemoryStore } from '@moraine/engine'
import { kindsOf, testGrowing, testGrownAgainstQemu } from '../support/block-resize.ts'
import { createIn, openForWritingIn } from '../support/block-subject.ts'
import { asOld, subject } from './subject.ts'

testGrowing(subject, [
  ...kindsOf(subject),
  {
    name: 'a table without room',
    make: () => createIn(subject, { options: 'cluster_size=512', size: 110 * 512 }),
    sizes: [112 * 512, 113 * 512, 1000 * 512, 9000 * 512],
  },
  {
    name: 'of the old kind',
    async make() {
      const store = await createIn(subject, { options: 'cluster_size=4k', size: 1 << 20 })
      const disk = await openForWritingIn(subject, store)
      await disk.write(0, new Uint8Array(1 << 20).fill(5))
      await disk.close()
      return MemoryStore.from(asOld(store.bytes()), store.name)
    },
    sizes: [(1 << 20) + 512, 6 << 20],
  },
])

testGrownAgainstQemu(subject, [
  { options: '', size: 5_500_416, sizes: [5_501_440, 40 << 20] },
  { options: 'cluster_size=4k', size: 3 << 20, sizes: [(3 << 20) + 4096, 30 << 20] },
])
