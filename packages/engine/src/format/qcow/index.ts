/** qcow, version 1: QEMU's first image format, with backing files and packed clusters. Facts: the behaviour of QEMU 7.2. */
import type { DiskFormat } from '../format.ts'
import { looksLikeQcow } from './layout.ts'
import { qcowOptions, resolveQcowOptions } from './options.ts'

/** The qcow format. */
export const qcow: DiskFormat = {
  name: 'qcow',
  aliases: [],
  extensions: ['qcow'],
  can: {
    read: true,
    write: true,
    create: true,
    check: true,
    repair: true,
    resize: true,
    snapshots: false,
    backing: true,
    compress: true,
    measure: true,
  },
  options: qcowOptions,
  probe: ({ head }) => (looksLikeQcow(head) ? { score: 100, evidence: 'magic QFI\\xfb, version 1' } : undefined),
  open: async (source, context) => (await import('./open.ts')).openQcow(source, context),
  create: async (target, plan) => (await import('./create.ts')).createQcow(target, plan),
  resolveOptions: resolveQcowOptions,
  stream: async (disk, options) => (await import('./stream.ts')).streamQcow(disk, options),
  streamPacked: async (size, options, compress) =>
    (await import('./packed-stream.ts')).streamPackedQcow(size, options, compress),
  measure: async (request) => (await import('./measure.ts')).measureQcow(request),
  check: async (disk, options) => (await import('./check.ts')).checkQcow(disk, options),
}
