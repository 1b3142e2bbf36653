/** VMDK under power cuts, faults and mutation. */
import { testFaults, testMutation, testPowerCuts } from '../support/block-robustness.ts'
import { createIn, openForWritingIn } from '../support/block-subject.ts'
import { subject } from './subject.ts'

testPowerCuts(subject)
testFaults(subject)

const images = await Promise.all(
  [...subject.kinds, { options: 'subformat=streamOptimized', size: 0 }].map(async (kind) => {
    const size = 3 << 20
    const store = await createIn(subject, { ...kind, size })
    const disk = await openForWritingIn(subject, store)
    await disk.write(15 * 65_536, new Uint8Array(3 * 65_536).fill(7))
    await disk.close()
    return store.bytes()
  }),
)

testMutation(subject, images, [
  [0, 80],
  [512, 340],
  [21 * 512, 8],
  [26 * 512, 8],
  [27 * 512, 200],
  [65_536, 80],
])
