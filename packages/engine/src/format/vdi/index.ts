/** VDI, VirtualBox's disk image, version 1.1: dynamic, static, differencing. Facts: VirtualBox's VDI core header and the behaviour of QEMU 7.2. */
import type { DiskFormat } from '../format.ts'
import { looksLikeVdi } from './layout.ts'
import { resolveVdiOptions, vdiOptions } from './options.ts'

/** The VDI format. */
export const vdi: DiskFormat = {
  name: 'vdi',
  aliases: [],
  extensions: ['vdi'],
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
  options: vdiOptions,
  probe: ({ head }) => (looksLikeVdi(head) ? { score: 100, evidence: 'signature 7f 10 da be at byte 64' } : undefined),
  open: async (source, context) => (await import('./open.ts')).openVdi(source, context),
  create: async (target, plan) => (await import('./create.ts')).createVdi(target, plan),
  resolveOptions: resolveVdiOptions,
  stream: async (disk, options) => (await import('./stream.ts')).streamVdi(disk, options),
  measure: async (request) =>
    (await import('../measure-stream.ts')).measureByStream((await import('./stream.ts')).streamVdi, request, 'vdi'),
  check: async (disk, options) => (await import('./check.ts')).checkVdi(disk, options),
}
