/** VHD, the disk image of Virtual PC, Hyper-V, XenServer and Azure (QEMU's `vpc`): fixed, dynamic, differencing. Facts: Microsoft's Virtual Hard Disk
 *  Image Format Specification 1.0 and the behaviour of QEMU 7.2. */
import type { DiskFormat } from '../format.ts'
import { resolveVhdOptions, vhdOptions } from './options.ts'
import { probeVhd } from './probe.ts'

/** The VHD format. */
export const vhd: DiskFormat = {
  name: 'vhd',
  aliases: ['vpc'],
  extensions: ['vhd', 'vpc'],
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
  options: vhdOptions,
  probe: probeVhd,
  open: async (source, context) => (await import('./open.ts')).openVhd(source, context),
  create: async (target, plan) => (await import('./create.ts')).createVhd(target, plan),
  resolveOptions: resolveVhdOptions,
  stream: async (disk, options) => (await import('./stream.ts')).streamVhd(disk, options),
  measure: async (request) =>
    (await import('../measure-stream.ts')).measureByStream((await import('./stream.ts')).streamVhd, request, 'vhd'),
  check: async (disk, options) => (await import('./check.ts')).checkVhd(disk, options),
}
