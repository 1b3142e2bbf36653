/** An image as moraine's own service converts it while it sends: into a file, taken up again where the service can, and looked at when it is here. */
import {
  allFormats,
  checkImage,
  closedGate,
  type Disk,
  type DiskFormat,
  openDisk,
  type StreamPlan,
} from '@moraine/engine'
import { nodeCodecs, openFile } from '@moraine/engine/node'
import { Failure, failureFrom } from '../failure.ts'
import { Digests } from './digests.ts'
import { ChangedImage, strongEtag } from './download.ts'
import { plainText } from './error-text.ts'
import { answerFailure, ConnectionFailure, connectionFailure, type HttpAnswer, isOk } from './http.ts'
import { type ImageDocument, imagePath } from './images.ts'
import { identityOf, PartFile } from './part-file.ts'
import type { Pull } from './pull.ts'
import { SparseWriter } from './sparse-writer.ts'
import { sleep } from './wait.ts'

/** The service has no exports. */
export class NoExport extends Failure {}

/** Times that an export is asked for, until one of them brings bytes that can be gone on from. */
const mostAttempts = 4
/** What passes by itself. A service that cannot read the image says 500, and would say so again. */
const passing = new Set([429, 502, 503, 504])
const readBytes = 1024 * 1024

/** Bytes of an export on their way. */
interface Arriving {
  /** Where they begin. */
  start: number
  /** Of the whole export, in bytes; packed ones have none. */
  length: number | undefined
  body: AsyncIterable<Uint8Array>
}

/** Downloads an export to `FILE.part`; the caller gives it its name. What the service keeps (it then has an ETag) is gone on with, in this run or a later one; what is made while it is sent
 *  begins anew when it breaks, as nobody promises the same bytes twice.
 *  @throws NoExport, Failure; what came is kept where it can be gone on with. */
export async function exportPart(pull: Pull, query: URLSearchParams, target: string): Promise<PartFile> {
  const { session, context, image } = pull
  let reached = 0
  for (let attempts = 1; ; attempts++) {
    const part = await openPart(pull, query, target)
    if (part.start > reached) attempts = 1
    reached = part.start
    try {
      await receive(pull, query, part)
      return part
    } catch (error) {
      const isOther = error instanceof ChangedImage
      // What has no ETag is of no use to anybody.
      const isLost = isOther || part.knownEtag === undefined
      if (isLost) part.remove()
      if (!(error instanceof ConnectionFailure || isOther) || attempts >= mostAttempts) throw error
      const then = isLost ? 'it is asked for anew' : 'it is gone on with'
      context.err.write(`${context.persona.name}: note: the export of ${image.id}: ${error.message}; ${then}\n`)
    }
    await sleep(100 * 2 ** attempts, session.signal)
  }
}

async function openPart({ context, image }: Pull, query: URLSearchParams, target: string): Promise<PartFile> {
  try {
    const identity = { ...identityOf(image), export: query.toString() }
    return await PartFile.open(target, identity, { needsEtag: true })
  } catch (error) {
    throw failureFrom(error, context.persona, `Could not write '${target}.part': `)
  }
}

async function receive(pull: Pull, query: URLSearchParams, part: PartFile): Promise<void> {
  const { onProgress } = pull
  let writer: SparseWriter | undefined
  try {
    const { start, length, body } = await request(pull, query, part.start, part.etag, (etag) => part.keepEtag(etag))
    if (start === 0 && part.start > 0) await part.store.resize(0)
    writer = new SparseWriter(part.store, start)
    for await (const bytes of unbroken(pull, query, body)) {
      await writer.write(bytes)
      if (length !== undefined) onProgress?.({ done: writer.position, total: length })
    }
    if (length !== undefined && writer.position !== length)
      throw new ConnectionFailure(`${writer.position} bytes came, of ${length}`)
    await writer.finish()
    writer = undefined
    await part.store.flush()
  } finally {
    try {
      await writer?.finish()
    } finally {
      await part.store.close()
    }
  }
}

/** The export as a stream, for standard output. What breaks is gone on with where the service can.
 *  @throws NoExport, Failure */
export async function exportStream(pull: Pull, query: URLSearchParams): Promise<StreamPlan> {
  let etag: string | undefined
  const keep = (one: string) => {
    etag = one
  }
  const first = await request(pull, query, 0, undefined, keep)
  async function* chunks(): AsyncIterable<Uint8Array> {
    let at = 0
    let arriving = first
    for (let attempts = 1; ; attempts++) {
      try {
        for await (const bytes of unbroken(pull, query, arriving.body)) {
          yield bytes
          at += bytes.length
          attempts = 1
        }
        if (first.length === undefined || at === first.length) return
        throw new ConnectionFailure(`${at} bytes came, of ${first.length}`)
      } catch (error) {
        if (!(error instanceof ConnectionFailure) || etag === undefined || attempts >= mostAttempts) throw error
      }
      await sleep(100 * 2 ** attempts, pull.session.signal)
      arriving = await request(pull, query, at, etag, keep)
      if (arriving.start !== at) throw new ChangedImage('the service does not go on with the export where it broke')
    }
  }
  return { length: first.length, chunks }
}

/** Asks for an export from a byte on. @param etag Of what comes before that byte. @param onEtag Told of what comes, where the service keeps it. */
async function request(
  { session, context, image }: Pull,
  query: URLSearchParams,
  at: number,
  etag: string | undefined,
  onEtag: (etag: string) => void,
): Promise<Arriving> {
  const headers = {
    accept: 'application/octet-stream, application/json;q=0.5',
    range: at === 0 ? undefined : `bytes=${at}-`,
    'if-range': at === 0 ? undefined : etag,
  }
  const answer = await session.send('GET', exportPath(image, query), { headers })
  if (!isOk(answer)) throw await refusal(answer)
  const found = strongEtag(answer)
  if (answer.status === 206 && found !== etag) throw new ChangedImage('the export was changed while it was read')
  if (found !== undefined) onEtag(found)
  const losses = answer.headers['x-moraine-losses']
  if (losses !== undefined && at === 0)
    context.err.write(`${context.persona.name}: note: the export is without: ${plainText(losses)}\n`)
  const body = answer.body as AsyncIterable<Uint8Array>
  const length = answer.headers['content-length']
  if (answer.status !== 206) return { start: 0, length: length === undefined ? undefined : Number(length), body }
  const [, first, size] = /^bytes (\d+)-\d+\/(\d+)$/.exec(answer.headers['content-range'] ?? '') ?? []
  if (Number(first) !== at || at === 0)
    throw new Failure(`the service sends another range than was asked for: ${answer.headers['content-range']}`)
  return { start: at, length: Number(size), body }
}

function exportPath({ id }: ImageDocument, query: URLSearchParams): string {
  return imagePath(id, `/export?${query}`)
}

async function refusal(answer: HttpAnswer): Promise<Failure> {
  const failure = await answerFailure(answer)
  // The image itself was found before.
  if (answer.status === 404) {
    const hint = `It said: ${failure.message}\nWith -O FORMAT, 'moraine image pull' converts it here.`
    return new NoExport('the service does not export', { hint })
  }
  return passing.has(answer.status) ? new ConnectionFailure(failure.message) : failure
}

async function* unbroken(
  { session, image }: Pull,
  query: URLSearchParams,
  body: AsyncIterable<Uint8Array>,
): AsyncIterable<Uint8Array> {
  try {
    yield* body
  } catch (error) {
    throw connectionFailure(error, await session.addressOf(exportPath(image, query)), session.signal)
  }
}

/** Looks at an export that is here: it must open, be as large as the image's disk, and have no fault.
 *  @param isWhole Whether its content is read, too, and compared with the service's digest; that is of the disk only where the image is raw.
 *  @returns Whether the content was compared.
 *  @throws Failure saying what is wrong. */
export async function verifyExport(pull: Pull, path: string, format: DiskFormat, isWhole: boolean): Promise<boolean> {
  const { session, context, image } = pull
  try {
    const source = await openFile(path)
    const disk = await openDisk(source, {
      formats: allFormats,
      format: format.name,
      gate: closedGate,
      codecs: nodeCodecs,
    })
    try {
      checkSize(disk, image)
      if (!isWhole) return false
      await checkStructure(disk, format, session.signal)
      return image.disk_format === 'raw' && (await compareContent(disk, pull, session.signal))
    } finally {
      await disk.close()
    }
  } catch (error) {
    throw failureFrom(error, context.persona, 'What the service sent is no good: ')
  }
}

/** Some formats have no disk of any size: theirs may be larger, never smaller. */
function checkSize(disk: Disk, image: ImageDocument): void {
  const size = image.disk_format === 'raw' ? image.size : image.virtual_size
  if (typeof size === 'number' && disk.size < size)
    throw new Failure(`what the service sent is a disk of ${disk.size} bytes, and the image is one of ${size}`)
}

async function checkStructure(disk: Disk, format: DiskFormat, signal?: AbortSignal): Promise<void> {
  if (format.check === undefined) return
  const { corruptions, checkErrors } = await checkImage(format, disk, { repair: 'none', report: () => {}, signal })
  const faults = corruptions + checkErrors
  if (faults > 0) throw new Failure(`what the service sent has ${faults} faults, as 'moraine check' tells`)
}

async function compareContent(disk: Disk, { image, onProgress }: Pull, signal?: AbortSignal): Promise<boolean> {
  const digests = Digests.toCheck(image)
  if (!digests.canCheck) return false
  const total = image.size ?? 0
  const buffer = Buffer.allocUnsafeSlow(readBytes)
  for (let at = 0; at < total; at += readBytes) {
    const bytes = buffer.subarray(0, Math.min(readBytes, total - at))
    await disk.read(at, bytes, signal)
    digests.update(bytes)
    onProgress?.({ done: at + bytes.length, total })
  }
  return digests.check(image)
}
