/** What guest bytes turn out to be: the shape in which kernels, ramdisks, file systems and parts of other volumes are described. Plain data, fit for JSON. */
import type { DetailValue } from '../core/index.ts'

/** `kernel`: what a boot loader starts. `ramdisk`: what it hands to a kernel. `file-system`: what can be mounted. `volume`: a part of something larger or hidden (LVM, RAID, LUKS, swap). `program`: what an
 *  operating system starts, and no kernel. */
export type GuestKind = 'kernel' | 'ramdisk' | 'file-system' | 'volume' | 'program'

/** Something that was recognised. */
export interface GuestContent {
  kind: GuestKind
  /** As in `ext`, `xfs`, `linux-kernel`, `cpio`. */
  format: string
  /** A kind of it in its own words, as in `ext4`, `bzImage`, `FAT32`. */
  subformat?: string
  /** What gave it away, in words. */
  evidence: string
  /** Names, labels, identities, sizes in bytes. */
  facts: Record<string, DetailValue>
}

/** Facts without those that are not there: undefined and empty texts are left out. */
export function factsOf(facts: Record<string, DetailValue | undefined>): Record<string, DetailValue> {
  const kept: Record<string, DetailValue> = {}
  for (const [name, value] of Object.entries(facts)) if (value !== undefined && value !== '') kept[name] = value
  return kept
}
