/** `info`: what an image is. */
import {
  type Container,
  type Disk,
  type DiskInfo,
  isMoraineError,
  type MemberFacts,
  memberOf,
  type WrappingFacts,
  wrappingOf,
} from '@moraine/engine'
import { isOtherDriver } from '../drivers.ts'
import { Failure } from '../failure.ts'
import { fullNameIfAny } from '../full-name.ts'
import { openImage, refuseBacking } from '../open.ts'
import type { GuestFacts } from '../output/guest.ts'
import { type JsonValue, toPrettyJson } from '../output/json.ts'
import { sizeText } from '../output/size.ts'
import { detailLines, snapshotHead, snapshotJson, snapshotLine } from '../output/table.ts'
import { type Context, defineVerb } from '../verb.ts'
import { wrappingText } from '../wrappers.ts'
import { forceShare, format, imageOpts, object, oneImage, outputFormat, trust, wantsJson } from './common.ts'

/** The facts of one image of a chain. */
interface ImageFacts {
  filename: string
  /** Bytes on the host. */
  actualSize: number | undefined
  /** Where the backing file is, as the image names it. */
  fullBackingName: string | undefined
  info: DiskInfo
  /** What the guest finds on it, as far as it was looked at. */
  guest: GuestFacts | undefined
  /** What stands around it. */
  wrapping: { facts: WrappingFacts; text: string } | undefined
  /** The container that it lies in. */
  member: MemberFacts | undefined
}

export const verb = defineVerb({
  name: 'info',
  summary: 'Show what an image is: format, sizes, backing file, snapshots',
  operands: 'FILE',
  syntax: '[--object objectdef] [--image-opts] [-f fmt] [--output=ofmt] [--backing-chain] [-U] filename',
  about:
    'Prints the facts of an image, and what a guest finds on it: partitions, file systems, or that it is a kernel or a ramdisk. No other file is opened: a backing file is named, not followed, ' +
    'unless --backing-chain is given.',
  examples: [
    ['moraine info disk.qcow2', 'one image, for people'],
    ['moraine info --output=json --backing-chain top.qcow2', 'the whole chain, for programs'],
  ],
  options: {
    object,
    ...trust,
    imageOpts,
    format: { ...format, long: 'format' },
    output: outputFormat,
    chain: { long: 'backing-chain', help: 'Show the backing files too, down to the last.' },
    forceShare,
  },
  async run(values, operands, context) {
    const filename = oneImage(operands)
    const json = wantsJson(values.output)
    const containers: Container[] = []
    const seen = (container: Container) => containers.push(container)
    let chain: ImageFacts[] = []
    try {
      chain = await readChain(context, filename, values, seen)
    } catch (error) {
      // A machine with several disks, or none, is a machine all the same.
      if (containers.length === 0 || !(error instanceof Failure)) throw error
      const { isMachine } = await import('../ova/describe.ts')
      if (!containers.some(isMachine)) throw error
      if (!/holds (?:no disk|\d+ disks)/.test(error.message)) context.warn(error.message)
    }
    const machines =
      containers.length === 0 ? undefined : (await import('../ova/describe.ts')).describeMachines(containers)
    if (!json)
      context.out.write([...chain.map(humanText), ...(machines === undefined ? [] : [machines.text])].join('\n'))
    else if (values.chain) context.out.write(`${toPrettyJson(chain.map(jsonOf))}\n`)
    else context.out.write(`${toPrettyJson({ ...(chain.map(jsonOf)[0] ?? { filename }), ...machines?.json })}\n`)
    return 0
  },
})

interface ChainValues {
  format: string | undefined
  chain: boolean
  forceShare: boolean
  imageOpts: boolean
}

async function readChain(
  context: Context,
  filename: string,
  { format: formatName, chain: whole, forceShare, imageOpts: opts }: ChainValues,
  onContainer: (container: Container) => void,
): Promise<ImageFacts[]> {
  const chain: ImageFacts[] = []
  const names = new Set<string>()
  let next: { name: string; format: string | undefined } | undefined = { name: filename, format: formatName }
  while (next !== undefined) {
    const { name } = next
    if (names.has(name)) {
      throw new Failure(`Backing file '${name}' creates an infinite loop.`)
    }
    names.add(name)
    const disk = await openImage(context, name, {
      use: 'info',
      format: next.format,
      forceShare,
      imageOpts: opts && chain.length === 0,
      onContainer,
    })
    let facts: ImageFacts
    try {
      facts = await readFacts(disk, context)
    } finally {
      await disk.close()
    }
    chain.push(facts)
    const { fullBackingName: backing, info } = facts
    if (whole && backing === undefined && info.backing !== undefined) {
      throw new Failure(
        `Could not determine absolute backing filename, but backing filename '${info.backing.name}' present`,
      )
    }
    if (whole && backing !== undefined) {
      refuseBacking(context, { from: facts.filename, name: info.backing?.name ?? backing }, backing)
    }
    next = whole && backing !== undefined ? { name: backing, format: info.backing?.format } : undefined
  }
  return chain
}

async function readFacts(disk: Disk, { persona, signal }: Context): Promise<ImageFacts> {
  const info = disk.info()
  // A filter names no backing file itself.
  if (isOtherDriver(info.format)) info.backing = undefined
  if (info.dirty === true && persona.taciturn.includes(info.format)) info.dirty = false
  info.format = persona.nameOf(info.format)
  if (info.backing?.format !== undefined) info.backing.format = persona.nameOf(info.backing.format)
  const filename = disk.file.name
  const named = info.backing?.name
  return {
    filename,
    actualSize: await actualSize(disk),
    fullBackingName: named === undefined ? undefined : fullNameIfAny({ from: filename, name: named }),
    info,
    guest: persona.details ? await guestOf(disk, info, signal) : undefined,
    wrapping: wrappingFacts(disk),
    member: memberOf(disk.file),
  }
}

/** What the guest finds on the disk, where the image alone can tell: what another file or a key decides is not looked at. A disk that cannot be read has facts all the same. */
async function guestOf(disk: Disk, info: DiskInfo, signal: AbortSignal): Promise<GuestFacts | undefined> {
  if (info.backing !== undefined || info.encrypted === true) return undefined
  try {
    if (await isEmpty(disk, signal)) return undefined
    const { readGuestFacts } = await import('../output/guest.ts')
    return await readGuestFacts(disk, signal)
  } catch (error) {
    if (isMoraineError(error) && error.kind !== 'cancelled') return undefined
    throw error
  }
}

/** Whether it can be told at the first look that all of a disk is zeros, so that what looks for a guest's content need not load. */
async function isEmpty(disk: Disk, signal: AbortSignal): Promise<boolean> {
  for await (const batch of disk.extents(0, disk.size, signal)) {
    const last = batch[batch.length - 1]
    const isWhole = last !== undefined && last.offset + last.length === disk.size
    if (!isWhole) return false
    for (const { allocated, zero } of batch) if (allocated && !zero) return false
    return true
  }
  return true
}

function wrappingFacts({ file }: Disk): ImageFacts['wrapping'] {
  const facts = wrappingOf(file)
  const text = wrappingText(file)
  return facts === undefined || text === undefined ? undefined : { facts, text }
}

async function actualSize(disk: Disk): Promise<number | undefined> {
  // A server does not tell what its export takes.
  if (disk.file.allocatedSize === undefined) return undefined
  try {
    return await disk.allocatedSize?.()
  } catch (error) {
    if (isMoraineError(error)) return undefined
    throw error
  }
}

/** Formats of which QEMU 7.2 does not say whether they were closed. */
const silent = new Set(['parallels', 'bochs', 'cloop', 'dmg', 'null-co', 'null-aio', 'nbd'])

/** Nor of what lies plain on another machine. */
function isSilent(format: string, filename: string): boolean {
  return silent.has(format) || (format === 'raw' && /^(nbds?|https?)[+:]/.test(filename))
}

/** The members in the order of QEMU's `ImageInfo`. */
function jsonOf({
  filename,
  actualSize: actual,
  fullBackingName,
  info,
  guest,
  wrapping,
  member,
}: ImageFacts): Record<string, JsonValue | undefined> {
  return {
    filename,
    format: info.format,
    wrapping: wrapping === undefined ? undefined : wrappingJson(wrapping.facts),
    container: member === undefined ? undefined : { format: member.container, member: member.member },
    'dirty-flag': info.dirty ?? (isSilent(info.format, filename) ? undefined : false),
    'actual-size': actual,
    'virtual-size': info.virtualSize,
    'cluster-size': info.clusterSize,
    encrypted: info.encrypted,
    compressed: info.compressed,
    'backing-filename': info.backing?.name,
    'full-backing-filename': fullBackingName,
    'backing-filename-format': info.backing?.format,
    snapshots: info.snapshots.length === 0 ? undefined : info.snapshots.map(snapshotJson),
    'format-specific': info.details,
    guest: guest?.data,
  }
}

function wrappingJson({ wrapper, member, packedSize, sizeFrom }: WrappingFacts): JsonValue {
  return { wrapper, member, 'packed-size': packedSize, 'size-from': sizeFrom }
}

function humanText({
  filename,
  actualSize: actual,
  fullBackingName,
  info,
  guest,
  wrapping,
  member,
}: ImageFacts): string {
  const lines = [
    `image: ${filename}`,
    `file format: ${info.format}`,
    `virtual size: ${sizeText(info.virtualSize)} (${info.virtualSize} bytes)`,
    `disk size: ${actual === undefined ? 'unavailable' : sizeText(actual)}`,
  ]
  if (member !== undefined) lines.push(`container: ${member.container}, member ${member.member}`)
  if (wrapping !== undefined) lines.push(`packed with: ${wrapping.text}`)
  if (info.encrypted === true) lines.push('encrypted: yes')
  if (info.clusterSize !== undefined) lines.push(`cluster_size: ${info.clusterSize}`)
  if (info.dirty === true) lines.push('cleanly shut down: no')
  if (info.backing !== undefined) {
    const { name, format: backingFormat } = info.backing
    const where = fullBackingName === undefined ? 'cannot determine actual path' : `actual path: ${fullBackingName}`
    lines.push(`backing file: ${name}${fullBackingName === name ? '' : ` (${where})`}`)
    if (backingFormat !== undefined) lines.push(`backing file format: ${backingFormat}`)
  }
  if (info.snapshots.length > 0) lines.push('Snapshot list:', snapshotHead, ...info.snapshots.map(snapshotLine))
  const details = info.details === undefined ? '' : `Format specific information:\n${detailLines(info.details.data, 1)}`
  return `${lines.join('\n')}\n${details}${(guest?.lines ?? []).map((line) => `${line}\n`).join('')}`
}
