/** Where a new image is made. What can be written but not made (devices, exports) must be there, and QEMU says so in words of its own. */
import { type DiskFormat, isMoraineError, MoraineError } from '@moraine/engine'
import { isPlain, notDevice, refusalOf } from './drivers.ts'
import { statsOf } from './file-stats.ts'
import { isExport, pathOf } from './open.ts'
import type { Persona } from './persona.ts'

/** The path of the file or device of the host in which an image of this name and format is made.
 *  @throws MoraineError as `pathOf`; `missing` or `invalid` where the format or the name asks for what is not there. */
export function pathOfNew(name: string, format: DiskFormat, persona: Persona): string {
  const place = persona.readName(name)
  const said = place.kind === 'node' && isHostDevice(place.protocol) ? place.protocol : undefined
  const path = said === undefined ? pathOf(name, persona) : name.slice(said.length + 1)
  if (format.name === 'nbd') {
    throw new MoraineError('invalid', `${unopened('nbd')}File name string for NBD must start with 'nbd:'`, {
      path: name,
    })
  }
  if (format.name === 'nvme') {
    throw new MoraineError('invalid', `${unopened('nvme')}${refusalOf('nvme')}`, { path: name })
  }
  const driver = said ?? (isHostDevice(format.name) ? format.name : undefined)
  if (driver === undefined) return path
  const stats = statsOf(path)
  if (stats === undefined) {
    const reason = `${unopened(driver)}Could not open '${path}': No such file or directory`
    throw new MoraineError('missing', reason, { path, code: 'ENOENT' })
  }
  if (!stats.isBlockDevice() && !stats.isCharacterDevice()) {
    throw new MoraineError('invalid', unopened(driver) + notDevice(driver, path), { path })
  }
  return path
}

function isHostDevice(driver: string): boolean {
  return driver === 'host_device' || driver === 'host_cdrom'
}

/** The same error, said of a target that cannot be made. */
export function unopenedTarget(error: unknown, driver: string): unknown {
  if (!isMoraineError(error) || error.kind === 'cancelled') return error
  return new MoraineError(error.kind, unopened(driver) + error.reason, { ...placeOf(error), cause: error })
}

function placeOf({ path, field, value, rule, code, hint }: MoraineError) {
  return { path, field, value, rule, code, hint }
}

function unopened(driver: string): string {
  return `Protocol driver '${driver}' does not support image creation, and opening the image failed: `
}

/** Refuses names of what no image can be made in.
 *  @throws MoraineError as `pathOf` */
export function refuseUncreatable(name: string, persona: Persona): void {
  const place = persona.readName(name)
  if (isExport(name, persona) || (place.kind === 'node' && isHostDevice(place.protocol))) return
  pathOf(name, persona)
}

/** Nothing but a device can be as large as it is: one that counts no bytes takes none.
 *  @throws MoraineError `unsupported` */
export function refuseGrowth(path: string, format: DiskFormat, size: number): void {
  if (!isPlain(format.name) || size === 0) return
  if (statsOf(path)?.isCharacterDevice() !== true) return
  throw new MoraineError('unsupported', 'Cannot grow device files', {
    path,
    field: 'size',
    value: size,
    rule: 'at most 0 bytes',
  })
}
