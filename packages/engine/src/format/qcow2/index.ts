/** qcow2, versions 2 and 3. Facts: QEMU's docs/interop/qcow2.txt and the behaviour of QEMU 7.2. */
import type { DiskFormat } from '../format.ts'
import { checkQcow2 } from './check.ts'
import { createQcow2 } from './create.ts'
import { looksLikeQcow2 } from './header.ts'
import { measureQcow2 } from './measure.ts'
import { openQcow2 } from './open.ts'
import { qcow2Options, resolveQcow2Options } from './options.ts'
import { streamPackedQcow2 } from './packed-stream.ts'
import { streamQcow2 } from './stream.ts'

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
  options: qcow2Options,
  probe: ({ head }) =>
    looksLikeQcow2(head) ? { score: 100, evidence: 'magic "QFI\\xfb" and a version of 2 or more' } : undefined,
  open: openQcow2,
  create: createQcow2,
  resolveOptions: resolveQcow2Options,
  stream: streamQcow2,
  streamPacked: streamPackedQcow2,
  check: checkQcow2,
  measure: measureQcow2,
}
