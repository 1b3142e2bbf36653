/** Raw: the disk is the file. Facts: QEMU 7.2 `block/raw-format.c` (behaviour). */
import type { DiskFormat } from '../format.ts'
import { createRaw, measureRaw } from './create.ts'
import { openRaw } from './disk.ts'
import { rawOptions } from './options.ts'
import { streamRaw } from './stream.ts'

/** The raw format. It recognises everything, as the last resort. */
export const raw: DiskFormat = {
  name: 'raw',
  aliases: [],
  extensions: ['img', 'raw'],
  sequential: true,
  can: {
    read: true,
    write: true,
    create: true,
    check: false,
    repair: false,
    resize: true,
    snapshots: false,
    backing: false,
    compress: false,
    measure: true,
  },
  options: rawOptions,
  probe: () => ({ score: 1, evidence: 'no other format was recognised' }),
  open: openRaw,
  create: createRaw,
  resolveOptions: (size, { size: _again, ...options }) => ({ size, ...options }),
  stream: streamRaw,
  measure: measureRaw,
}
