/** VDI under test. */
import type { Subject } from '../support/block-subject.ts'

export const subject: Subject = {
  format: 'vdi',
  qemu: 'vdi',
  kinds: [
    { options: '', size: 5_500_416 },
    { options: 'static=on', size: 4 << 20 },
  ],
  // The header counts a block before the map has it.
  harmless: /^ERROR: allocated blocks mismatch/,
  qemuChecks: true,
}

/** An image with its UUIDs made zero. */
export function masked(image: Uint8Array): Uint8Array {
  return image.fill(0, 392, 424)
}
