/** Converting a disk: first a plan that tells what will be written and what is lost, then the bytes. */
import {
  type Disk,
  type Extent,
  MoraineError,
  type RunOptions,
  throwIfCancelled,
  type WritableDisk,
} from '../core/index.ts'
import type { DiskFormat, StreamPlan } from '../format/format.ts'
import type { OptionValues } from '../format/options.ts'
import { copyDisk } from './copy.ts'
import { bitmapsOf, planBitmapCopy } from './copy-bitmaps.ts'
import { findLosses, type Loss } from './losses.ts'
import { packedChunks } from './packed-stream.ts'
import { cutOfSource } from './segments.ts'

/** How a disk is converted. */
export interface ConversionRequest {
  format: DiskFormat
  /** Creation options of the target, validated. */
  options?: OptionValues | undefined
  /** Store packed units (-c). */
  compress?: boolean | undefined
  /** Least bytes of zeros that are left out of a write (-S): a multiple of 512, at most 16 MiB; default 4096. 0: everything is written, zeros too. */
  sparseBytes?: number | undefined
  /** The target's backing file (-B), which holds the same as the source's does; `disk` lets zeros after its end be left out. */
  backing?: { name: string; format?: string | undefined; disk?: Disk | undefined } | undefined
  /** Whether the target reads as zeros before it is written. By default a file does and a device does not, unless a format with tables
   *  was just created on it. Say `false` when writing into an image that existed before (-n), `true` for `--target-is-zero`. */
  targetIsZero?: boolean | undefined
  /** Most requests in flight (-m), 1 to 16; default 8. */
  requests?: number | undefined
  /** Let later pieces be written before earlier ones (-W): the layout of the target then differs from run to run. */
  outOfOrder?: boolean | undefined
  /** Write zeros for what cannot be read, with a warning for each sector. */
  salvage?: boolean | undefined
  /** Bytes of content per second at most (-r). */
  rate?: number | undefined
  /** Copy inside the kernel where both sides lie plain (-C); zeros are not looked for then. */
  copyOffload?: boolean | undefined
  /** Copy dirty bitmaps (--bitmaps). */
  bitmaps?: boolean | undefined
  /** Leave inconsistent ones out, with a warning for each (--skip-broken-bitmaps), rather than refuse them. */
  skipBrokenBitmaps?: boolean | undefined
  /** Warnings for people: of a sector that could not be read, of a bitmap that was left out. */
  warn?: ((message: string, about: 'salvage' | 'bitmap') => void) | undefined
}

/** A conversion, ready to run. */
export interface ConversionPlan {
  /** Bytes. */
  readonly virtualSize: number
  /** Exact bytes of the streamed target where that is known without asking `stream()`: raw. */
  readonly length: number | undefined
  /** What the target will not have. */
  readonly losses: readonly Loss[]
  /** Writes into an opened, empty disk of the format, and flushes it. Nothing is in flight any more when this returns or throws. Closing stays with the caller.
   *  @throws MoraineError `invalid` when the disk is too small, `cancelled`, and what reading and writing throw. */
  run(target: WritableDisk, run?: RunOptions): Promise<void>
  /** The target written front to back: holes and packed units as the source has them, zeros not looked for.
   *  @param run told how far packing is; formats that measure first are packed twice
   *  @throws MoraineError `unsupported` when the format or the request needs a target that can be written anywhere. */
  stream(run?: Pick<RunOptions, 'onProgress'>): Promise<StreamPlan>
}

const maxSparse = 16 * 1024 * 1024

/** More requests to a file of this host only fill the processor's caches. */
const localRequests = 4

/** Most extents that a plan remembers: more are asked for again on each walk. */
const rememberedExtents = 65_536

/** Plans writing what `source` holds as another image. Reads the source's tables, not its content.
 *  @throws MoraineError `invalid` when the request contradicts itself (QEMU's words), `unsupported`. */
export async function planConversion(source: Disk, request: ConversionRequest): Promise<ConversionPlan> {
  checkRequest(source, request)
  const bitmaps = request.bitmaps === true ? bitmapsOf(source, request.skipBrokenBitmaps === true) : undefined
  const walk = await rememberExtents(source)
  const { format } = request
  const losses = findLosses(source, format, {
    bitmaps: bitmaps !== undefined,
    backing: request.backing !== undefined,
    encryption: encrypts(format, request.options ?? {}),
  })
  return {
    virtualSize: source.size,
    length: format.name === 'raw' ? source.size : undefined,
    losses,
    async run(target, run = {}) {
      const warn = (message: string) => request.warn?.(message, 'bitmap')
      const bitmapCopy = bitmaps === undefined ? undefined : planBitmapCopy(bitmaps, target, warn)
      await runCopy(source, target, request, walk, run)
      await bitmapCopy?.run(run.signal)
    },
    async stream({ onProgress }: Pick<RunOptions, 'onProgress'> = {}) {
      const refuse = (what: string): never => {
        throw new MoraineError('unsupported', `${what} cannot be written front to back`, {
          format: format.name,
          hint: 'write to a file',
        })
      }
      if (request.backing !== undefined) refuse(`overlay ${format.name}`)
      if (bitmaps?.list().some(({ inconsistent }) => !inconsistent) === true) refuse('dirty bitmaps')
      const packed = await format.streamPacked?.(source.size, request.options ?? {}, request.compress === true)
      if (packed !== undefined) {
        // One unit comes behind the other, whatever was asked for.
        const ordered = { ...request, outOfOrder: false }
        const copy = (target: WritableDisk, run: RunOptions) =>
          runCopy(source, target, ordered, walk, { ...run, onProgress })
        return { length: undefined, chunks: (signal) => packedChunks(packed, copy, signal) }
      }
      if (request.compress === true) refuse(`compressed ${format.name}`)
      if (format.stream === undefined) return refuse(format.name)
      return format.stream(source, request.options ?? {})
    },
  }
}

/** Whether what is written is encrypted. */
function encrypts({ name }: DiskFormat, options: OptionValues): boolean {
  return name === 'luks' || options.encryption === true || options['encrypt.format'] !== undefined
}

function checkRequest(source: Disk, request: ConversionRequest): void {
  const fail = (field: string, reason: string): never => {
    throw new MoraineError('invalid', reason, { path: source.name, field })
  }
  const { sparseBytes = 4096, requests = 8, format } = request
  if (sparseBytes < 0 || sparseBytes % 512 !== 0 || sparseBytes > maxSparse) {
    fail(
      'sparseBytes',
      `Invalid buffer size for sparse output specified. Valid sizes are multiples of 512 up to ${maxSparse}. Select 0 to disable sparse detection (fully allocates output).`,
    )
  }
  if (!Number.isInteger(requests) || requests < 1 || requests > 16) {
    fail('requests', 'Invalid number of coroutines. Allowed number of coroutines is between 1 and 16')
  }
  if (request.compress === true) {
    if (!format.can.compress) fail('compress', 'Compression not supported for this file format')
    if (request.copyOffload === true) fail('copyOffload', 'Cannot enable copy offloading when -c is used')
    const preallocation = request.options?.preallocation
    if (preallocation !== undefined && preallocation !== 'off') {
      fail('preallocation', 'Compression and preallocation not supported at the same time')
    }
    if (encrypts(format, request.options ?? {})) {
      fail('encryption', 'Compression and encryption not supported at the same time')
    }
  }
  if (request.copyOffload === true && request.salvage === true) {
    fail('salvage', 'Cannot use copy offloading in salvaging mode')
  }
  if (request.targetIsZero === true && request.backing !== undefined) {
    fail('targetIsZero', 'Cannot use --target-is-zero when the destination image has a backing file')
  }
}

/** The extents of a source, as often as they are wanted. */
interface Walk {
  extents: (signal?: AbortSignal) => AsyncIterable<Extent[]>
  /** Bytes that do not read as zeros, where all extents are remembered. */
  dataBytes: number | undefined
}

/** The extents of a source, from memory where there are few. */
async function rememberExtents(source: Disk): Promise<Walk> {
  const known: Extent[] = []
  const extents = (signal?: AbortSignal): AsyncIterable<Extent[]> => source.extents(0, source.size, signal)
  let dataBytes = 0
  if (source.size === 0) return { extents: () => inBatches(known), dataBytes }
  for await (const batch of extents()) {
    if (known.length + batch.length > rememberedExtents) return { extents, dataBytes: undefined }
    for (const extent of batch) {
      known.push(extent)
      if (!extent.zero) dataBytes += extent.length
    }
  }
  return { extents: () => inBatches(known), dataBytes }
}

async function* inBatches(extents: Extent[]): AsyncIterable<Extent[]> {
  if (extents.length > 0) yield extents
}

async function runCopy(
  source: Disk,
  target: WritableDisk,
  request: ConversionRequest,
  walk: Walk,
  run: RunOptions,
): Promise<void> {
  throwIfCancelled(run.signal, source.name)
  if (target.size < source.size) {
    throw new MoraineError('invalid', 'output file is smaller than input file', {
      path: target.name,
      field: 'size',
      value: target.size,
      rule: `at least ${source.size}`,
    })
  }
  const sparse = sparseOf(source, request.sparseBytes ?? 4096)
  const overBacking = request.backing !== undefined
  await copyDisk(
    {
      source,
      target,
      ...walk,
      cut: {
        total: source.size,
        overBacking,
        backingSize: request.backing?.disk?.size,
        ...cutOfSource(source),
        unit: packs(target, request) ? packedUnit(target) : undefined,
      },
      sparse,
      isZero: request.targetIsZero ?? (sparse > 0 && !overBacking && newReadsAsZeros(target, request)),
      requests: Math.min(request.requests ?? 8, isLocal(source) ? localRequests : 16),
      ordered: request.outOfOrder !== true,
      offload: request.copyOffload === true || (sparse === 0 && request.salvage !== true),
      salvage: request.salvage === true ? (message) => request.warn?.(message, 'salvage') : undefined,
      rate: request.rate,
    },
    run,
  )
  await target.flush()
}

/** QEMU asks an image of qcow a cluster at a time what it holds, so it never looks for zeros across clusters: its overlays have clusters of 512 bytes. */
function sparseOf(source: Disk, sparse: number): number {
  const { clusterSize = sparse } = source.format === 'qcow' ? source.info() : {}
  return Math.min(sparse, clusterSize)
}

function isLocal(source: Disk): boolean {
  for (let disk: Disk | undefined = source; disk !== undefined; disk = disk.parent) {
    if (disk.file.descriptor === undefined) return false
  }
  return true
}

/** Some images hold nothing but packed units, and some take the wish for them as any other write. */
function packs(target: WritableDisk, { compress }: ConversionRequest): boolean {
  return target.compression === 'always' || (compress === true && target.compression !== 'ignored')
}

function packedUnit(target: WritableDisk): number {
  if (target.packedUnit === undefined || target.writePacked === undefined) {
    throw new MoraineError('unsupported', 'Compression not supported for this file format', {
      path: target.name,
      format: target.format,
    })
  }
  return target.packedUnit
}

/** A new file reads as zeros, unless it is read through a cipher. A new image on a device does where its tables say so, which preallocated ones do not. */
function newReadsAsZeros(target: WritableDisk, request: ConversionRequest): boolean {
  if (target.noise === 'everywhere') return false
  if (target.kind !== 'device' && target.noise === undefined) return true
  const preallocation = request.options?.preallocation
  return target.format !== 'raw' && (preallocation === undefined || preallocation === 'off')
}
