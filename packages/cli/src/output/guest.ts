/** What a disk holds, for people: its partitions, its file system, or that it is a kernel or a ramdisk. */
import {
  type Disk,
  describeGuest,
  type GuestContent,
  type GuestDescription,
  guestData,
  type Partition,
} from '@moraine/engine'
import { streamCodecs } from '../wrappers.ts'
import { sizeText } from './size.ts'

/** What was found, for people and for programs. */
export interface GuestFacts {
  lines: string[]
  data: ReturnType<typeof guestData>
}

/** Looks at a disk.
 *  @throws MoraineError what reading throws. */
export async function readGuestFacts(disk: Disk, signal: AbortSignal): Promise<GuestFacts> {
  const description = await describeGuest(disk, { codecs: streamCodecs(), signal })
  return { lines: guestLines(description), data: guestData(description) }
}

/** Lines for `info`; none where nothing was recognised. */
function guestLines({ table, content }: GuestDescription): string[] {
  const lines = content.flatMap((each) => [`content: ${contentText(each)}`, ...factLines(each)])
  if (table === undefined) return lines
  const { scheme, id, bootCode, fault, partitions } = table
  const facts = [
    scheme === 'gpt' ? 'GPT' : 'MBR',
    ...(id === '' ? [] : [id]),
    ...(bootCode === undefined ? [] : [`boot code: ${bootCode}`]),
    ...(fault === undefined ? [] : [fault]),
  ]
  return [...lines, `partition table: ${facts.join(', ')}`, ...partitions.map(partitionLine)]
}

function partitionLine({ number, size, offset, type, typeName = type, name, bootable, content }: Partition): string {
  const title = name === undefined || name === typeName ? typeName : `${typeName} "${name}"`
  const held = content.length === 0 ? '' : `: ${content.map(contentText).join(' and ')}`
  return `    p${number}: ${sizeText(size)} at ${sizeText(offset)}, ${title}${bootable === true ? ', bootable' : ''}${held}`
}

/** As in `ext4 "root" (2f500521-…)`. */
function contentText({ kind, format, subformat, facts }: GuestContent): string {
  const { label, uuid, release, architecture } = facts
  const own =
    subformat === undefined || format === subformat
      ? format
      : /^(ext\d|FAT\d+)$/.test(subformat)
        ? subformat
        : `${format} (${subformat})`
  return [
    own,
    ...(kind === 'kernel' ? [release, architecture] : []),
    ...(label === undefined ? [] : [`"${label}"`]),
    ...(uuid === undefined ? [] : [`(${uuid})`]),
  ]
    .filter((part) => part !== undefined)
    .join(' ')
}

/** What is told of a kernel or a ramdisk besides its title. */
function factLines({ kind, facts }: GuestContent): string[] {
  if (kind !== 'kernel' && kind !== 'ramdisk') return []
  return Object.entries(facts).flatMap(([name, value]): string[] => {
    const words = name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)
    if (name === 'segments' && Array.isArray(value))
      return value.map((segment, index) => `    segment ${index}: ${inline(segment)}`)
    return [`    ${words}: ${inline(value)}`]
  })
}

function inline(value: unknown): string {
  if (Array.isArray(value)) return value.map(inline).join(', ')
  if (typeof value !== 'object' || value === null) return String(value)
  return Object.entries(value)
    .map(([name, inner]) => `${name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`)} ${inline(inner)}`)
    .join(', ')
}
