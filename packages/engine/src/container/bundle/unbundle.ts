/** Takes images out of Amazon's bundles: the signature first, then part after part with its digest, decrypted, unpacked and written while it passes by. */
import { ByteFeed } from '../../bytes/byte-feed.ts'
import {
  type ByteSource,
  type ByteStore,
  MoraineError,
  type RunOptions,
  type StreamCodecs,
  throwIfCancelled,
} from '../../core/index.ts'
import type { BundleCrypto } from '../../crypt/bundle-crypto.ts'
import { type BundlePart, bytesOfHex, type SealedText, type SignedManifest } from './manifest.ts'
import { unpackTarImage } from './tar-image.ts'

const pieceBytes = 1024 * 1024

/** Whether the manifest is signed by the owner of a certificate (or of a private key), in PEM. `uncertain`: what is signed cannot be told apart from what is read.
 *  @throws MoraineError `invalid` for what is no certificate and no key. */
export function verifyManifest(
  { signed, signature }: SignedManifest,
  certificateOrKey: string,
  crypto: BundleCrypto,
): 'verified' | 'wrong' | 'unsigned' | 'uncertain' {
  if (signature === undefined) return 'unsigned'
  if (signed === undefined) return 'uncertain'
  return crypto.verify(certificateOrKey, signed, signature) ? 'verified' : 'wrong'
}

/** How an image is taken out. */
export interface UnbundleRequest extends RunOptions {
  manifest: SignedManifest
  /** The manifest's name, for messages. */
  path: string
  /** The user's private key in PEM, or that of the cloud (`recipient` `ec2`). */
  privateKey: string
  recipient?: 'user' | 'ec2' | undefined
  /** Opens a part; the caller decides where it may lie. */
  openPart(part: BundlePart): Promise<ByteSource>
  /** Empty; it holds the image when this returns, and something of it when this fails. */
  target: ByteStore
  crypto: BundleCrypto
  codecs: StreamCodecs
}

/** Takes the image out. The signature is not looked at (see `verifyManifest`); all digests and sizes are.
 *  @throws MoraineError `invalid` when the key does not open it; `missing` for a part that is not there; `corrupt` for one that is cut, changed or of another bundle; `unsupported` without gzip. */
export async function unbundleImage(request: UnbundleRequest): Promise<void> {
  const { manifest, path, crypto, codecs, target, signal, onProgress } = request
  const unpack = codecs.gzip?.unpack
  if (unpack === undefined)
    throw new MoraineError('unsupported', 'there is no codec here that unpacks gzip', { path, field: 'codec' })
  const key = unsealed(request, manifest.key, 'key')
  const iv = unsealed(request, manifest.iv, 'iv')
  await checkSizes(request)
  const digest = crypto.sha1()
  async function* archive(): AsyncIterable<Uint8Array> {
    for await (const piece of unpack?.(decrypted(request, key, iv)) ?? []) {
      digest.update(piece)
      yield piece
    }
  }
  const feed = new ByteFeed(archive())
  try {
    await unpackTarImage(feed, target, manifest.size, (done) => {
      throwIfCancelled(signal, path)
      onProgress?.({ done, total: manifest.size })
    })
  } catch (error) {
    throw named(error, path)
  } finally {
    await feed.close()
  }
  const found = digest.digest()
  if (found !== manifest.digest) {
    throw new MoraineError('corrupt', 'the image in the bundle is not the one that was bundled', {
      path,
      field: 'image/digest',
      value: found,
      rule: manifest.digest,
    })
  }
  onProgress?.({ done: manifest.size, total: manifest.size })
}

function unsealed(
  { privateKey, crypto, path, recipient = 'user' }: UnbundleRequest,
  sealed: SealedText,
  what: 'key' | 'iv',
): Uint8Array {
  const field = `${recipient}_encrypted_${what}`
  const bytes = bytesOfHex(sealed[recipient])
  if (bytes === undefined || bytes.length === 0)
    throw new MoraineError('invalid', 'the bundle is not for this recipient', { path, field })
  let digits: string
  try {
    digits = new TextDecoder('latin1').decode(crypto.unseal(privateKey, bytes))
  } catch (error) {
    throw named(error, path, field)
  }
  const secret = bytesOfHex(digits)
  // A wrong key may also give noise, on purpose: so that nobody learns from errors.
  if (secret?.length === 16) return secret
  throw new MoraineError('invalid', 'the private key does not open the bundle', {
    path,
    field,
    rule: 'the key of the certificate that it was made for',
  })
}

/** All parts are there and make up what the manifest says, before anything is written. */
async function checkSizes({ manifest, openPart, path }: UnbundleRequest): Promise<void> {
  let total = 0
  for (const part of manifest.parts) {
    const source = await openPart(part)
    total += source.size
    await source.close()
  }
  if (total === manifest.bundledSize) return
  throw new MoraineError('corrupt', 'the parts of the bundle are cut, or are others', {
    path,
    field: 'bundled_size',
    value: manifest.bundledSize,
    rule: `${total}, the bytes of all parts`,
  })
}

async function* decrypted(
  { manifest, openPart, crypto, signal }: UnbundleRequest,
  key: Uint8Array,
  iv: Uint8Array,
): AsyncGenerator<Uint8Array> {
  const cipher = crypto.cipher('decrypt', key, iv)
  for (const [index, part] of manifest.parts.entries()) {
    const source = await openPart(part)
    try {
      // First all of it is seen, then it is believed: what is damaged is named as that, and not by what it does to those who read on.
      const digest = crypto.sha1()
      for await (const piece of piecesOf(source, signal)) digest.update(piece)
      const found = digest.digest()
      if (found !== part.digest) {
        throw new MoraineError('corrupt', 'the part is damaged, cut or another one', {
          path: source.name,
          field: `digest of part ${index}`,
          value: found,
          rule: part.digest,
        })
      }
      for await (const piece of piecesOf(source, signal)) yield cipher.update(piece)
    } finally {
      await source.close()
    }
  }
  yield cipher.final()
}

async function* piecesOf(source: ByteSource, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < source.size; at += pieceBytes) {
    const piece = new Uint8Array(Math.min(pieceBytes, source.size - at))
    await source.read(at, piece, signal)
    yield piece
  }
}

function named(error: unknown, path: string, field?: string): unknown {
  if (!(error instanceof MoraineError) || error.path !== undefined) return error
  return new MoraineError(error.kind, error.reason, { ...error, path, field: error.field ?? field, cause: error })
}
