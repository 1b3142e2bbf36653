/** VHDX: Hyper-V's disks, fixed, dynamic and differencing. Facts: MS-VHDX 4.0 and the behaviour of QEMU 7.2. */
import type { DiskFormat } from '../format.ts'
import { checkVhdx } from './check.ts'
import { createVhdx } from './create.ts'
import { looksLikeVhdx } from './image.ts'
import { openVhdx } from './open.ts'
import { resolveVhdxOptions, vhdxOptions } from './options.ts'
import { streamVhdx } from './stream.ts'

/** The VHDX format. */
export const vhdx: DiskFormat = {
  name: 'vhdx',
  aliases: [],
  extensions: ['vhdx', 'avhdx'],
  can: {
    read: true,
    write: true,
    create: true,
    check: true,
    repair: true,
    resize: false,
    snapshots: false,
    backing: true,
    compress: false,
    measure: false,
  },
  options: vhdxOptions,
  probe: ({ head }) => (looksLikeVhdx(head) ? { score: 100, evidence: 'signature "vhdxfile"' } : undefined),
  open: openVhdx,
  create: createVhdx,
  resolveOptions: resolveVhdxOptions,
  stream: streamVhdx,
  check: checkVhdx,
}
