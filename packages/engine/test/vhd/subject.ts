/** VHD under test. */
import type { Subject } from '../support/block-subject.ts'

export const subject: Subject = {
  format: 'vhd',
  qemu: 'vpc',
  kinds: [
    { options: '', size: 5_500_416 },
    { options: 'subformat=fixed', size: 4 << 20 },
    { options: 'force_size=on', size: (6 << 20) + 512 },
    { options: 'subformat=fixed,force_size=on', size: (4 << 20) + 1024 },
  ],
  // Either footer will do; what lies behind the last block is nobody's.
  harmless: /^ERROR: the footer('s copy at the start is damaged| at the end is missing)|^Leaked/,
  qemuChecks: false,
}

/** An image with times, checksums and unique ids made zero in both footers. */
export function masked(image: Uint8Array): Uint8Array {
  const start = image.length - 512
  for (const at of [0, start]) {
    if (String.fromCharCode(...image.subarray(at, at + 8)) !== 'conectix') continue
    image.fill(0, at + 24, at + 28)
    image.fill(0, at + 64, at + 84)
  }
  return image
}

/** Puts the right checksum into the footer at `at`, or into the header of 1024 bytes there. */
export function seal(image: Uint8Array, at: number, length: 512 | 1024): void {
  const field = at + (length === 512 ? 64 : 36)
  image.fill(0, field, field + 4)
  const sum = image.subarray(at, at + length).reduce((total, byte) => total + byte, 0)
  new DataView(image.buffer, image.byteOffset).setUint32(field, ~sum >>> 0)
}
