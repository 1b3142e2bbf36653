/** The disk that a new differencing image shall stand over: opened where the caller has not, of the same format, and where it lies. */
import { type Disk, MoraineError } from '../core/index.ts'
import type { CreateTarget, NewBacking } from './format.ts'

/** Runs `use` with the parent opened; what was opened here is closed again.
 *  @param format the new image's format, for messages.
 *  @throws MoraineError `unsupported` when there is nobody to open it, and what opening says. */
export async function withParentDisk<T>(
  format: string,
  target: CreateTarget,
  backing: NewBacking,
  use: (disk: Disk) => T,
): Promise<T> {
  const opened = backing.disk === undefined ? await target.openParent?.(backing) : undefined
  const disk = backing.disk ?? opened
  try {
    if (disk !== undefined) return use(disk)
    throw new MoraineError('unsupported', 'the parent must be opened for its identity to be recorded', {
      path: target.store.name,
      format,
      field: 'backing_file',
      value: backing.name,
    })
  } finally {
    await opened?.close()
  }
}

/** The error for a parent that no image of the format can stand over. */
export function unfitParent(format: string, name: string, found: string, rule: string): MoraineError {
  return new MoraineError('unsupported', `'${name}' cannot be the parent of a ${format.toUpperCase()} image`, {
    format,
    field: 'parent',
    value: found,
    rule,
  })
}

/** The parent as seen from the new image's folder, and from the root; undefined where it is not known. With slashes. */
export function parentPlaces({ name, place }: NewBacking): {
  relative: string | undefined
  absolute: string | undefined
} {
  const slashed = name.replaceAll('\\', '/')
  const isAbsolute = /^(\/|[A-Za-z]:)/.test(slashed)
  return {
    relative: place?.relative.replaceAll('\\', '/') ?? (isAbsolute ? undefined : slashed),
    absolute: place?.absolute.replaceAll('\\', '/') ?? (isAbsolute ? slashed : undefined),
  }
}
