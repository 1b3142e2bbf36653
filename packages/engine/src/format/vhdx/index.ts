/** VHDX: Hyper-V's disks, fixed, dynamic and differencing. Facts: MS-VHDX 4.0 and the behaviour of QEMU 7.2. */
import type { DiskFormat } from '../format.ts'
import { looksLikeVhdx } from './layout.ts'
import { resolveVhdxOptions, vhdxOptions } from './options.ts'

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
    resize: true,
    snapshots: false,
    backing: true,
    compress: false,
    measure: true,
  },
  options: vhdxOptions,
  probe: ({ head }) => (looksLikeVhdx(head) ? { score: 100, evidence: 'signature "vhdxfile"' } : undefined),
  open: async (source, context) => (await import('./open.ts')).openVhdx(source, context),
  create: async (target, plan) => (await import('./create.ts')).createVhdx(target, plan),
  resolveOptions: resolveVhdxOptions,
  stream: async (disk, options) => (await import('./stream.ts')).streamVhdx(disk, options),
  measure: async (request) =>
    (await import('../measure-stream.ts')).measureByStream((await import('./stream.ts')).streamVhdx, request, 'vhdx'),
  check: async (disk, options) => (await import('./check.ts')).checkVhdx(disk, options),
}
