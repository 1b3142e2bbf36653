/** VMDK: sparse, flat, split and streamed images of VMware. Facts: VMware's "Virtual Disk Format 5.0", and the behaviour of QEMU 7.2. */
import type { DiskFormat } from '../format.ts'
import { checkVmdk } from './check.ts'
import { createVmdk } from './create.ts'
import { openVmdk } from './open.ts'
import { resolveVmdkOptions, vmdkOptions } from './options.ts'
import { streamPackedVmdk } from './packed-stream.ts'
import { looksLikeVmdk } from './probe.ts'
import { streamVmdk } from './stream.ts'

/** The VMDK format. */
export const vmdk: DiskFormat = {
  name: 'vmdk',
  aliases: [],
  extensions: ['vmdk'],
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
  options: vmdkOptions,
  probe: looksLikeVmdk,
  open: openVmdk,
  create: createVmdk,
  resolveOptions: resolveVmdkOptions,
  stream: streamVmdk,
  streamPacked: streamPackedVmdk,
  check: checkVmdk,
}
