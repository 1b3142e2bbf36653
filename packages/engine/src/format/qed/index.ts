/** QED, QEMU's format between qcow2's versions 2 and 3: no reference counts, backing files. Facts: QEMU's docs/interop/qed_spec.txt, the behaviour of QEMU 7.2. */
import type { DiskFormat } from '../format.ts'
import { looksLikeQed } from './layout.ts'
import { qedOptions, resolveQedOptions } from './options.ts'

/** The QED format. */
export const qed: DiskFormat = {
  name: 'qed',
  aliases: [],
  extensions: ['qed'],
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
  options: qedOptions,
  probe: ({ head }) => (looksLikeQed(head) ? { score: 100, evidence: 'magic "QED\\0"' } : undefined),
  open: async (source, context) => (await import('./open.ts')).openQed(source, context),
  create: async (target, plan) => (await import('./create.ts')).createQed(target, plan),
  resolveOptions: resolveQedOptions,
  stream: async (disk, options) => (await import('./stream.ts')).streamQed(disk, options),
  measure: async (request) =>
    (await import('../measure-stream.ts')).measureByStream((await import('./stream.ts')).streamQed, request, 'qed'),
  check: async (disk, options) => (await import('./check.ts')).checkQed(disk, options),
}
