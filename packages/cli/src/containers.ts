/** Reaches into containers: `FILE#MEMBER`, also one within another. Loaded when something may be one. */
import {
  allContainers,
  allFormats,
  type ByteSource,
  type Container,
  findMember,
  type Gate,
  isoContainer,
  MoraineError,
  openContainer,
  openMember,
  partitionedDisk,
  plainMemberName,
  xmlParser,
} from '@moraine/engine'
import type { ReachRequest } from './reach.ts'
import type { Context } from './verb.ts'
import { memberBehind, unwrap, unwrapOptions } from './wrappers.ts'

/** XML as the command reads it; the library is loaded with the first document. */
export const readsXml = xmlParser(() => import('saxes'))

const mostLevels = 8

/** Those that the command knows: partitions are reached in a disk of any format. */
const containers = [...allContainers, isoContainer, partitionedDisk(allFormats)]

/** The container in a source, which belongs to it then; undefined, with the source left open, where it is none.
 *  @throws MoraineError as `openContainer`. */
export function openContainerIn(
  context: Context,
  source: ByteSource,
  { gate, named }: { gate: Gate; named: boolean },
): Promise<Container | undefined> {
  const formats = named ? containers : containers.filter(({ holdsDisks }) => holdsDisks)
  return openContainer(source, formats, {
    ...unwrapOptions(context, source.name),
    gate,
    xml: readsXml,
    warn: (message) => context.warn(message),
  })
}

/** As `reach`, for what begins as a container or has a member named. */
export async function reachInto(
  context: Context,
  source: ByteSource,
  { member, writes, gate, onContainer }: ReachRequest,
): Promise<ByteSource> {
  let inner = source
  let path = member
  for (let level = 0; ; level++) {
    const container = await openContainerIn(context, inner, { gate, named: path !== undefined })
    if (container === undefined) {
      if (path === undefined) return inner
      await inner.close()
      throw new MoraineError('invalid', `it is no container and has no member '${path}'`, {
        path: inner.name,
        hint: `Containers are zip, ${[...allContainers, isoContainer].map(({ name }) => name).join(', ')}, and disks with partitions.`,
      })
    }
    try {
      if (path === undefined) onContainer?.(container)
      refuse(container, { writes, level })
    } catch (error) {
      await container.close()
      throw error
    }
    const name: string | undefined = path === undefined ? undefined : await nameIn(container, path, context)
    const opened = await openMember(container, name, context.signal)
    const rest: string | undefined = name === undefined ? undefined : path?.slice(name.length + 1) || undefined
    inner = await unwrap(context, opened, { member: rest, writes })
    path = memberBehind(inner, rest)
  }
}

function refuse({ format, source }: Container, { writes, level }: { writes: boolean; level: number }): void {
  if (writes) {
    throw new MoraineError('unsupported', `it lies in a container (${format}) and cannot be written in place`, {
      path: source.name,
      hint: 'Take it out first. With -f raw the container is taken as it stands.',
    })
  }
  if (level < mostLevels) return
  throw new MoraineError('limit', 'too many containers within one another', {
    path: source.name,
    field: 'containers',
    rule: `at most ${mostLevels}`,
  })
}

/** The part of a path that names a member here: all of it, or what stands before one of its `#`, the longest that fits. */
async function nameIn(container: Container, path: string, { signal }: Context): Promise<string> {
  for (let end = path.length; end > 0; end = path.lastIndexOf('#', end - 1)) {
    const name = path.slice(0, end)
    if ((await findMember(container, plainMemberName(name), signal)) !== undefined) return name
  }
  return path
}
