/** qcow version 1 under test. */
import type { Subject } from '../support/block-subject.ts'

export const subject: Subject = {
  format: 'qcow',
  qemu: 'qcow',
  kinds: [
    { options: '', size: 5_500_416 },
    { options: '', size: 4 << 20 },
  ],
  qemuChecks: false,
}

/** Nothing in an image is made up anew. */
export function masked(image: Uint8Array): Uint8Array {
  return image
}
