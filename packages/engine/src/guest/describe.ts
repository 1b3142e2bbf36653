/** What the bytes of a disk are to a guest: a partitioned disk, a bare file system, a kernel, a ramdisk. */
import type { ByteSource, DetailValue, StreamCodecs } from '../core/index.ts'
import { factsOf, type GuestContent } from './content.ts'
import { readFileSystems } from './filesystem/index.ts'
import { readKernel } from './kernel/index.ts'
import { packingOf } from './kernel/packing.ts'
import { type PartitionTable, readPartitionContents, readPartitionTable } from './partition/table.ts'
import { describeRamdisk, readRamdisk } from './ramdisk/ramdisk.ts'
import { type Reading, readFrom, regionAt } from './reading.ts'

/** Everything that was recognised; nothing of it is there when nothing was. */
export interface GuestDescription {
  table?: PartitionTable
  /** What stands at the beginning: usually one thing. A hybrid optical volume has a table beside. */
  content: GuestContent[]
}

/** How much is read. */
export interface DescribeOptions {
  /** With these, packed ramdisks are read to their end; without, by their beginning. */
  codecs?: StreamCodecs | undefined
  /** Bytes that the segments of a ramdisk may unpack to. */
  mostUnpacked?: number | undefined
  signal?: AbortSignal | undefined
}

/** Partitions that are looked into. */
const mostPartitions = 128
/** How far into a source is looked whose bytes must all be unpacked before. */
const withinSequential = 1024 * 1024

/** Recognises what a source holds; a disk of any format is one. Few small regions are read, a ramdisk (with `codecs`) to its end. What is damaged is described as far as it goes.
 *  @throws MoraineError what reading throws. */
export async function describeGuest(source: ByteSource, options: DescribeOptions = {}): Promise<GuestDescription> {
  const { signal, codecs } = options
  const within = source.sequential === true ? withinSequential : undefined
  const description = await readFrom(source, readGuest(), { signal, within })
  const [first] = description.content
  if (codecs !== undefined && first?.kind === 'ramdisk' && first.format === 'cpio' && source.sequential !== true) {
    const whole = await describeRamdisk(source, { ...options, codecs })
    if (whole !== undefined) description.content[0] = whole
  }
  return description
}

function* readGuest(): Reading<GuestDescription> {
  const boot = (yield* readRamdisk()) ?? (yield* readKernel())
  if (boot !== undefined) return { content: [boot] }
  const content = yield* readFileSystems()
  const table = yield* readPartitionTable()
  if (table === undefined) return { content }
  yield* readPartitionContents(table, mostPartitions)
  return { table, content }
}

/** A description as plain data, its names with dashes; sizes and offsets are bytes. Undefined where nothing was recognised. */
export function guestData({ table, content }: GuestDescription): Record<string, DetailValue> | undefined {
  if (table === undefined && content.length === 0) return undefined
  const data = factsOf({
    partitionTable: table === undefined ? undefined : tableData(table),
    content: content.length === 0 ? undefined : content.map(contentData),
  })
  return dashed(data) as Record<string, DetailValue>
}

function tableData({ scheme, id, sectorSize, bootCode, fault, partitions }: PartitionTable): DetailValue {
  return factsOf({
    scheme,
    id,
    sectorSize,
    bootCode,
    fault,
    partitions: partitions.map(({ content, ...partition }) =>
      factsOf({ ...partition, content: content.length === 0 ? undefined : content.map(contentData) }),
    ),
  })
}

function contentData({ kind, format, subformat, facts }: GuestContent): DetailValue {
  return factsOf({ kind, format, subformat, ...facts })
}

/** As in `sector-size` for `sectorSize`. */
function dashed(value: DetailValue): DetailValue {
  if (Array.isArray(value)) return value.map(dashed)
  if (typeof value !== 'object') return value
  const names = Object.entries(value).map(([name, inner]): [string, DetailValue] => [
    name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`),
    dashed(inner),
  ])
  return Object.fromEntries(names)
}

/** What kind of boot file the bytes are, for those who were told that they are one: `kernel` or `ramdisk` where that was recognised; `packed` where they are packed and what is inside cannot
 *  be told; `file-system` for what older ramdisks are; undefined for anything else.
 *  @throws MoraineError what reading throws. */
export async function bootKindOf(
  source: ByteSource,
  signal?: AbortSignal,
): Promise<'kernel' | 'ramdisk' | 'packed' | 'file-system' | undefined> {
  const { content } = await readFrom(source, readGuest(), { signal })
  for (const kind of ['ramdisk', 'kernel', 'file-system'] as const)
    if (content.some((each) => each.kind === kind)) return kind
  // Kernels of other systems are programs as any.
  if (content.some(({ kind }) => kind === 'program')) return 'kernel'
  return (await readFrom(source, isPacked(), { signal })) ? 'packed' : undefined
}

function* isPacked(): Reading<boolean> {
  return packingOf(yield* regionAt(0, 64)) !== undefined
}
