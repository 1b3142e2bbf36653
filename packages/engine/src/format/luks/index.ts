/** LUKS containers: version 1 as QEMU has it, read and written; version 2 read. Facts: LUKS1 On-Disk Format Specification 1.2.3, LUKS2 On-Disk Format Specification 1.1.1, and the
 *  behaviour of QEMU 7.2. */
import { luksVersion } from '../../crypt/luks-header.ts'
import { nothing } from '../capabilities.ts'
import type { DiskFormat, ProbeWindow } from '../format.ts'
import { luksOptions, resolveLuksOptions } from './options.ts'

function probe(version: number) {
  return ({ head }: ProbeWindow) =>
    luksVersion(head) === version ? { score: 100, evidence: `magic "LUKS\\xba\\xbe", version ${version}` } : undefined
}

/** LUKS of version 1, which QEMU knows as `luks`. */
export const luks: DiskFormat = {
  name: 'luks',
  aliases: [],
  extensions: ['luks'],
  can: { ...nothing, read: true, write: true, create: true, resize: true, measure: true },
  get options() {
    return luksOptions()
  },
  probe: probe(1),
  open: async (source, context) => (await import('./open.ts')).openLuks(source, context),
  create: async (target, plan) => (await import('./create.ts')).createLuks(target, plan),
  resolveOptions: resolveLuksOptions,
  amendKeys: async (disk, change, context) => (await import('./open.ts')).amendLuksKeys(disk, change, context),
  measure: async (request) => (await import('./create.ts')).measureLuks(request),
}

/** LUKS of version 2. */
export const luks2: DiskFormat = {
  name: 'luks2',
  aliases: [],
  extensions: [],
  can: { ...nothing, read: true },
  options: [],
  probe: probe(2),
  open: async (source, context) => (await import('./open-second.ts')).openLuks2(source, context),
}
