/** Kernels, ramdisks, file systems and the like that a raw image may begin with: facts for people, without checks. */
import type { GuestContent } from '../../guest/content.ts'
import { readFileSystems } from '../../guest/filesystem/index.ts'
import { readPlainKernel } from '../../guest/kernel/index.ts'
import { packingOf } from '../../guest/kernel/packing.ts'
import { readRamdisk } from '../../guest/ramdisk/ramdisk.ts'
import { type Inspector, type Look, seeing, type View } from '../contract.ts'

/** The inspector of what a raw image may hold. Its regions are the headers in a ramdisk, the notes of a kernel, the labels of FAT and NTFS. */
export const content: Inspector = { name: 'content', budget: 512 * 1024, inspect }

function* inspect({ head, found }: View): Look {
  const report = ({ format, subformat, evidence, facts }: GuestContent): void => {
    // LUKS is judged by an inspector of its own, an optical volume too.
    if (format === 'luks' || format === 'iso9660') return
    const { finding } = found(format, 'content', evidence)
    if (subformat !== undefined) finding.subformat = subformat
    Object.assign(finding.facts, facts)
  }
  for (const each of yield* seeing(readFileSystems())) report(each)
  const kernel = yield* seeing(readPlainKernel(head))
  if (kernel !== undefined) report(kernel)
  // What is packed as a whole is looked into as a wrapper is; that is enough.
  const packing = packingOf(head)
  if (packing !== undefined && packing !== 'lzma') return
  const ramdisk = yield* seeing(readRamdisk())
  if (ramdisk !== undefined) report(ramdisk)
}
