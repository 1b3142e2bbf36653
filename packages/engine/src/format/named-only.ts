/** Formats that are recognised to be refused by name: better than to take their bytes for a raw disk. */

import { MoraineError } from '../core/index.ts'
import { nothing } from './capabilities.ts'
import type { DiskFormat } from './format.ts'

function named(format: Pick<DiskFormat, 'name' | 'extensions' | 'probe'>, reason: string, hint: string): DiskFormat {
  return {
    ...format,
    aliases: [],
    can: nothing,
    options: [],
    open: (file) =>
      Promise.reject(
        new MoraineError('unsupported', reason, { path: file.name, format: format.name, field: 'format', hint }),
      ),
  }
}

/** VHD Sets, with which Hyper-V shares a disk among guests: a small file that stands for another. They are told by their name alone: no source documents them. */
export const vhds: DiskFormat = named(
  {
    name: 'vhds',
    extensions: ['vhds'],
    probe: ({ name }) =>
      name.toLowerCase().endsWith('.vhds') ? { score: 50, evidence: "a name that ends in '.vhds'" } : undefined,
  },
  'VHD Sets cannot be opened',
  'The set keeps its data in an .avhdx file beside it, which opens as vhdx once no guest writes to it.',
)

/** Apple's sparse images of macOS 26. What is known of their tables is hearsay, and a wrong guess would be wrong data. */
export const asif: DiskFormat = named(
  {
    name: 'asif',
    extensions: ['asif'],
    probe: ({ head }) =>
      head.length >= 80 && new TextDecoder('latin1').decode(head.subarray(0, 8)) === 'shdw\0\0\0\x01'
        ? { score: 90, evidence: 'magic "shdw", version 1' }
        : undefined,
  },
  'Apple sparse images (ASIF) cannot be opened',
  'Make a raw image of it on macOS, and open that.',
)
