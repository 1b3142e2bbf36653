/** Safety of VMDK: its descriptor is text that may name any file of the host (CVE-2022-47951). Rules: OpenStack's format inspector. */
import { checkedSize, type Finding, type ReadAt } from './finding.ts'

const sector = 512
const mostDescriptorBytes = 1024 * 1024 - 1
const footerBytes = 1536
const atEnd = 0xffff_ffff_ffff_ffffn
const accepted = new Set(['monolithicsparse', 'streamoptimized'])

/** Whether the bytes are a VMDK descriptor on its own: text, with a `createType`, up to the end or to NULs. */
export function isVmdkText(head: Buffer): boolean {
  const start = head.subarray(0, sector)
  const nul = start.indexOf(0)
  const text = nul < 0 ? start : start.subarray(0, nul)
  if (text.length === 0 || text.some((byte) => byte > 126 || (byte < 32 && (byte < 9 || byte > 13)))) return false
  return /createtype\s*=\s*"/i.test(head.subarray(0, 64 * 1024).toString('latin1'))
}

/** A descriptor on its own names further files, always. */
export function inspectVmdkText(): Finding {
  return { format: 'vmdk', dangers: ['it is a descriptor that names other files'] }
}

/** @param head The first bytes, beginning with `KDMV`. @param size Bytes of the whole data. */
export async function inspectVmdkSparse(head: Buffer, size: number, read: ReadAt): Promise<Finding> {
  if (head.length < sector) return { format: 'vmdk', dangers: ['the header is cut'] }
  const version = head.readUInt32LE(4)
  const dangers: string[] = []
  if (version < 1 || version > 3) dangers.push(`version ${version} is not known`)
  const descriptorSector = head.readBigUInt64LE(28)
  if (descriptorSector !== 1n) return { format: 'vmdk', dangers: [...dangers, 'the descriptor is not in sector 1'] }
  const length = Math.min(Number(head.readBigUInt64LE(36)) * sector, mostDescriptorBytes, size - sector)
  const descriptor = length > 0 ? await read(sector, length) : undefined
  dangers.push(...(descriptor === undefined ? ['there is no descriptor'] : judgeDescriptor(descriptor)))
  if (head.readBigUInt64LE(56) === atEnd) dangers.push(...(await judgeFooter(head, size, read)))
  const capacity = checkedSize(head.readBigUInt64LE(12) * BigInt(sector))
  return { format: 'vmdk', dangers, virtualSize: capacity }
}

function judgeDescriptor(bytes: Buffer): string[] {
  const nul = bytes.indexOf(0)
  const content = nul < 0 ? bytes : bytes.subarray(0, nul)
  if (content.length === 0) return ['there is no descriptor']
  if (content.some((byte) => byte > 126)) return ['the descriptor is not plain text']
  const lines = content
    .toString('latin1')
    .toLowerCase()
    .split('\n')
    .map((line) => line.trim())
  const dangers: string[] = []
  const types = lines.flatMap((line) => /^createtype\s*=\s*"?([^"]*)"?$/.exec(line)?.[1] ?? [])
  const extents = lines.filter((line) => /^(rw|rdonly|noaccess)\s/.test(line))
  const strange = lines.find((line) => !extents.includes(line) && !/^(#.*|ddb.*|[\w.]+\s*=.*)?$/.test(line))
  const [type, ...others] = types
  if (type === undefined || others.length > 0) dangers.push('the descriptor does not say what it is')
  else if (!accepted.has(type)) dangers.push(`the subformat ${JSON.stringify(type)} is not taken`)
  if (extents.length === 0) dangers.push('the descriptor has no extent')
  if (extents.some((line) => line.includes('/'))) dangers.push('an extent names a file in another folder')
  if (strange !== undefined) dangers.push('the descriptor has a line of no known kind')
  if (lines.some((line) => line.startsWith('parentfilenamehint'))) dangers.push('it names a parent')
  return dangers
}

async function judgeFooter(head: Buffer, size: number, read: ReadAt): Promise<string[]> {
  const tail = await read(size - footerBytes, footerBytes)
  if (tail === undefined) return ['the footer is missing']
  const footer = tail.subarray(sector, 2 * sector)
  const marker = tail.readUInt32LE(12) === 3 && tail.readBigUInt64LE(0) === 1n
  const ends = tail.subarray(2 * sector).every((byte) => byte === 0)
  // Magic, and offset and size of the descriptor.
  const agrees =
    footer.subarray(0, 4).equals(head.subarray(0, 4)) && footer.subarray(28, 44).equals(head.subarray(28, 44))
  const placed = footer.readBigUInt64LE(56) !== atEnd
  return marker && ends && agrees && placed ? [] : ['header and footer do not agree']
}
