/** An ISO 9660 volume as a container: its files by their paths. */

import type { Container, ContainerFormat, ContainerMember } from '../../container/container.ts'
import type { ByteSource } from '../../core/index.ts'
import { isMoraineError } from '../../core/index.ts'
import { readIsoVolume } from '../../format/iso/volume.ts'
import type { IsoEntry } from './entry.ts'
import { type IsoFileSystem, openIsoFileSystem } from './file-system.ts'

/** Volumes of ISO 9660. A disc is an image itself: its files are reached by name only. */
export const isoContainer: ContainerFormat = {
  name: 'iso',
  aliases: [],
  extensions: ['iso'],
  holdsDisks: false,
  probe({ head }) {
    const volume = readIsoVolume(head)
    return volume?.primary === undefined ? undefined : { score: 30, evidence: '"CD001" at 32769' }
  },
  async open(source, { limits, warn, signal }) {
    return new IsoContainer(source, await openIsoFileSystem(source, { limits, warn, signal }))
  },
}

interface IsoMember extends ContainerMember {
  readonly entry: IsoEntry
}

const kinds = { file: 'file', directory: 'folder', symlink: 'link' } as const

class IsoContainer implements Container {
  readonly format = 'iso'
  readonly source: ByteSource
  readonly #files: IsoFileSystem

  constructor(source: ByteSource, files: IsoFileSystem) {
    this.source = source
    this.#files = files
  }

  async *members(): AsyncGenerator<IsoMember> {
    for await (const entry of this.#files.walk()) yield memberOf(entry)
  }

  async find(name: string): Promise<IsoMember | undefined> {
    try {
      return memberOf(await this.#files.find(name), name)
    } catch (error) {
      if (isMoraineError(error, 'missing') || isMoraineError(error, 'invalid')) return undefined
      throw error
    }
  }

  async open(member: ContainerMember): Promise<ByteSource> {
    const entry = 'entry' in member ? (member as IsoMember).entry : await this.#files.find(member.name)
    return await this.#files.open(entry)
  }

  async close(): Promise<void> {
    await this.source.close()
  }
}

function memberOf(entry: IsoEntry, name = entry.path.slice(1)): IsoMember {
  const kind = entry.kind in kinds ? kinds[entry.kind as keyof typeof kinds] : 'other'
  return { name, kind, size: entry.packed?.size ?? entry.size, entry }
}
