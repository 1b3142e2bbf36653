/** qcow images that grow. */
import { kindsOf, testGrowing, testGrownAgainstQemu } from '../support/block-resize.ts'
import { subject } from './subject.ts'

testGrowing(subject, kindsOf(subject))

testGrownAgainstQemu(subject, [
  { options: '', size: 5_500_416, sizes: [5_501_440, 40 << 20] },
  { options: '', size: 1 << 20, sizes: [(2 << 20) + 512] },
])
