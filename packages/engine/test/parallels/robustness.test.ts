/** Parallels images under power cuts, faults and mutation. */
import { testFaults, testMutation, testPowerCuts } from '../support/block-robustness.ts'
import { createIn, openForWritingIn } from '../support/block-subject.ts'
import { asOld, subject } from './subject.ts'

testPowerCuts(subject)
testFaults(subject)

const images = await Promise.all(
  subject.kinds.map(async (kind) => {
    const store = await createIn(subject, { ...kind, size: 3 << 20 })
    const disk = await openForWritingIn(subject, store)
    await disk.write(1_000_000, new Uint8Array(200_000).fill(7))
    await disk.close()
    return store.bytes()
  }),
)

testMutation(
  subject,
  [...images, ...images.map(asOld)],
  [
    [0, 64],
    [28, 24],
    [64, 400],
  ],
)
