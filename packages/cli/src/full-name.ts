/** The names that images have for others, made full as QEMU does it: `bdrv_dirname`, `bdrv_get_full_backing_filename` and
 *  `bdrv_get_full_backing_filename_from_filename` of its block.c. */
import { type GateRequest, isMoraineError, MoraineError } from '@moraine/engine'
import { fileGate, protocolOf } from '@moraine/engine/node'
import type { NameParts } from './blockdev/options.ts'

type Asked = Pick<GateRequest, 'from' | 'name'> & Partial<Pick<GateRequest, 'role'>>

/** The full name of what the image `from` names: relative ones stand in the folder of the file at the bottom of that image, whatever filters are over it.
 *  @throws MoraineError `unsupported` where that is in no folder. */
export function fullName({ from, ...asked }: Asked): string {
  const full = fileGate().resolve({ from, ...asked })
  return full === asked.name ? full : fileGate().resolve({ from: fileUnder(from), ...asked })
}

/** The same; undefined where it cannot be told. */
export function fullNameIfAny(asked: Asked): string | undefined {
  try {
    return fullName(asked)
  } catch (error) {
    if (isMoraineError(error, 'unsupported')) return undefined
    throw error
  }
}

/** The full name of a backing file that an image is to get: made of the image's name alone, so not of one with `json:`.
 *  @throws MoraineError `unsupported` */
export function fullNewBacking(from: string, name: string): string {
  const full = fileGate().resolve({ from, name })
  if (full === name || !from.startsWith('json:')) return full
  throw new MoraineError('unsupported', `Cannot use relative backing file names for '${from}'`, { path: from })
}

/** The file that a name of a node leads to in the end. */
function fileUnder(name: string): string {
  const protocol = protocolOf(name)
  if (protocol === 'json') return fileOf(JSON.parse(name.slice('json:'.length)))
  if (protocol === 'blkdebug') return fileUnder(name.slice(name.indexOf(':', 'blkdebug:'.length) + 1))
  if (protocol !== undefined && /^nbds?(\+|$)/.test(protocol)) throw inNoFolder(name)
  return name
}

function fileOf(parts: NameParts): string {
  // `blkdebug` calls it by another name than all others.
  const child = parts.file ?? parts.image
  if (child !== null && typeof child === 'object') return fileOf(child)
  if (parts.driver === 'nbd') throw inNoFolder('nbd')
  return String(parts.filename ?? parts.url ?? '')
}

function inNoFolder(path: string): MoraineError {
  return new MoraineError('unsupported', 'Cannot generate a base directory for NBD nodes', { path })
}
