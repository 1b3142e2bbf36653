/** The files of a package: members of a tar, or what lies beside a descriptor. */
import { type ByteSource, type Gate, isMoraineError, MoraineError } from '../../core/index.ts'
import { type ContainerMember, plainMemberName } from '../container.ts'
import { TarArchive } from '../tar/archive.ts'
import type { TarMember } from '../tar/read-members.ts'

/** The files of a package by name. */
export interface PackageFiles {
  /** All that can be listed without being named by the descriptor, in the order in which they are stored. */
  readonly listed: readonly { name: string; size: number; kind: ContainerMember['kind'] }[]
  /** The name of the descriptor. */
  readonly descriptor: string
  /** The archive that holds them. */
  readonly archive?: TarArchive | undefined
  /** @throws MoraineError `missing`. */
  open(name: string): Promise<ByteSource>
}

/** The error for a file that is not there. */
export function missingFile(path: string, name: string, cause?: unknown): MoraineError {
  return new MoraineError('missing', `the package has no file '${name}'`, { path, field: 'href', value: name, cause })
}

/** The members of an OVA. Names that stand twice are refused.
 *  @throws MoraineError as `TarArchive.open`; `invalid` without a descriptor. */
export async function filesOfArchive(source: ByteSource, signal?: AbortSignal): Promise<PackageFiles> {
  const archive = await TarArchive.open(source, signal)
  const byName = new Map<string, TarMember>()
  for (const member of archive.members) {
    const name = plainMemberName(member.name)
    if (byName.has(name)) {
      throw new MoraineError('invalid', `two members of the OVA are called '${name}'`, {
        path: source.name,
        field: 'member',
        value: name,
        rule: 'each name once',
      })
    }
    byName.set(name, member)
  }
  const descriptor = archive.members.find(
    ({ name, type }) => type === 'file' && /\.ovf$/i.test(name) && !/(?:^|\/)\._/.test(name),
  )
  if (descriptor === undefined) {
    throw new MoraineError('invalid', 'the OVA has no descriptor', {
      path: source.name,
      field: 'member',
      rule: 'a name that ends in .ovf',
    })
  }
  return {
    listed: [...byName].map(([name, { type, size }]) => ({
      name,
      size: type === 'file' ? size : 0,
      kind: type === 'file' ? 'file' : 'other',
    })),
    descriptor: plainMemberName(descriptor.name),
    archive,
    async open(name) {
      const member = byName.get(name) ?? byName.get(decoded(name))
      if (member === undefined) throw missingFile(source.name, name)
      return archive.bytes(member)
    },
  }
}

/** A reference is a URI by the standard, so a blank may stand as `%20`. */
function decoded(name: string): string {
  try {
    return decodeURIComponent(name)
  } catch {
    return name
  }
}

/** What lies beside a descriptor, through the gate. */
export function filesBeside(source: ByteSource, gate: Gate): PackageFiles {
  const descriptor = source.name.slice(source.name.lastIndexOf('/') + 1)
  const attempt = (name: string) => gate.open({ from: source.name, name: `./${name}`, role: 'extent', mode: 'read' })
  return {
    listed: [{ name: descriptor, size: source.size, kind: 'file' }],
    descriptor,
    async open(name) {
      try {
        return await attempt(name)
      } catch (error) {
        if (!isMoraineError(error, 'missing')) throw error
        const other = decoded(name)
        if (other === name || other.includes('..') || other.startsWith('/') || other.includes('\0'))
          throw missingFile(source.name, name, error)
        return await attempt(other)
      }
    },
  }
}
