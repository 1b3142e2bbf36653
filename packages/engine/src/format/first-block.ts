/** The beginning of a new file that is a disk by itself. Source: what QEMU 7.2's `file` leaves (observed). */
import type { ByteStore } from '../core/index.ts'

/** Zeros take the place of the first hole of a new file of `size` bytes, 4 KiB of it, as from QEMU: who opens it with direct I/O later finds out by reading there what alignment the file system wants,
 *  and some serve a hole whatever the alignment. */
export async function takeFirstBlock(store: ByteStore, size: number): Promise<void> {
  if (size > 0) await store.write(0, new Uint8Array(Math.min(size, 4096)))
}
