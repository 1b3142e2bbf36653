/** Opens packages: the descriptor is read at once, files when they are asked for. */
import { type ByteSource, isMoraineError, MoraineError } from '../../core/index.ts'
import { joinedSource } from '../../source/joined.ts'
import type { Container, ContainerContext, ContainerMember } from '../container.ts'
import { plainMemberName } from '../container.ts'
import { TarArchive } from '../tar/archive.ts'
import type { TarMember } from '../tar/read-members.ts'
import { unwrapSource } from '../wrapper/open-wrapped.ts'
import { type Envelope, readEnvelope } from './envelope.ts'
import { type OvfFile, packageName } from './references.ts'

/** The files of a package by name. */
interface PackageFiles {
  /** All that can be listed without being named by the descriptor. */
  readonly listed: readonly { name: string; size: number; kind: ContainerMember['kind'] }[]
  /** @throws MoraineError `missing`. */
  open(name: string): Promise<ByteSource>
}

const mostChunks = 100_000

/** Opens an OVA.
 *  @throws MoraineError as `readTarMembers` and `readEnvelope`; `invalid` without a descriptor, or with names twice. */
export async function openOva(source: ByteSource, context: ContainerContext): Promise<Container> {
  const archive = await TarArchive.open(source, context.signal)
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
  const descriptor = archive.members.find(({ name, type }) => type === 'file' && /\.ovf$/i.test(name))
  if (descriptor === undefined)
    throw new MoraineError('invalid', 'the OVA has no descriptor', {
      path: source.name,
      field: 'member',
      rule: 'a name that ends in .ovf',
    })
  const envelope = await readEnvelope(archive.bytes(descriptor), context)
  const files: PackageFiles = {
    listed: [...byName].map(([name, member]) => ({
      name,
      size: member.type === 'file' ? member.size : 0,
      kind: member.type === 'file' ? 'file' : 'other',
    })),
    async open(name) {
      const member = byName.get(name)
      if (member === undefined) throw missing(source.name, name)
      return archive.bytes(member)
    },
  }
  return new OvfPackage('ova', source, envelope, files, context)
}

/** Opens a descriptor with its files beside it, through the gate.
 *  @throws MoraineError as `readEnvelope`. */
export async function openOvf(source: ByteSource, context: ContainerContext): Promise<Container> {
  const envelope = await readEnvelope(source, context)
  const own = source.name.slice(source.name.lastIndexOf('/') + 1)
  const files: PackageFiles = {
    listed: [{ name: own, size: source.size, kind: 'file' }],
    async open(name) {
      try {
        return await context.gate.open({ from: source.name, name: `./${name}`, role: 'extent', mode: 'read' })
      } catch (error) {
        throw isMoraineError(error, 'missing') ? missing(source.name, name, error) : error
      }
    },
  }
  return new OvfPackage('ovf', source, envelope, files, context)
}

function missing(path: string, name: string, cause?: unknown): MoraineError {
  return new MoraineError('missing', `the package has no file '${name}', which its descriptor names`, {
    path,
    field: 'href',
    value: name,
    cause,
  })
}

class OvfPackage implements Container {
  readonly format: string
  readonly source: ByteSource
  readonly envelope: Envelope
  readonly #files: PackageFiles
  readonly #context: ContainerContext
  readonly #members = new Map<ContainerMember, OvfFile | undefined>()
  readonly #byAlias = new Map<string, ContainerMember>()

  constructor(format: string, source: ByteSource, envelope: Envelope, files: PackageFiles, context: ContainerContext) {
    this.format = format
    this.source = source
    this.envelope = envelope
    this.#files = files
    this.#context = context
    this.#list()
  }

  async *members(): AsyncIterable<ContainerMember> {
    yield* this.#members.keys()
  }

  async find(name: string): Promise<ContainerMember | undefined> {
    for (const member of this.#members.keys()) if (member.name === name) return member
    return this.#byAlias.get(name)
  }

  async open(member: ContainerMember): Promise<ByteSource> {
    if (!this.#members.has(member))
      throw new MoraineError('invalid', 'the member is of another container', { path: this.source.name })
    const file = this.#members.get(member)
    if (file === undefined) return await this.#files.open(member.name)
    const stored =
      file.chunkSize === undefined
        ? await this.#files.open(member.name)
        : await this.#openChunks(member.name, file, file.chunkSize)
    if (file.size !== undefined && file.size !== stored.size) {
      await stored.close()
      throw new MoraineError('corrupt', `the file '${member.name}' is not as large as the descriptor says`, {
        path: this.source.name,
        field: 'size',
        value: stored.size,
        rule: `${file.size}`,
      })
    }
    if (file.compression === 'identity') return stored
    if (file.compression === 'gzip' || file.compression === 'bzip2') return await unwrapSource(stored, this.#context)
    await stored.close()
    throw new MoraineError(
      'unsupported',
      `the file '${member.name}' is compressed by a method that is not known here`,
      {
        path: this.source.name,
        field: 'compression',
        value: file.compression.slice(0, 80),
        rule: 'identity, gzip or bzip2',
      },
    )
  }

  close(): Promise<void> {
    return this.source.close()
  }

  #list(): void {
    const { files, disks } = this.envelope
    const isDisk = new Map<string, string[]>()
    let count = 0
    for (const { fileRef, id } of disks) {
      if (fileRef === undefined) continue
      count++
      isDisk.set(fileRef, [...(isDisk.get(fileRef) ?? []), `disk${count}`, id])
    }
    const named = new Set<string>()
    for (const file of files) {
      const name = packageName(file.href, this.source.name)
      if (named.has(name)) continue
      named.add(name)
      const aliases = isDisk.get(file.id)
      const plain = file.compression === 'identity'
      const member: ContainerMember = {
        name,
        aliases,
        kind: aliases === undefined ? 'file' : 'disk',
        size: plain ? file.size : undefined,
      }
      this.#members.set(member, file)
      for (const alias of aliases ?? []) if (!this.#byAlias.has(alias)) this.#byAlias.set(alias, member)
    }
    for (const { name, size, kind } of this.#files.listed) {
      if (!named.has(name) && !this.#isChunk(name)) this.#members.set({ name, kind, size }, undefined)
    }
  }

  #isChunk(name: string): boolean {
    const [, whole] = /^(.*)\.[0-9]{9}$/.exec(name) ?? []
    return (
      whole !== undefined &&
      this.envelope.files.some(({ href, chunkSize }) => chunkSize !== undefined && plainMemberName(href) === whole)
    )
  }

  async #openChunks(name: string, file: OvfFile, chunkSize: number): Promise<ByteSource> {
    const refuse = (value: number, rule: string) =>
      new MoraineError('corrupt', `the chunks of '${name}' do not make the file that the descriptor describes`, {
        path: this.source.name,
        field: 'chunk size',
        value,
        rule,
      })
    const count = file.size === undefined ? mostChunks : Math.max(1, Math.ceil(file.size / chunkSize))
    if (count > mostChunks) throw refuse(chunkSize, `at most ${mostChunks} chunks`)
    const parts: ByteSource[] = []
    try {
      for (let index = 0; index < count; index++) {
        let part: ByteSource
        try {
          part = await this.#files.open(`${name}.${String(index).padStart(9, '0')}`)
        } catch (error) {
          if (file.size === undefined && index > 0 && isMoraineError(error, 'missing')) break
          throw error
        }
        parts.push(part)
        const last = file.size === undefined ? part.size < chunkSize : index === count - 1
        const wanted = file.size === undefined || !last ? chunkSize : file.size - chunkSize * index
        if (last ? part.size > wanted : part.size !== wanted) throw refuse(part.size, `${wanted}`)
        if (last) break
      }
      return joinedSource(`${this.source.name}#${name}`, parts)
    } catch (error) {
      for (const part of parts) await part.close()
      throw error
    }
  }
}
