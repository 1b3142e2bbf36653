/** Parallels disk images, old and extended, as ploop and Virtuozzo use them too. Facts: QEMU's docs/interop/parallels.txt and the behaviour of QEMU 7.2. */
import type { DiskFormat } from '../format.ts'
import { kindOfMagic } from './layout.ts'
import { parallelsOptions, resolveParallelsOptions } from './options.ts'

/** The Parallels format. */
export const parallels: DiskFormat = {
  name: 'parallels',
  aliases: [],
  extensions: ['hds', 'hdd'],
  can: {
    read: true,
    write: true,
    create: true,
    check: true,
    repair: true,
    resize: true,
    snapshots: false,
    backing: false,
    compress: false,
    measure: true,
  },
  options: parallelsOptions,
  probe: ({ head }) => {
    const kind = kindOfMagic(head)
    return kind === undefined ? undefined : { score: 100, evidence: `magic of the ${kind} kind, version 2` }
  },
  open: async (source, context) => (await import('./open.ts')).openParallels(source, context),
  create: async (target, plan) => (await import('./create.ts')).createParallels(target, plan),
  resolveOptions: resolveParallelsOptions,
  stream: async (disk, options) => (await import('./stream.ts')).streamParallels(disk, options),
  measure: async (request) =>
    (await import('../measure-stream.ts')).measureByStream(
      (await import('./stream.ts')).streamParallels,
      request,
      'parallels',
    ),
  check: async (disk, options) => (await import('./check.ts')).checkParallels(disk, options),
}
