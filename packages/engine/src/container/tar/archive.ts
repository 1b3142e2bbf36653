/** A tar archive opened: its members are known, and what they hold is read where it lies. */
import { type ByteSource, MoraineError } from '../../core/index.ts'
import type { Container, ContainerMember, MemberKind } from '../container.ts'
import { plainMemberName } from '../container.ts'
import { tarMemberBytes } from './member-bytes.ts'
import { readTarMembers, type TarEnd, type TarMember } from './read-members.ts'

/** What a member of an archive of any kind is held for by its name. */
const diskNames = /\.(img|raw|qcow2?|qed|vmdk|vdi|vhdx?|vpc|hdd|hds|dmg|iso)(\.(gz|xz|bz2|zst|lz4))?$/i

/** The directory of an archive. */
export class TarArchive {
  readonly source: ByteSource
  readonly members: readonly TarMember[]
  readonly end: TarEnd

  private constructor(source: ByteSource, members: readonly TarMember[], end: TarEnd) {
    this.source = source
    this.members = members
    this.end = end
  }

  /** Reads the headers of all members.
   *  @throws MoraineError as `readTarMembers`. */
  static async open(source: ByteSource, signal?: AbortSignal): Promise<TarArchive> {
    const members: TarMember[] = []
    const walk = readTarMembers(source, signal)
    for (;;) {
      const step = await walk.next()
      if (step.done === true) return new TarArchive(source, members, step.value)
      members.push(step.value)
    }
  }

  /** The bytes of a file, which borrow the archive.
   *  @throws MoraineError `unsupported` for what is no file. */
  bytes(member: TarMember): ByteSource {
    if (member.type === 'file') return tarMemberBytes(this.source, member)
    throw new MoraineError('unsupported', `the member '${member.name}' is a ${member.type}, not a file`, {
      path: this.source.name,
      field: 'member',
      value: member.name,
    })
  }
}

const kinds: Readonly<Partial<Record<TarMember['type'], MemberKind>>> = {
  file: 'file',
  folder: 'folder',
  symlink: 'link',
  hardlink: 'link',
}

/** Opens a tar as a container of files; those that are images by their name are disks.
 *  @throws MoraineError as `readTarMembers`. */
export async function openTar(source: ByteSource, signal?: AbortSignal): Promise<Container> {
  const archive = await TarArchive.open(source, signal)
  const places = new Map<ContainerMember, TarMember>()
  let disks = 0
  const listed = archive.members.map((member): ContainerMember => {
    const name = plainMemberName(member.name)
    const isDisk = member.type === 'file' && diskNames.test(name)
    if (isDisk) disks++
    const found: ContainerMember = {
      name,
      aliases: isDisk ? [`disk${disks}`] : undefined,
      kind: isDisk ? 'disk' : (kinds[member.type] ?? 'other'),
      size: member.type === 'file' ? member.size : 0,
    }
    places.set(found, member)
    return found
  })
  return {
    format: 'tar',
    source,
    async *members() {
      yield* listed
    },
    async find(name) {
      const same = listed.filter((member) => member.name === name)
      if (same.length > 1) {
        throw new MoraineError('invalid', `the tar has ${same.length} members of the name '${name}'`, {
          path: source.name,
          field: 'member',
          value: name,
          rule: 'each name once',
        })
      }
      return same[0] ?? listed.find(({ aliases }) => aliases?.includes(name))
    },
    async open(member) {
      const place = places.get(member)
      if (place === undefined)
        throw new MoraineError('invalid', 'the member is of another container', { path: source.name })
      return archive.bytes(place)
    },
    close: () => source.close(),
  }
}
