/** QED under power cuts, faults and mutation. */
import { testFaults, testMutation, testPowerCuts } from '../support/block-robustness.ts'
import { createIn, openForWritingIn } from '../support/block-subject.ts'
import { subject } from './subject.ts'

testPowerCuts(subject)
testFaults(subject)

const images = await Promise.all(
  ['cluster_size=4k,table_size=1', 'cluster_size=4k,table_size=2'].map(async (options) => {
    const store = await createIn(subject, { options, size: 3 << 20 })
    const disk = await openForWritingIn(subject, store)
    await disk.write(1_000_000, new Uint8Array(200_000).fill(7))
    await disk.zero(2_200_000, 100_000, 'unmap')
    await disk.close()
    return store.bytes()
  }),
)

testMutation(subject, images, [
  [0, 64],
  [0, 24],
  // The L1 table, the entries of the first L2 table behind 50 clusters.
  [4096, 32],
  [4096 + 50 * 4096, 16384],
])
