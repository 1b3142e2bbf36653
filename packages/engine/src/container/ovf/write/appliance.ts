/** New appliances: descriptor, manifest, signature and disks, in one archive or beside one another. Disks come as streams and are never kept. */
import { roundUp } from '../../../bytes/integers.ts'
import {
  type ByteStore,
  type DigestName,
  MoraineError,
  type RunOptions,
  type Signing,
  throwIfCancelled,
} from '../../../core/index.ts'
import type { StreamPlan } from '../../../format/format.ts'
import { tarBlock } from '../../tar/header.ts'
import { tarEndBytes, tarHeader } from '../../tar/write-header.ts'
import { writeManifest, writeSignature } from '../manifest.ts'
import { type DescribedDisk, streamOptimizedUri, writeDescriptor } from './descriptor.ts'
import { layOutMachine, type NewMachine } from './machine-spec.ts'

/** A disk of a new appliance: a streamOptimized VMDK, front to back. */
export interface NewApplianceDisk {
  /** Bytes of the guest's disk. */
  capacity: number
  /** Bytes of it that are in use, where that is known. */
  populated?: number | undefined
  /** The image. It is asked for its chunks once, or twice (`streamAppliance`): its length must be the same then. */
  stream: StreamPlan
}

/** A new appliance. */
export interface NewAppliance {
  machine: NewMachine
  /** What files are called: `BASE.ovf`, `BASE-disk1.vmdk`. ASCII letters, digits, dots, dashes and underscores. */
  base: string
  disks: readonly NewApplianceDisk[]
  digest: DigestName
  signing: Signing
  /** Signs the manifest. */
  signer?: { key: string; passphrase?: string | undefined; certificate: string } | undefined
}

/** Writes a file of a package that is no archive: opened when it is its turn, closed by what opened it. */
export type PackageSink = (name: string) => Promise<{ store: ByteStore; done(): Promise<void> }>

const widestNumber = 10 ** 15
/** Bytes of a signature by the longest curve in use. */
const longestSignature = 144
const gatherBytes = 1024 * 1024

interface Names {
  descriptor: string
  manifest: string
  certificate: string
  disks: readonly string[]
}

function namesOf({ base, disks }: NewAppliance): Names {
  if (!/^[\w][\w.-]{0,79}$/.test(base))
    throw new MoraineError('invalid', 'the files cannot be called so', {
      field: 'base',
      value: base.slice(0, 100),
      rule: 'at most 80 letters, digits, dots, dashes and underscores',
    })
  return {
    descriptor: `${base}.ovf`,
    manifest: `${base}.mf`,
    certificate: `${base}.cert`,
    disks: disks.map((_, index) => `${base}-disk${index + 1}.vmdk`),
  }
}

/** What is known of a disk once it was written. */
interface WrittenDisk {
  size: number
  hex: string
}

class Writing {
  readonly appliance: NewAppliance
  readonly names: Names
  readonly #laid

  constructor(appliance: NewAppliance) {
    this.appliance = appliance
    this.names = namesOf(appliance)
    this.#laid = layOutMachine(appliance.machine, appliance.disks.length)
  }

  descriptor(sizes: readonly number[], length?: number): Uint8Array {
    const { disks } = this.appliance
    const described = disks.map(
      ({ capacity, populated }, index): DescribedDisk => ({
        href: this.names.disks[index] ?? '',
        size: sizes[index] ?? 0,
        capacity,
        populated,
        format: streamOptimizedUri,
      }),
    )
    return writeDescriptor(this.#laid, described, length)
  }

  /** Manifest and signature; both are as long whatever the digests are. */
  papers(descriptor: Uint8Array, disks: readonly Pick<WrittenDisk, 'hex'>[]): { name: string; bytes: Uint8Array }[] {
    const { digest, signing, signer } = this.appliance
    const own = signing.digest(digest)
    own.update(descriptor)
    const entries = [
      { file: this.names.descriptor, digest, hex: own.hex() },
      ...disks.map(({ hex }, index) => ({ file: this.names.disks[index] ?? '', digest, hex })),
    ]
    const encoder = new TextEncoder()
    const manifest = encoder.encode(writeManifest(entries))
    const papers = [{ name: this.names.manifest, bytes: manifest }]
    if (signer === undefined) return papers
    const { key, passphrase, certificate } = signer
    // SHA-1 signatures are refused by today's libraries.
    const by = digest === 'sha1' ? 'sha256' : digest
    const signature = signing.sign(manifest, by, { pem: key, passphrase, certificate })
    const text = writeSignature(this.names.manifest, by, signature, certificate)
    // Signatures by elliptic curves differ in length: the file does not.
    const isRsa = signing.certificates(certificate)[0]?.keyType === 'rsa'
    const filling = isRsa ? '' : '\n'.repeat(2 * Math.max(0, longestSignature - signature.length))
    return [...papers, { name: this.names.certificate, bytes: encoder.encode(text + filling) }]
  }

  /** The chunks of a disk, hashed while they pass. */
  async *disk(index: number, run: RunOptions, done: (disk: WrittenDisk) => void): AsyncGenerator<Uint8Array> {
    const stream = this.appliance.disks[index]?.stream
    const hash = this.appliance.signing.digest(this.appliance.digest)
    let size = 0
    if (stream === undefined) return
    for await (const chunk of stream.chunks(run.signal)) {
      throwIfCancelled(run.signal)
      hash.update(chunk)
      size += chunk.length
      yield chunk
    }
    done({ size, hex: hash.hex() })
  }
}

/** Writes chunks one behind the other, gathered to pieces of a MiB. */
class Gatherer {
  readonly #store: ByteStore
  readonly #held = new Uint8Array(gatherBytes)
  #filled = 0
  #at: number

  constructor(store: ByteStore, at: number) {
    this.#store = store
    this.#at = at
  }

  async put(chunk: Uint8Array): Promise<void> {
    for (let from = 0; from < chunk.length; ) {
      const part = chunk.subarray(from, from + gatherBytes - this.#filled)
      this.#held.set(part, this.#filled)
      this.#filled += part.length
      from += part.length
      if (this.#filled === gatherBytes) await this.end()
    }
  }

  async end(): Promise<void> {
    if (this.#filled === 0) return
    await this.#store.write(this.#at, this.#held.subarray(0, this.#filled))
    this.#at += this.#filled
    this.#filled = 0
  }
}

/** Writes an OVA into an empty file, in one pass: descriptor, manifest, signature, disks. What comes first is written last, when all sizes and digests are known.
 *  @throws MoraineError `invalid` for a machine that cannot be so; what reading, writing and signing throw. */
export async function writeOva(store: ByteStore, appliance: NewAppliance, run: RunOptions = {}): Promise<void> {
  const writing = new Writing(appliance)
  const { disks } = appliance
  const { length } = writing.descriptor(disks.map(() => widestNumber))
  const blank = disks.map(() => ({ hex: '0'.repeat(appliance.signing.digest(appliance.digest).hex().length) }))
  const shapes = [
    { name: writing.names.descriptor, length },
    ...writing.papers(new Uint8Array(0), blank).map(({ name, bytes }) => ({ name, length: bytes.length })),
  ]
  let at = shapes.reduce((sum, shape) => sum + tarBlock + roundUp(shape.length, tarBlock), 0)
  const written: WrittenDisk[] = []
  for (const index of disks.keys()) {
    const gatherer = new Gatherer(store, at + tarBlock)
    for await (const chunk of writing.disk(index, run, (disk) => written.push(disk))) await gatherer.put(chunk)
    await gatherer.end()
    const { size } = written[index] ?? { size: 0 }
    await store.write(at, tarHeader(writing.names.disks[index] ?? '', size))
    at += tarBlock + size
    const padding = roundUp(size, tarBlock) - size
    if (padding > 0) await store.write(at, new Uint8Array(padding))
    at += padding
  }
  await store.write(at, new Uint8Array(tarEndBytes))
  const descriptor = writing.descriptor(
    written.map(({ size }) => size),
    length,
  )
  const papers = [{ name: writing.names.descriptor, bytes: descriptor }, ...writing.papers(descriptor, written)]
  let front = 0
  for (const [index, { name, bytes }] of papers.entries()) {
    const planned = shapes[index]?.length ?? 0
    const taken = roundUp(planned, tarBlock)
    if (bytes.length !== planned) {
      throw new MoraineError('io', `the file '${name}' is not as long as was planned`, {
        field: 'bytes',
        value: bytes.length,
        rule: `${planned}`,
      })
    }
    const padded = new Uint8Array(tarBlock + taken)
    padded.set(tarHeader(name, bytes.length))
    padded.set(bytes, tarBlock)
    await store.write(front, padded)
    front += padded.length
  }
}

/** An OVA front to back, for a pipe: each disk is made twice where its length is not known before, once to measure it. Manifest and signature come last, so that digests need no
 *  third time.
 *  @throws MoraineError as `writeOva`; `io` from the chunks when a disk has another length the second time. */
export async function streamOva(appliance: NewAppliance, run: RunOptions = {}): Promise<StreamPlan> {
  const writing = new Writing(appliance)
  const sizes: number[] = []
  for (const { stream } of appliance.disks) {
    let size = stream.length
    if (size === undefined) {
      size = 0
      for await (const chunk of stream.chunks(run.signal)) size += chunk.length
    }
    sizes.push(size)
  }
  const descriptor = writing.descriptor(sizes)
  const member = function* (name: string, bytes: Uint8Array): Generator<Uint8Array> {
    yield tarHeader(name, bytes.length)
    yield bytes
    yield new Uint8Array(roundUp(bytes.length, tarBlock) - bytes.length)
  }
  const blank = appliance.disks.map(() => ({
    hex: '0'.repeat(appliance.signing.digest(appliance.digest).hex().length),
  }))
  const ends = writing.papers(descriptor, blank)
  const lengths = [descriptor.length, ...sizes, ...ends.map(({ bytes }) => bytes.length)]
  return {
    length: lengths.reduce((sum, length) => sum + tarBlock + roundUp(length, tarBlock), tarEndBytes),
    async *chunks(signal) {
      yield* member(writing.names.descriptor, descriptor)
      const written: WrittenDisk[] = []
      for (const [index, size] of sizes.entries()) {
        const name = writing.names.disks[index] ?? ''
        yield tarHeader(name, size)
        yield* writing.disk(index, { signal }, (disk) => written.push(disk))
        const found = written[index]?.size
        if (found !== size)
          throw new MoraineError('io', 'a disk changed while the appliance was made', {
            path: name,
            field: 'bytes',
            value: found,
            rule: `${size}`,
          })
        yield new Uint8Array(roundUp(size, tarBlock) - size)
      }
      for (const { name, bytes } of writing.papers(descriptor, written)) yield* member(name, bytes)
      yield new Uint8Array(tarEndBytes)
    },
  }
}

/** Writes a package whose files lie beside one another, the descriptor last.
 *  @throws MoraineError as `writeOva`. */
export async function writeOvf(sink: PackageSink, appliance: NewAppliance, run: RunOptions = {}): Promise<void> {
  const writing = new Writing(appliance)
  const written: WrittenDisk[] = []
  for (const [index, name] of writing.names.disks.entries()) {
    const { store, done } = await sink(name)
    const gatherer = new Gatherer(store, 0)
    for await (const chunk of writing.disk(index, run, (disk) => written.push(disk))) await gatherer.put(chunk)
    await gatherer.end()
    await done()
  }
  const descriptor = writing.descriptor(written.map(({ size }) => size))
  for (const { name, bytes } of [
    ...writing.papers(descriptor, written),
    { name: writing.names.descriptor, bytes: descriptor },
  ]) {
    const { store, done } = await sink(name)
    await store.write(0, bytes)
    await done()
  }
}
