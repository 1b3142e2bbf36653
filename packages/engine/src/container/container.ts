/** The contract of a container: what holds files and disks under names (an appliance, an archive, a volume). A plain value in a list that the caller passes; nothing registers
 *  itself. */

import type { XmlParser } from '../codec/xml/document.ts'
import { type ByteSource, closedGate, defaultLimits, type Gate, type Limits, MoraineError } from '../core/index.ts'
import type { ProbeVerdict, ProbeWindow } from '../format/format.ts'
import { readProbeWindow } from '../format/open-disk.ts'
import type { UnwrapOptions } from './wrapper/open-wrapped.ts'

/** What a member is. A `disk` is meant where a disk is asked for and no name is given. */
export type MemberKind = 'disk' | 'file' | 'folder' | 'link' | 'other'

/** One thing in a container. */
export interface ContainerMember {
  /** Its name in the container; folders are parted by `/`, without one at the beginning or end. It is a stranger's: never open a file of the host by it. */
  readonly name: string
  /** Shorter names that mean it too: `disk1`. A name of another member comes first. */
  readonly aliases?: readonly string[] | undefined
  readonly kind: MemberKind
  /** Bytes as they are read; undefined where that takes reading all of it. */
  readonly size: number | undefined
}

/** A container opened for reading. */
export interface Container {
  /** The name of its format. */
  readonly format: string
  /** What holds it. */
  readonly source: ByteSource
  /** Everything in it, in its own order.
   *  @throws MoraineError `corrupt`, `limit`. */
  members(signal?: AbortSignal): AsyncIterable<ContainerMember>
  /** The member of a name or an alias, where that is cheaper than going through all; undefined where there is none. */
  find?(name: string, signal?: AbortSignal): Promise<ContainerMember | undefined>
  /** The bytes of a member, in place where they lie in one piece or in known pieces. What is opened borrows the container: close it first, then the container.
   *  @throws MoraineError `unsupported` for a member that has none; `corrupt`; `missing`; `denied` by the gate. */
  open(member: ContainerMember, signal?: AbortSignal): Promise<ByteSource>
  /** Closes the source too. */
  close(): Promise<void>
}

/** How containers are opened. */
export interface ContainerOptions extends UnwrapOptions {
  /** Opens the files that the container names beside itself (the disks of an OVF descriptor), with role `extent`. Default: none. */
  gate?: Gate | undefined
  /** Reads XML where a container needs it. */
  xml?: XmlParser | undefined
  /** Something is odd and was dealt with. */
  warn?: ((message: string) => void) | undefined
}

/** The same with defaults filled in. */
export interface ContainerContext extends ContainerOptions {
  readonly gate: Gate
  readonly limits: Limits
  warn(message: string): void
}

/** A kind of container. */
export interface ContainerFormat {
  readonly name: string
  readonly aliases: readonly string[]
  readonly extensions: readonly string[]
  /** Whether the disk in it is meant where a disk is asked for and no member is named. A volume is an image itself: its files are reached by name only. */
  readonly holdsDisks: boolean
  /** Looks at the first bytes (and the last ones, where they can be had); never throws. Undefined: not this kind. */
  probe(window: ProbeWindow): ProbeVerdict | undefined
  /** Opens one. It owns `source` from then on; when this fails, the caller closes it. */
  open(source: ByteSource, context: ContainerContext): Promise<Container>
}

/** The kind of container that recognises a source best; undefined where none does. */
export async function probeContainer(
  source: ByteSource,
  formats: readonly ContainerFormat[],
): Promise<ContainerFormat | undefined> {
  const window = await readProbeWindow(source)
  let best: { format: ContainerFormat; score: number } | undefined
  for (const format of formats) {
    const score = format.probe(window)?.score ?? 0
    if (score > (best?.score ?? 0)) best = { format, score }
  }
  return best?.format
}

/** Opens the container in a source, which belongs to it from then on, also when this fails; undefined, with the source left open, where no format recognises it.
 *  @throws MoraineError whatever the format says. */
export async function openContainer(
  source: ByteSource,
  formats: readonly ContainerFormat[],
  options: ContainerOptions = {},
): Promise<Container | undefined> {
  try {
    const format = await probeContainer(source, formats)
    if (format === undefined) return undefined
    return await format.open(source, {
      ...options,
      gate: options.gate ?? closedGate,
      limits: { ...defaultLimits, ...options.limits },
      warn: options.warn ?? (() => {}),
    })
  } catch (error) {
    await source.close()
    throw error
  }
}

/** A member's name as it is compared: no `./` or `/` before it, no `/` behind it. */
export function plainMemberName(name: string): string {
  return name.replace(/^(?:\.?\/+)+/, '').replace(/\/+$/, '')
}

const mostListed = 20

/** The member of that name or alias; without a name the only disk, or else the only file.
 *  @throws MoraineError `missing`; `invalid` where none or several could be meant, with their names. */
export async function chooseMember(
  container: Container,
  name: string | undefined,
  signal?: AbortSignal,
): Promise<ContainerMember> {
  const place = { path: container.source.name, field: 'member' }
  if (name !== undefined) {
    const found = await findMember(container, plainMemberName(name), signal)
    if (found !== undefined) return found
    const listed = await listMembers(container, signal)
    const hint = `It has ${namesOf(listed) || 'none'}.`
    throw new MoraineError('missing', `the ${container.format} has no member '${name}'`, { ...place, hint })
  }
  const listed = await listMembers(container, signal)
  const disks = listed.filter(({ kind }) => kind === 'disk')
  const choices = disks.length > 0 ? disks : listed.filter(({ kind }) => kind === 'file')
  const [only] = choices
  if (only === undefined) throw new MoraineError('invalid', `the ${container.format} holds no disk`, place)
  if (choices.length === 1) return only
  const what = disks.length > 0 ? 'disks' : 'files'
  throw new MoraineError(
    'invalid',
    `the ${container.format} holds ${choices.length} ${what}, of which one must be named`,
    {
      ...place,
      hint: `It has ${namesOf(choices)}. Name one as FILE#MEMBER.`,
    },
  )
}

/** The member of a name, or of an alias; undefined where there is none. */
export async function findMember(
  container: Container,
  name: string,
  signal?: AbortSignal,
): Promise<ContainerMember | undefined> {
  if (container.find !== undefined) return await container.find(name, signal)
  let byAlias: ContainerMember | undefined
  for await (const member of container.members(signal)) {
    if (member.name === name) return member
    if (byAlias === undefined && member.aliases?.includes(name) === true) byAlias = member
  }
  return byAlias
}

async function listMembers(container: Container, signal: AbortSignal | undefined): Promise<ContainerMember[]> {
  const listed: ContainerMember[] = []
  for await (const member of container.members(signal)) listed.push(member)
  return listed
}

function namesOf(members: readonly ContainerMember[]): string {
  const names = members.slice(0, mostListed).map(({ name, aliases = [] }) => {
    const short = aliases[0] === undefined ? '' : ` (${aliases[0]})`
    return `'${name}'${short}`
  })
  return `${names.join(', ')}${members.length > names.length ? ', …' : ''}`
}
