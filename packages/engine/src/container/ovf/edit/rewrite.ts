/** A package again with another descriptor: its files as they are, its manifest brought up to date. */
import { roundUp } from '../../../bytes/integers.ts'
import {
  type ByteSource,
  type ByteStore,
  type DigestName,
  MoraineError,
  type Progress,
  type RunOptions,
  type Signing,
  throwIfCancelled,
} from '../../../core/index.ts'
import { plainMemberName } from '../../container.ts'
import { tarBlock } from '../../tar/header.ts'
import { tarEndBytes, tarHeader } from '../../tar/write-header.ts'
import { type ManifestEntry, writeManifest, writeSignature } from '../manifest.ts'
import type { OvfPackage } from '../open-package.ts'

/** How a package is written again. */
export interface RewriteOptions extends RunOptions {
  /** The new descriptor. */
  descriptor: string
  signing: Signing
  /** Signs the new manifest. Without it an old signature goes: it would be wrong. */
  signer?: { key: string; passphrase?: string | undefined; certificate: string } | undefined
}

/** The small files of a package that is written again. */
export interface RewrittenPapers {
  descriptor: Uint8Array
  /** Undefined where there was none and nothing is to be signed. */
  manifest: { name: string; bytes: Uint8Array } | undefined
  certificate: { name: string; bytes: Uint8Array } | undefined
}

const pieceBytes = 1024 * 1024

/** What becomes of descriptor, manifest and signature; the digests of files stay those of the old manifest.
 *  @throws MoraineError as `OvfPackage.manifest`, `Signing.sign`; `missing` for a package without a manifest that is to be signed. */
export async function rewritePapers(
  opened: OvfPackage,
  { descriptor: text, signing, signer, signal }: RewriteOptions,
): Promise<RewrittenPapers> {
  const old = await opened.manifest(signal)
  const descriptor = new TextEncoder().encode(text)
  if (old === undefined) {
    if (signer === undefined) return { descriptor, manifest: undefined, certificate: undefined }
    throw new MoraineError('missing', 'there is no manifest that could be signed', {
      path: opened.source.name,
      field: 'manifest',
    })
  }
  const own = opened.files.descriptor
  const digest: DigestName = old.entries.find(({ file }) => file === own)?.digest ?? old.entries[0]?.digest ?? 'sha256'
  const hash = signing.digest(digest)
  hash.update(descriptor)
  const others = old.entries.filter(({ file }) => file !== own)
  const bytes = new TextEncoder().encode(writeManifest([{ file: own, digest, hex: hash.hex() }, ...others]))
  const manifest = { name: old.name, bytes }
  if (signer === undefined) return { descriptor, manifest, certificate: undefined }
  const by = digest === 'sha1' ? 'sha256' : digest
  const signature = signing.sign(bytes, by, {
    pem: signer.key,
    passphrase: signer.passphrase,
    certificate: signer.certificate,
  })
  const name = old.name.replace(/\.[^.]*$/, '.cert')
  return {
    descriptor,
    manifest,
    certificate: { name, bytes: new TextEncoder().encode(writeSignature(old.name, by, signature, signer.certificate)) },
  }
}

/** Writes an OVA again into an empty file: descriptor, manifest, signature, then the other members in their order. Each is compared with the manifest while it is copied.
 *  @throws MoraineError `corrupt` for a file that is not what the manifest says; `unsupported` for members that are no plain files; what reading and writing throw. */
export async function rewriteOva(
  store: ByteStore,
  opened: OvfPackage,
  options: RewriteOptions,
): Promise<RewrittenPapers> {
  const { archive, descriptor: own } = opened.files
  if (archive === undefined)
    throw new MoraineError('invalid', 'the package is no archive', { path: opened.source.name })
  const papers = await rewritePapers(opened, options)
  const old = await opened.manifest(options.signal)
  let at = 0
  const put = async (name: string, bytes: Uint8Array) => {
    const block = new Uint8Array(tarBlock + roundUp(bytes.length, tarBlock))
    block.set(tarHeader(name, bytes.length))
    block.set(bytes, tarBlock)
    await store.write(at, block)
    at += block.length
  }
  await put(own, papers.descriptor)
  for (const paper of [papers.manifest, papers.certificate]) if (paper !== undefined) await put(paper.name, paper.bytes)
  const files = archive.members.flatMap((member) => {
    const name = plainMemberName(member.name)
    const isPaper = name === own || name === old?.name || /\.cert$/i.test(name)
    return isPaper ? [] : [{ name, source: archive.bytes(member) }]
  })
  const total = files.reduce((sum, { source }) => sum + source.size, 0)
  let before = 0
  for (const { name, source } of files) {
    await store.write(at, tarHeader(name, source.size))
    const onProgress = ({ done }: Progress) => options.onProgress?.({ done: before + done, total })
    const entries = old?.entries.filter(({ file }) => file === name) ?? []
    await copy(source, store, at + tarBlock, entries, { ...options, onProgress })
    before += source.size
    at += tarBlock + roundUp(source.size, tarBlock)
  }
  // The end is written whole, so that what pads the last member is there too.
  await store.write(at, new Uint8Array(tarEndBytes))
  return papers
}

async function copy(
  source: ByteSource,
  store: ByteStore,
  start: number,
  entries: readonly ManifestEntry[],
  { signing, signal, onProgress }: RewriteOptions,
): Promise<void> {
  const hashes = entries.map((entry) => ({ entry, hash: signing.digest(entry.digest) }))
  const buffer = new Uint8Array(pieceBytes)
  for (let at = 0; at < source.size; at += pieceBytes) {
    throwIfCancelled(signal, source.name)
    const piece = buffer.subarray(0, Math.min(pieceBytes, source.size - at))
    await source.read(at, piece, signal)
    for (const { hash } of hashes) hash.update(piece)
    await store.write(start + at, piece)
    onProgress?.({ done: at + piece.length, total: source.size })
  }
  for (const { entry, hash } of hashes) {
    if (hash.hex() === entry.hex) continue
    throw new MoraineError('corrupt', `the file '${entry.file}' is not what the manifest says`, {
      path: source.name,
      field: entry.digest,
      rule: 'the digest of the manifest',
    })
  }
}
