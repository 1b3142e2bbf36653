/** Makes Amazon's bundles: the image in a tar archive, packed with gzip, encrypted, cut into parts, each with its digest; and a signed manifest. All of it goes by once, and nothing is held
 *  but what is on its way. */

import { type ByteStore, type Disk, MoraineError, type RunOptions, type StreamCodecs } from '../../core/index.ts'
import type { BundleCrypto, RunningDigest } from '../../crypt/bundle-crypto.ts'
import { gnuTarStream } from '../tar/gnu-tar.ts'
import { type BundleManifest, type BundlePart, type BundleType, hexOf, isPlainName, writeManifest } from './manifest.ts'

/** Bytes of a part where nothing else is said. */
export const bundlePartBytes = 10 * 1024 * 1024
const leastPartBytes = 64 * 1024
const keyBytes = 16

/** A file that is being made, and gets its name when all is well. */
export interface NewBundleFile {
  readonly store: ByteStore
  publish(): Promise<void>
  abandon(): Promise<void>
}

/** What is bundled, and for whom. Certificates and keys are texts in PEM. */
export interface BundleRequest extends RunOptions {
  /** The image as the guest sees it. */
  disk: Disk
  /** The name of the image: 1 to 90 plain ASCII characters. Parts are `NAME.part.0` … */
  name: string
  type: BundleType
  architecture: string
  /** The account's number or name. */
  user: string
  /** Whoever has its private key starts the image: Amazon's region, or the cloud. */
  ec2Certificate: string
  userCertificate: string
  /** Signs the manifest; it must belong to the certificate. */
  userKey: string
  /** Bytes of a part, 64 KiB and more. Default 10 MiB. */
  partBytes?: number | undefined
  bundler: BundleManifest['bundler']
  blockDevices?: BundleManifest['blockDevices'] | undefined
  productCodes?: readonly string[] | undefined
  kernelId?: string | undefined
  ramdiskId?: string | undefined
  crypto: BundleCrypto
  codecs: StreamCodecs
  /** Makes the file of a part, or of the manifest. */
  newFile(filename: string): Promise<NewBundleFile>
}

/** Bundles an image. Parts and manifest get their names together at the end, the manifest last; when something fails nothing is left.
 *  @throws MoraineError `invalid` for names, keys and certificates that cannot be used; `unsupported` without gzip; what reading and writing throw. */
export async function bundleImage(request: BundleRequest): Promise<{ manifest: BundleManifest; manifestName: string }> {
  const { disk, name, crypto, type } = request
  checkRequest(request)
  const key = crypto.random(keyBytes)
  const iv = crypto.random(keyBytes)
  const sealed = (secret: Uint8Array) => {
    // Not the bytes but their digits are sealed: that is what readers expect.
    const digits = new TextEncoder().encode(hexOf(secret))
    return {
      ec2: hexOf(crypto.seal(request.ec2Certificate, digits)),
      user: hexOf(crypto.seal(request.userCertificate, digits)),
    }
  }
  const sealedKeys = { key: sealed(key), iv: sealed(iv) }
  const probe = new TextEncoder().encode(name)
  if (!crypto.verify(request.userCertificate, probe, crypto.sign(request.userKey, probe))) {
    throw new MoraineError('invalid', 'the private key does not belong to the certificate', { field: 'certificate' })
  }
  const files: NewBundleFile[] = []
  try {
    const image = crypto.sha1()
    const parts = new PartWriter(request, files)
    for await (const bytes of encrypted(request, image, key, iv)) await parts.write(bytes)
    await parts.end()
    const bundled: BundleManifest = {
      bundler: request.bundler,
      architecture: request.architecture,
      blockDevices: request.blockDevices ?? [],
      productCodes: [...(request.productCodes ?? [])],
      // The mark by which such bundles are known.
      kernelId: type === 'kernel' ? 'true' : request.kernelId,
      ramdiskId: type === 'ramdisk' ? 'true' : request.ramdiskId,
      name,
      user: request.user,
      type,
      digest: image.digest(),
      size: disk.size,
      bundledSize: parts.size,
      ...sealedKeys,
      parts: parts.list,
    }
    const manifestName = `${name}.manifest.xml`
    const file = await request.newFile(manifestName)
    files.push(file)
    await file.store.write(
      0,
      writeManifest(bundled, (bytes) => crypto.sign(request.userKey, bytes)),
    )
    await file.store.flush()
    await file.store.close()
    for (const each of files) await each.publish()
    return { manifest: bundled, manifestName }
  } catch (error) {
    for (const { store, abandon } of files) {
      await store.close().catch(() => {})
      await abandon()
    }
    throw error
  }
}

function checkRequest({ name, partBytes = bundlePartBytes, disk, architecture }: BundleRequest): void {
  const refuse = (field: string, value: string | number, rule: string): never => {
    throw new MoraineError('invalid', 'it cannot be bundled so', { path: disk.name, field, value, rule })
  }
  if (!isPlainName(name) || !/^[\x21-\x7e]{1,90}$/.test(name))
    refuse('name', name, '1 to 90 ASCII characters without blanks, slashes and colons')
  if (!Number.isSafeInteger(partBytes) || partBytes < leastPartBytes)
    refuse('part size', partBytes, `at least ${leastPartBytes} bytes`)
  if (!/^[\w-]{1,32}$/.test(architecture)) refuse('architecture', architecture, 'a name as x86_64')
}

/** The archive, packed and encrypted; `digest` grows with the archive. */
async function* encrypted(
  { disk, name, codecs, crypto, signal, onProgress }: BundleRequest,
  digest: RunningDigest,
  key: Uint8Array,
  iv: Uint8Array,
): AsyncIterable<Uint8Array> {
  const pack = codecs.gzip?.pack
  if (pack === undefined)
    throw new MoraineError('unsupported', 'there is no codec here that packs with gzip', { field: 'codec' })
  const archive = await gnuTarStream(disk, name)
  async function* hashed(): AsyncIterable<Uint8Array> {
    let done = 0
    for await (const chunk of archive.chunks(signal)) {
      digest.update(chunk)
      yield chunk
      done += chunk.length
      onProgress?.({ done, total: archive.length ?? done })
    }
  }
  const cipher = crypto.cipher('encrypt', key, iv)
  for await (const packed of pack(hashed(), archive.length)) yield cipher.update(packed)
  yield cipher.final()
}

class PartWriter {
  readonly list: BundlePart[] = []
  /** Bytes of all parts. */
  size = 0
  readonly #request: BundleRequest
  readonly #files: NewBundleFile[]
  readonly #partBytes: number
  #file: NewBundleFile | undefined
  #filename = ''
  #filled = 0
  #digest: RunningDigest

  constructor(request: BundleRequest, files: NewBundleFile[]) {
    this.#request = request
    this.#files = files
    this.#partBytes = request.partBytes ?? bundlePartBytes
    this.#digest = request.crypto.sha1()
  }

  async write(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      this.#file ??= await this.#begin()
      const piece = bytes.subarray(at, at + this.#partBytes - this.#filled)
      await this.#file.store.write(this.#filled, piece)
      this.#digest.update(piece)
      this.#filled += piece.length
      this.size += piece.length
      at += piece.length
      if (this.#filled === this.#partBytes) await this.end()
    }
  }

  async #begin(): Promise<NewBundleFile> {
    this.#filename = `${this.#request.name}.part.${this.list.length}`
    this.#filled = 0
    this.#digest = this.#request.crypto.sha1()
    const file = await this.#request.newFile(this.#filename)
    this.#files.push(file)
    return file
  }

  /** Ends the part that was begun. */
  async end(): Promise<void> {
    if (this.#file === undefined) return
    const { store } = this.#file
    await store.resize(this.#filled)
    await store.flush()
    await store.close()
    this.#file = undefined
    this.list.push({ filename: this.#filename, digest: this.#digest.digest() })
  }
}
