/** qcow2, versions 2 and 3. Facts: QEMU's docs/interop/qcow2.txt and the behaviour of QEMU 7.2. */
import type { DiskFormat } from '../format.ts'
import { looksLikeQcow2 } from './header.ts'
import { qcow2AmendOptions, qcow2Options, resolveQcow2Options } from './options.ts'

/** The qcow2 format. */
export const qcow2: DiskFormat = {
  name: 'qcow2',
  aliases: [],
  extensions: ['qcow2'],
  can: {
    read: true,
    write: true,
    create: true,
    check: true,
    repair: true,
    resize: true,
    snapshots: true,
    backing: true,
    compress: true,
    measure: true,
  },
  get options() {
    return qcow2Options()
  },
  probe: ({ head }) =>
    looksLikeQcow2(head) ? { score: 100, evidence: 'magic "QFI\\xfb" and a version of 2 or more' } : undefined,
  open: async (source, context) => (await import('./open.ts')).openQcow2(source, context),
  create: async (target, plan) => (await import('./create.ts')).createQcow2(target, plan),
  resolveOptions: resolveQcow2Options,
  get amendOptions() {
    return qcow2AmendOptions()
  },
  amend: async (disk, options) => (await import('./amend.ts')).amendQcow2(disk, options),
  amendKeys: async (disk, change, context) => (await import('./crypt.ts')).amendQcow2Keys(disk, change, context),
  stream: async (disk, options) => (await import('./stream.ts')).streamQcow2(disk, options),
  streamPacked: async (size, options, compress) =>
    (await import('./packed-stream.ts')).streamPackedQcow2(size, options, compress),
  check: async (disk, options) => (await import('./check.ts')).checkQcow2(disk, options),
  measure: async (request) => (await import('./measure.ts')).measureQcow2(request),
}
