/** VHDX under mutation. */
import { testMutation } from '../support/block-robustness.ts'
import { createIn, openForWritingIn } from '../support/block-subject.ts'
import { subject } from './subject.ts'

const images = await Promise.all(
  subject.kinds.map(async (kind) => {
    const store = await createIn(subject, { ...kind, size: 3 << 20 })
    const disk = await openForWritingIn(subject, store)
    await disk.write(1_000_000, new Uint8Array(200_000).fill(7))
    await disk.close()
    return store.bytes()
  }),
)

testMutation(subject, images, [
  [65_536, 80],
  [131_072, 80],
  [196_608, 80],
  [262_144, 80],
  // Table and metadata of images with a log of 1 MiB.
  [2 << 20, 40],
  [3 << 20, 192],
  [(3 << 20) + 65_536, 40],
])
