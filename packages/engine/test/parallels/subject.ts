/** Parallels images under test. */
import type { Subject } from '../support/block-subject.ts'

export const subject: Subject = {
  format: 'parallels',
  qemu: 'parallels',
  kinds: [
    { options: '', size: 5_500_416 },
    { options: 'cluster_size=64k', size: 4 << 20 },
    { options: 'cluster_size=31744', size: 4 << 20 },
  ],
  // The header says so from the first write on; space that was taken before the table pointed there costs nothing.
  harmless: /image was not closed correctly|space leaked at the end/,
  qemuChecks: true,
}

/** Nothing in an image is made up anew. */
export function masked(image: Uint8Array): Uint8Array {
  return image
}

/** The same image as one of the old kind, whose entries count sectors. */
export function asOld(image: Uint8Array): Uint8Array {
  const old = image.slice()
  const view = new DataView(old.buffer)
  old.set(new TextEncoder().encode('WithoutFreeSpace'))
  for (let i = 0; i < view.getUint32(32, true); i++) {
    view.setUint32(64 + i * 4, view.getUint32(64 + i * 4, true) * view.getUint32(28, true), true)
  }
  return old
}
