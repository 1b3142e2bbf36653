/** VMDK: sparse, flat, split and streamed images of VMware. Facts: VMware's "Virtual Disk Format 5.0", and the behaviour of QEMU 7.2. */
import type { DiskFormat } from '../format.ts'
import { resolveVmdkOptions, vmdkOptions } from './options.ts'
import { looksLikeVmdk } from './probe.ts'

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
    resize: true,
    snapshots: false,
    backing: true,
    compress: true,
    measure: true,
  },
  options: vmdkOptions,
  probe: looksLikeVmdk,
  open: async (source, context) => (await import('./open.ts')).openVmdk(source, context),
  create: async (target, plan) => (await import('./create.ts')).createVmdk(target, plan),
  resolveOptions: resolveVmdkOptions,
  stream: async (disk, options) => (await import('./stream.ts')).streamVmdk(disk, options),
  streamPacked: async (size, options) => (await import('./packed-stream.ts')).streamPackedVmdk(size, options),
  measure: async (request) => (await import('./measure.ts')).measureVmdk(request),
  check: async (disk, options) => (await import('./check.ts')).checkVmdk(disk, options),
}
