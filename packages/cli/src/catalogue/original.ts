/** The publisher's own file: fetched into the cache, resumed where it was cut, and compared with the digest of the catalogue each time it is used. */
import { createHash } from 'node:crypto'
import { mkdirSync, rmSync, statSync } from 'node:fs'
import { rm, rmdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import {
  ChangedFile,
  type CloudImage,
  downloadBytes,
  fileBytes,
  type Reading,
  verifyBeside,
} from '@moraine/cloud-images'
import { MoraineError, type Progress } from '@moraine/engine'
import { failureFrom } from '../failure.ts'
import { PartFile } from '../image/part-file.ts'
import { SparseWriter } from '../image/sparse-writer.ts'
import type { Context } from '../verb.ts'
import { xdgFolder } from './open.ts'

/** What a download works with. */
interface Fetching {
  context: Context
  reading: Reading
  image: CloudImage
  onProgress: ((progress: Progress) => void) | undefined
}

/** Largest file that is taken where the catalogue does not say how large it is. */
const mostBytes = 64 * 1024 ** 3
const mostSignatureBytes = 64 * 1024

/** The path of the file in the cache. */
function cachePath({ distribution, digest, name }: CloudImage): string {
  return join(xdgFolder('XDG_CACHE_HOME', '.cache'), 'images', distribution, digest.slice(0, 32), name)
}

/** Sees to it that the file is here, whole and right; where it is.
 *  @throws MoraineError, Failure; what came is kept for another try, unless it is known to be wrong */
export async function fetchOriginal(fetching: Fetching): Promise<string> {
  const { context, image, reading, onProgress } = fetching
  const path = cachePath(image)
  const there = statSync(path, { throwIfNoEntry: false })
  if (there?.isFile() === true) {
    if (await isRight(path, image, there.size, context.signal, onProgress)) return path
    context.warn(`${path} was changed; it is fetched again`)
    rmSync(path)
  }
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 })
  const part = await download(fetching, path)
  try {
    await checkSignature(reading, image, part.path)
  } catch (error) {
    part.remove()
    throw error
  }
  await part.publish(path)
  return path
}

/** Takes the file out of the cache again. */
export async function forgetOriginal(path: string): Promise<void> {
  await rm(path, { force: true })
  await rmdir(dirname(path)).catch(() => {})
}

async function isRight(
  path: string,
  image: CloudImage,
  size: number,
  signal: AbortSignal,
  onProgress: ((progress: Progress) => void) | undefined,
): Promise<boolean> {
  if (image.size !== undefined && image.size !== size) return false
  const hash = createHash(image.algorithm)
  let done = 0
  for await (const piece of fileBytes(path, 0, signal)) {
    hash.update(piece)
    done += piece.length
    onProgress?.({ done, total: size })
  }
  return hash.digest('hex') === image.digest
}

async function download(fetching: Fetching, path: string): Promise<PartFile> {
  const { context } = fetching
  try {
    return await downloadPart(fetching, await openPart(fetching, path))
  } catch (error) {
    if (!(error instanceof ChangedFile)) throw error
    const part = await openPart(fetching, path)
    await part.store.close()
    // What was there before was of other bytes: from the beginning, once.
    part.remove()
    if (part.start === 0) throw error
    context.warn(`${error.reason}; it is read again from the beginning`)
    return await downloadPart(fetching, await openPart(fetching, path))
  }
}

async function openPart({ context, image, reading }: Fetching, path: string): Promise<PartFile> {
  const { size = null, digest, path: name } = image
  try {
    return await PartFile.open(path, { image: reading.mirror.place(name), size, checksum: null, hash: digest })
  } catch (error) {
    throw failureFrom(error, context.persona, `Could not write '${path}.part': `)
  }
}

async function downloadPart({ context, reading, image, onProgress }: Fetching, part: PartFile): Promise<PartFile> {
  const { mirror } = reading
  const writer = new SparseWriter(part.store, part.start)
  const hash = createHash(image.algorithm)
  const place = mirror.place(image.path)
  let total = image.size ?? 0
  try {
    if (part.start > 0)
      context.err.write(`${context.persona.name}: note: goes on after the first ${part.start} bytes\n`)
    await part.digest(hash, context.signal)
    onProgress?.({ done: part.start, total })
    const bytes =
      mirror.get === undefined
        ? fileBytes(place, part.start, context.signal)
        : downloadBytes({
            ...{ get: mirror.get, url: place, size: image.size, most: mostBytes, start: part.start, etag: part.etag },
            onEtag: (etag) => part.keepEtag(etag),
            onSize: (size) => (total = size),
            signal: context.signal,
          })
    for await (const piece of bytes) {
      hash.update(piece)
      await writer.write(piece)
      onProgress?.({ done: writer.position, total: Math.max(total, writer.position) })
    }
  } finally {
    try {
      await writer.finish()
      await part.store.flush()
    } finally {
      await part.store.close()
    }
  }
  const digest = hash.digest('hex')
  if (digest === image.digest) return part
  part.remove()
  const error = new MoraineError(
    'corrupt',
    `the image is not the one of the catalogue: its ${image.algorithm} is ${digest}`,
    {
      path: place,
      rule: image.digest,
    },
  )
  if (part.start > 0) throw new ChangedFile('corrupt', error.reason, { path: place, rule: image.digest })
  throw error
}

/** Some publishers sign each image.
 *  @throws MoraineError `denied` */
async function checkSignature(
  { keyring, mirror, now, signal }: Reading,
  image: CloudImage,
  file: string,
): Promise<void> {
  if (image.signature === undefined || keyring === undefined) return
  const signature = await mirror.read(image.signature, mostSignatureBytes, signal)
  const place = mirror.place(image.signature)
  if (signature === undefined) {
    throw new MoraineError('denied', 'the image is not signed: there is no signature beside it', {
      path: place,
      hint: 'With --unsigned only its digest is compared.',
    })
  }
  await verifyBeside(fileBytes(file, 0, signal), signature, keyring, place, now)
}
