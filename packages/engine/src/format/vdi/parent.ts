/** Finding the parent of a differencing VDI. The image names it by UUID alone; VirtualBox knows the files of a machine from its media registry,
 *  and calls a file in the folder of snapshots by its UUID. Images made here say the name in their comment. All ways are tried, each through the gate. */
import { type Disk, isMoraineError } from '../../core/index.ts'
import type { OpenContext } from '../format.ts'
import { parentHint, type VdiHeader, vdiFault } from './layout.ts'

/** What identifies the parent of an image. */
export interface ParentIdentity {
  /** UUID of the image. */
  image: string
  /** UUID of its last change. */
  modification: string
}

/** The largest registry that is read, in bytes. */
const mostRegistryBytes = 4 * 1024 * 1024

/** The name that VirtualBox gives a file in the folder of snapshots. */
export function parentName(uuid: string): string {
  return `{${uuid}}.vdi`
}

/** Opens the parent that `header` names.
 *  @param identityOf tells what a VDI is; undefined for a disk of another format, which is believed when the registry names it.
 *  @throws MoraineError `missing` when no file is found, `invalid` when what is found is another disk or was changed since. */
export async function openParent(
  path: string,
  header: VdiHeader,
  context: OpenContext,
  identityOf: (disk: Disk) => ParentIdentity | undefined,
): Promise<Disk> {
  const tried: string[] = []
  const own = parentName(header.uuidLink)
  const hint = parentHint(header)
  const disk =
    (hint === undefined ? undefined : await tryOpen(hint, context, tried)) ??
    (await tryOpen(own, context, tried)) ??
    (await openRegistered(path, header.uuidLink, context, tried))
  if (disk === undefined) {
    throw vdiFault(path, 'missing', `the parent with the UUID {${header.uuidLink}} was not found`, {
      field: 'uuid_link',
      value: header.uuidLink,
      rule: 'a file of this name beside the image, or one in the registry of its machine (.vbox)',
      hint: `looked for ${tried.join(', ')}`,
    })
  }
  try {
    checkIdentity(path, header, disk, identityOf(disk), context)
  } catch (error) {
    await disk.close()
    throw error
  }
  return disk
}

async function tryOpen(name: string, context: OpenContext, tried: string[]): Promise<Disk | undefined> {
  tried.push(name)
  try {
    return await context.openParent({ name, role: 'parent' })
  } catch (error) {
    // Of a file that is there, something under it may be missing: that is the caller's to know.
    if (isMoraineError(error, 'missing') && error.path?.endsWith(name) === true) return undefined
    throw error
  }
}

function checkIdentity(
  path: string,
  header: VdiHeader,
  disk: Disk,
  identity: ParentIdentity | undefined,
  context: OpenContext,
): void {
  if (identity === undefined) {
    context.warn(
      `${path}: the parent ${disk.name} is no VDI image; that it is the right one cannot be checked`,
      'advice',
    )
    return
  }
  const { uuidLink, uuidParentModification } = header
  if (identity.image !== uuidLink) {
    throw vdiFault(path, 'invalid', `${disk.name} is not the parent of this image`, {
      field: 'uuid_link',
      value: identity.image,
      rule: `the image {${uuidLink}}`,
    })
  }
  if (identity.modification !== uuidParentModification) {
    throw vdiFault(path, 'invalid', `the parent ${disk.name} was changed since this image was made over it`, {
      field: 'uuid_parent_modification',
      value: identity.modification,
      rule: `the state {${uuidParentModification}}`,
    })
  }
}

/** The parent as the registry of the machine names it: `VM/VM.vbox`, for an image in `VM/` or `VM/Snapshots/`. */
async function openRegistered(
  path: string,
  uuid: string,
  context: OpenContext,
  tried: string[],
): Promise<Disk | undefined> {
  const folders = path.split('/').slice(0, -1)
  for (const up of [1, 0]) {
    const machine = folders[folders.length - 1 - up]
    if (machine === undefined || machine === '' || machine === '.' || machine === '..') continue
    const prefix = '../'.repeat(up)
    const registry = `${prefix}${machine}.vbox`
    tried.push(registry)
    const text = await readRegistry(path, registry, context)
    const location = text === undefined ? undefined : locationOf(text, uuid)
    if (location === undefined) continue
    const found = await tryOpen(location.startsWith('/') ? location : prefix + location, context, tried)
    if (found !== undefined) return found
  }
  return undefined
}

async function readRegistry(from: string, name: string, context: OpenContext): Promise<string | undefined> {
  try {
    const file = await context.gate.open({ from, name, role: 'parent', mode: 'read' })
    try {
      const bytes = new Uint8Array(Math.min(file.size, mostRegistryBytes))
      await file.read(0, bytes)
      return new TextDecoder().decode(bytes)
    } finally {
      await file.close()
    }
  } catch (error) {
    if (isMoraineError(error, 'missing') || isMoraineError(error, 'denied')) return undefined
    throw error
  }
}

/** Where a registry says that the disk with a UUID lies: relative to the machine's folder, or from the root. */
export function locationOf(registry: string, uuid: string): string | undefined {
  for (const [element] of registry.matchAll(/<HardDisk\s[^<>]{0,8192}>/g)) {
    const attributes = new Map(
      [...element.matchAll(/\b([A-Za-z]+)="([^"]*)"/g)].map(([, name, value]) => [name, value] as const),
    )
    if (attributes.get('uuid')?.toLowerCase() !== `{${uuid}}`) continue
    return plainText(attributes.get('location') ?? '').replaceAll('\\', '/')
  }
  return undefined
}

const entities: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }

function plainText(text: string): string {
  return text.replace(/&(amp|lt|gt|quot|apos);/g, (_whole, name: string) => entities[name] ?? '')
}
