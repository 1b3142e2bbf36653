/** Opens packages: the descriptor is read at once, files when they are asked for. */
import { type ByteSource, isMoraineError, MoraineError } from '../../core/index.ts'
import { sliceSource } from '../../source/index.ts'
import { joinedSource } from '../../source/joined.ts'
import { type Container, type ContainerContext, type ContainerMember, plainMemberName } from '../container.ts'
import { unwrapSource } from '../wrapper/open-wrapped.ts'
import { type Envelope, readEnvelope } from './envelope.ts'
import { filesBeside, filesOfArchive, type PackageFiles } from './files.ts'
import { diskAliases, type Machine, readMachines } from './machine.ts'
import { type Manifest, type ManifestSignature, readManifest, readSignature } from './manifest.ts'
import { type OvfFile, packageName } from './references.ts'

const mostChunks = 100_000

/** An appliance: a container whose descriptor is known. */
export interface OvfPackage extends Container {
  readonly format: 'ova' | 'ovf'
  readonly envelope: Envelope
  readonly files: PackageFiles
  /** @throws MoraineError `invalid` for amounts that are none. */
  machines(): Machine[]
  /** The bytes of a file as it is stored: chunks in a row, nothing unpacked.
   *  @throws MoraineError `missing`, `corrupt`, `denied`. */
  openStored(file: OvfFile): Promise<ByteSource>
  /** @throws MoraineError `invalid`. */
  manifest(signal?: AbortSignal): Promise<Manifest | undefined>
  /** The signature of the manifest.
   *  @throws MoraineError `invalid`. */
  signature(signal?: AbortSignal): Promise<ManifestSignature | undefined>
}

/** Opens an OVA.
 *  @throws MoraineError as `filesOfArchive` and `readEnvelope`. */
export async function openOva(source: ByteSource, context: ContainerContext): Promise<OvfPackage> {
  const files = await filesOfArchive(source, context.signal)
  const envelope = await readEnvelope(await files.open(files.descriptor), context)
  return new OpenPackage('ova', source, envelope, files, context)
}

/** Opens a descriptor with its files beside it, through the gate.
 *  @throws MoraineError as `readEnvelope`. */
export async function openOvf(source: ByteSource, context: ContainerContext): Promise<OvfPackage> {
  return new OpenPackage('ovf', source, await readEnvelope(source, context), filesBeside(source, context.gate), context)
}

/** The number behind a chunk's name. Facts: DSP0243 2.1, section 7.1: nine decimal digits. */
export function chunkName(name: string, index: number): string {
  return `${name}.${String(index).padStart(9, '0')}`
}

class OpenPackage implements OvfPackage {
  readonly format: 'ova' | 'ovf'
  readonly source: ByteSource
  readonly envelope: Envelope
  readonly files: PackageFiles
  readonly #context: ContainerContext
  readonly #members = new Map<ContainerMember, OvfFile | undefined>()
  readonly #byAlias = new Map<string, ContainerMember>()

  constructor(
    format: 'ova' | 'ovf',
    source: ByteSource,
    envelope: Envelope,
    files: PackageFiles,
    context: ContainerContext,
  ) {
    this.format = format
    this.source = source
    this.envelope = envelope
    this.files = files
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
    if (file === undefined) return await this.#openListed(member.name)
    const stored = await this.openStored(file)
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

  async openStored(file: OvfFile): Promise<ByteSource> {
    const name = packageName(file.href, this.source.name)
    const stored =
      file.chunkSize === undefined ? await this.files.open(name) : await this.#openChunks(name, file, file.chunkSize)
    if (file.size === undefined || file.size === stored.size) return stored
    await stored.close()
    throw new MoraineError('corrupt', `the file '${name}' is not as large as the descriptor says`, {
      path: this.source.name,
      field: 'size',
      value: stored.size,
      rule: `${file.size}`,
    })
  }

  machines(): Machine[] {
    return readMachines(this.envelope, this.source.name)
  }

  async manifest(signal?: AbortSignal): Promise<Manifest | undefined> {
    const found = await this.#besides('mf', signal)
    return found === undefined ? undefined : readManifest(found.bytes, found.name, this.source.name)
  }

  async signature(signal?: AbortSignal): Promise<ManifestSignature | undefined> {
    const found = await this.#besides('cert', signal)
    return found === undefined ? undefined : readSignature(found.bytes, found.name, this.source.name)
  }

  close(): Promise<void> {
    return this.source.close()
  }

  /** The file of that extension: that of the descriptor's own name before any other. */
  async #besides(
    extension: string,
    signal: AbortSignal | undefined,
  ): Promise<{ name: string; bytes: Uint8Array } | undefined> {
    const own = this.files.descriptor.replace(/\.[^.]*$/, `.${extension}`)
    const other = this.files.listed.find(
      ({ name, kind }) => kind === 'file' && name.toLowerCase().endsWith(`.${extension}`),
    )?.name
    for (const name of other === undefined || other === own ? [own] : [own, other]) {
      let source: ByteSource
      try {
        source = await this.files.open(name)
      } catch (error) {
        if (isMoraineError(error, 'missing')) continue
        throw error
      }
      try {
        const most = this.#context.limits.tableBytes
        if (source.size > most)
          throw new MoraineError('limit', `the file '${name}' is too large`, {
            path: this.source.name,
            field: 'size',
            value: source.size,
            rule: `at most ${most}`,
          })
        const bytes = new Uint8Array(source.size)
        await source.read(0, bytes, signal)
        return { name, bytes }
      } finally {
        await source.close()
      }
    }
    return undefined
  }

  #list(): void {
    const { files, disks } = this.envelope
    const short = diskAliases(this.envelope)
    const aliases = new Map<string, string[]>()
    for (const { fileRef, id } of disks) {
      const alias = short.get(id)
      if (fileRef !== undefined && alias !== undefined)
        aliases.set(fileRef, [...(aliases.get(fileRef) ?? []), alias, id])
    }
    // Two references may name one file.
    const byName = new Map<string, { file: OvfFile; aliases: string[]; isDisk: boolean }>()
    for (const file of files) {
      const own = aliases.get(file.id)
      const found = byName.get(plainMemberName(file.href))
      if (found === undefined)
        byName.set(plainMemberName(file.href), { file, aliases: [...(own ?? [])], isDisk: own !== undefined })
      else if (own !== undefined) {
        found.aliases.push(...own)
        found.isDisk = true
      }
    }
    for (const [name, found] of byName) {
      const size = found.file.compression === 'identity' ? found.file.size : undefined
      const member: ContainerMember = { name, aliases: found.aliases, kind: found.isDisk ? 'disk' : 'file', size }
      this.#members.set(member, found.file)
      for (const alias of found.aliases) if (!this.#byAlias.has(alias)) this.#byAlias.set(alias, member)
    }
    for (const { name, size, kind } of this.files.listed) {
      if (!byName.has(name) && !this.#isChunk(name)) this.#members.set({ name, kind, size }, undefined)
    }
  }

  /** A file that the descriptor does not name. The descriptor itself is lent out. */
  async #openListed(name: string): Promise<ByteSource> {
    if (this.format === 'ovf' && name === this.files.descriptor) return sliceSource(this.source, 0, this.source.size)
    return await this.files.open(name)
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
        const part = await this.#openChunk(name, index, file)
        if (part === undefined) break
        parts.push(part)
        const last = file.size === undefined ? part.size < chunkSize : index === count - 1
        const wanted = file.size === undefined || !last ? chunkSize : file.size - chunkSize * index
        if (last && file.size === undefined ? part.size > wanted : part.size !== wanted)
          throw refuse(part.size, `${wanted}`)
        if (last) break
      }
      return joinedSource(`${this.source.name}#${name}`, parts)
    } catch (error) {
      for (const part of parts) await part.close()
      throw error
    }
  }

  /** One chunk; undefined behind the last one of a file whose size is not said. */
  async #openChunk(name: string, index: number, file: OvfFile): Promise<ByteSource | undefined> {
    try {
      return await this.files.open(chunkName(name, index))
    } catch (error) {
      if (!isMoraineError(error, 'missing')) throw error
      if (file.size === undefined && index > 0) return undefined
      // VMware writes a chunk size of a file that was small enough to stay whole.
      if (index === 0 && file.size !== undefined && file.size <= (file.chunkSize ?? 0))
        return await this.files.open(name)
      throw error
    }
  }
}
