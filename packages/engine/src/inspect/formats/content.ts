/** File systems, kernels and the like that a raw image may begin with: facts for people, without checks. Facts: the public specification of each. */
import { fields, isPower, latin1, name, stands } from '../bytes.ts'
import type { Inspector, Look, View } from '../contract.ts'

/** A signature, and what else must hold. */
interface Signature {
  format: string
  evidence: string
  fits(head: Uint8Array): boolean
  /** The label, where the format has one. */
  label?: [offset: number, length: number]
}

const at = (format: string, text: string, offset: number, label?: [number, number]): Signature => ({
  format,
  evidence: `"${text.replace(/[^ -~]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16).padStart(2, '0')}`)}" at ${offset}`,
  fits: (head) => stands(head, text, offset),
  ...(label === undefined ? {} : { label }),
})

const signatures: readonly Signature[] = [
  at('linux-kernel', 'HdrS', 514),
  at('linux-kernel', 'ARM\x64', 56),
  at('elf', '\x7fELF', 0),
  at('cpio', '070701', 0),
  at('cpio', '070702', 0),
  at('squashfs', 'hsqs', 0),
  at('xfs', 'XFSB', 0, [108, 12]),
  at('btrfs', '_BHRfS_M', 0x10040, [0x1012b, 256]),
  at('ntfs', 'NTFS    ', 3),
  at('exfat', 'EXFAT   ', 3),
  at('erofs', '\xe2\xe1\xf5\xe0', 1024),
  at('swap', 'SWAPSPACE2', 4086),
  {
    format: 'ext',
    evidence: '53 ef at 1080 and a sane superblock',
    fits: (head) => {
      const block = fields(head, 1024, 128)
      return block.getUint16(56, true) === 0xef53 && block.getUint32(24, true) <= 6 && block.getUint32(4, true) > 0
    },
    label: [1024 + 120, 16],
  },
  {
    format: 'fat',
    evidence: '55 aa at 510 and a sane BIOS parameter block',
    fits: (head) => {
      const block = fields(head, 0, 32)
      const media = block.getUint8(21)
      return (
        stands(head, '\x55\xaa', 510) &&
        isPower(block.getUint16(11, true), 512, 4096) &&
        isPower(block.getUint8(13), 1, 128) &&
        block.getUint8(16) >= 1 &&
        block.getUint8(16) <= 2 &&
        (media === 0xf0 || media >= 0xf8)
      )
    },
  },
  {
    format: 'lvm2',
    evidence: '"LABELONE" and "LVM2 001" in the first four sectors',
    fits: (head) =>
      [0, 512, 1024, 1536].some((from) => stands(head, 'LABELONE', from) && stands(head, 'LVM2 001', from + 24)),
  },
]

/** The inspector of what a raw image may hold. */
export const content: Inspector = { name: 'content', budget: 0, inspect }

// biome-ignore lint/correctness/useYield: an inspector is a generator, also when the head is enough.
function* inspect({ head, found }: View): Look {
  for (const { format, evidence, fits, label } of signatures) {
    if (!fits(head)) continue
    const report = found(format, 'content', evidence)
    if (label === undefined) continue
    const text = name(latin1(head, label[0], label[0] + label[1]))
    if (text !== '') report.fact('label', text)
  }
}
