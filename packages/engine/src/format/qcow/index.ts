/** qcow, version 1: QEMU's first image format, with backing files and packed clusters. Facts: the behaviour of QEMU 7.2. */
import type { DiskFormat } from '../format.ts'
import { checkQcow } from './check.ts'
import { createQcow } from './create.ts'
import { looksLikeQcow } from './layout.ts'
import { openQcow } from './open.ts'
import { qcowOptions, resolveQcowOptions } from './options.ts'
import { streamPackedQcow } from './packed-stream.ts'
import { streamQcow } from './stream.ts'

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
    resize: false,
    snapshots: false,
    backing: true,
    compress: true,
    measure: false,
  },
  options: qcowOptions,
  probe: ({ head }) => (looksLikeQcow(head) ? { score: 100, evidence: 'magic QFI\\xfb, version 1' } : undefined),
  open: openQcow,
  create: createQcow,
  resolveOptions: resolveQcowOptions,
  stream: streamQcow,
  streamPacked: streamPackedQcow,
  check: checkQcow,
}
