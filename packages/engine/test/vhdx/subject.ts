/** VHDX under test. */
import type { Subject } from '../support/block-subject.ts'

export const subject: Subject = {
  format: 'vhdx',
  qemu: 'vhdx',
  kinds: [
    { options: 'block_size=1M', size: 5_500_416 },
    { options: '', size: 20 << 20 },
    // QEMU's fixed images have no block in place, and grow by every block that is written.
    { options: 'subformat=fixed,block_size=2M', size: 4 << 20, ownLayout: true },
    { options: 'block_state_zero=off,block_size=4M,log_size=2M', size: 9_000_448 },
  ],
  // The log is there for this, and one header of two for that.
  harmless: /^The log holds changes|^Header [12] is damaged/,
  qemuChecks: true,
  qemuMaps: false,
}

/** An image with what differs from image to image, and from maker to maker, made zero: who made it, numbers and identifiers of the headers, whether
 *  regions are marked as required, checksums, log, identifier of the disk. */
export function masked(image: Uint8Array): Uint8Array {
  const view = new DataView(image.buffer, image.byteOffset, image.byteLength)
  image.fill(0, 8, 520)
  for (const header of [65_536, 131_072]) {
    image.fill(0, header + 4, header + 64)
    // QEMU's first header stays behind the second.
    image.fill(0, header + 80, header + 4096)
  }
  for (const table of [196_608, 262_144]) {
    image.fill(0, table + 4, table + 8)
    for (const entry of [table + 16, table + 48]) image.fill(0, entry + 28, entry + 32)
  }
  const log = Number(view.getBigUint64(65_536 + 72, true))
  image.fill(0, log, log + view.getUint32(65_536 + 68, true))
  const metadata = Number(view.getBigUint64(196_608 + 48 + 16, true))
  image.fill(0, metadata + 65_536 + 16, metadata + 65_536 + 32)
  return image
}
