/** VMDK under test: the kinds that are one file of plain grains. */
import type { Subject } from '../support/block-subject.ts'

export const subject: Subject = {
  format: 'vmdk',
  qemu: 'vmdk',
  kinds: [
    { options: '', size: 5_500_416 },
    { options: 'zeroed_grain=on,adapter_type=lsilogic', size: (4 << 20) + 512 },
  ],
  qemuChecks: true,
}

/** An image with its content identity masked; QEMU writes it without leading zeros. */
export function masked(image: Uint8Array): Uint8Array {
  const end = Math.min(image.length, 21 * 512)
  const start = image[0] === 0x4b ? 512 : 0
  const text = Buffer.from(image.subarray(start, end)).toString('latin1')
  const [descriptor = ''] = text.replace(/^CID=[0-9a-f]+$/m, 'CID=########').split('\0', 1)
  if (start === 0) return Buffer.from(descriptor, 'latin1')
  const bytes = Buffer.from(image)
  bytes.fill(0, start, end)
  bytes.write(descriptor, start, 'latin1')
  return bytes
}
