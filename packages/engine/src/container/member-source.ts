/** A member of a container as a source of its own, which keeps the container open as long as it is. */
import { type ByteSource, type Extent, type Gate, MoraineError } from '../core/index.ts'
import { type Container, type ContainerMember, chooseMember, findMember, plainMemberName } from './container.ts'

/** Where a source lies: in which container, under which name. */
export interface MemberFacts {
  /** The format of the container. */
  container: string
  member: string
  /** The shortest name that means it. */
  alias: string | undefined
}

/** Opens the member of that name (see `chooseMember`). The result is named `CONTAINER#MEMBER` and closes the container with it; so does a failure.
 *  @throws MoraineError as `chooseMember` and `Container.open`. */
export async function openMember(
  container: Container,
  name: string | undefined,
  signal?: AbortSignal,
): Promise<ByteSource> {
  try {
    const member = await chooseMember(container, name, signal)
    return new MemberSource(container, member, await container.open(member, signal))
  } catch (error) {
    await container.close()
    throw error
  }
}

class MemberSource implements ByteSource {
  readonly name: string
  readonly memberFacts: MemberFacts
  readonly container: Container
  readonly #bytes: ByteSource

  constructor(container: Container, member: ContainerMember, bytes: ByteSource) {
    this.container = container
    this.name = `${container.source.name}#${member.name}`
    this.memberFacts = { container: container.format, member: member.name, alias: member.aliases?.[0] }
    this.#bytes = bytes
  }

  /** What it is made of, for those who ask what stands around an image. */
  get around(): ByteSource {
    return this.#bytes
  }

  get size(): number {
    return this.#bytes.size
  }

  get identity(): string | undefined {
    return this.#bytes.identity
  }

  get descriptor(): number | undefined {
    return this.#bytes.descriptor
  }

  get sequential(): boolean | undefined {
    return this.#bytes.sequential
  }

  read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    return this.#bytes.read(offset, into, signal)
  }

  extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    return this.#bytes.extents(offset, length, signal)
  }

  async allocatedSize(): Promise<number> {
    return this.#bytes.allocatedSize?.() ?? this.#bytes.size
  }

  async close(): Promise<void> {
    try {
      await this.#bytes.close()
    } finally {
      await this.container.close()
    }
  }
}

function memberSourceOf(source: ByteSource): MemberSource | undefined {
  for (let at: ByteSource | undefined = source; at !== undefined; ) {
    if (at instanceof MemberSource) return at
    at = 'around' in at ? (at.around as ByteSource | undefined) : undefined
  }
  return undefined
}

/** The container that a source lies in, also where it is packed within that; undefined for one that lies in none. */
export function memberOf(source: ByteSource): MemberFacts | undefined {
  return memberSourceOf(source)?.memberFacts
}

/** The gate for an image that is a member: what it names are other members, never files of the host. Undefined for a source that lies in no container.
 *  Names are taken as they stand, or relative to the folder of the image. */
export function memberGate(source: ByteSource): Gate | undefined {
  const within = memberSourceOf(source)
  if (within === undefined) return undefined
  const { container } = within
  const prefix = `${container.source.name}#`
  const resolve: Gate['resolve'] = ({ from, name }) => {
    const folder = from.startsWith(prefix) ? from.slice(prefix.length, from.lastIndexOf('/') + 1) : ''
    return `${prefix}${folder}${name}`
  }
  return {
    resolve,
    async open({ from, name, role, mode }) {
      const place = { path: from, field: role, value: name }
      if (mode === 'write') throw new MoraineError('denied', 'a member of a container cannot be written', place)
      const wanted = plainMemberName(resolve({ from, name }).slice(prefix.length))
      const member = (await findMember(container, wanted)) ?? (await findMember(container, plainMemberName(name)))
      if (member === undefined) {
        throw new MoraineError(
          'denied',
          `the image names another file, '${name}', which the ${container.format} does not hold`,
          {
            ...place,
            rule: 'a member of the container',
          },
        )
      }
      return await named(`${prefix}${member.name}`, await container.open(member))
    },
  }
}

/** The same bytes under the name by which the member is known. */
async function named(name: string, bytes: ByteSource): Promise<ByteSource> {
  return {
    name,
    size: bytes.size,
    identity: bytes.identity,
    descriptor: bytes.descriptor,
    sequential: bytes.sequential,
    read: (offset, into, signal) => bytes.read(offset, into, signal),
    extents: (offset, length, signal) => bytes.extents(offset, length, signal),
    close: () => bytes.close(),
  }
}
