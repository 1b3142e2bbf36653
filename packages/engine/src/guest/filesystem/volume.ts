/** What holds no files by itself, or hides them: swap, LVM, RAID, LUKS; and optical volumes. Facts: Linux, include/linux/swap.h and include/uapi/linux/raid/md_p.h; LVM2,
 *  lib/format_text/layout.h; LUKS1 and LUKS2 on-disk formats. */
import { fields, latin1, name, nameAt, stands } from '../../bytes/header.ts'
import { u64le } from '../../bytes/integers.ts'
import { isoKind, isoSector, readIsoVolume } from '../../format/iso/volume.ts'
import { factsOf, type GuestContent } from '../content.ts'
import { uuidAt } from './identity.ts'
import { finite } from './linux.ts'
import { opticalHead, type Regions } from './regions.ts'

const signatureBytes = 10

/** Swap space of Linux, for pages of 4 to 64 KiB. */
export function readSwap({ start, at64 }: Regions): GuestContent | undefined {
  const page = [4096, 8192].find((bytes) => stands(start, 'SWAPSPACE2', bytes - signatureBytes))
  const large = stands(at64.bytes, 'SWAPSPACE2', 65_536 - signatureBytes - at64.offset) ? 65_536 : undefined
  const pageBytes = page ?? large
  if (pageBytes === undefined) return undefined
  const last = fields(start, 1024, 16).getUint32(4, true)
  return {
    kind: 'volume',
    format: 'swap',
    evidence: `"SWAPSPACE2" at ${pageBytes - signatureBytes}`,
    facts: factsOf({
      label: nameAt(start, 1052, 16),
      uuid: uuidAt(start, 1036),
      pageSize: pageBytes,
      size: (last + 1) * pageBytes,
    }),
  }
}

/** A physical volume of LVM2. */
export function readLvm({ start }: Regions): GuestContent | undefined {
  const at = [0, 512, 1024, 1536].find(
    (from) => stands(start, 'LABELONE', from) && stands(start, 'LVM2 001', from + 24),
  )
  if (at === undefined) return undefined
  const headerAt = at + fields(start, at + 20, 4).getUint32(0, true)
  const id = latin1(start, headerAt, headerAt + 32)
  return {
    kind: 'volume',
    format: 'lvm2',
    evidence: '"LABELONE" and "LVM2 001" in the first four sectors',
    facts: factsOf({
      uuid: /^\w{32}$/.test(id)
        ? [0, 6, 10, 14, 18, 22, 26].map((from, index, all) => id.slice(from, all[index + 1] ?? 32)).join('-')
        : '',
      size: finite(u64le(fields(start, headerAt + 32, 8), 0)),
    }),
  }
}

const raidMagic = '\xfc\x4e\x2b\xa9'

/** A member of Linux's software RAID, where its superblock stands at the beginning (1.1 and 1.2). */
export function readRaid({ start }: Regions): GuestContent | undefined {
  const at = [0, 4096].find(
    (from) => stands(start, raidMagic, from) && fields(start, from + 4, 4).getUint32(0, true) === 1,
  )
  if (at === undefined) return undefined
  const level = fields(start, at + 72, 4).getInt32(0, true)
  return {
    kind: 'volume',
    format: 'linux-raid',
    subformat: at === 0 ? '1.1' : '1.2',
    evidence: `fc 4e 2b a9 at ${at}`,
    facts: factsOf({ label: nameAt(start, at + 32, 32), uuid: uuidAt(start, at + 16), level }),
  }
}

/** LUKS, also within a partition. */
export function readLuks({ start }: Regions): GuestContent | undefined {
  if (!stands(start, 'LUKS\xba\xbe')) return undefined
  const version = fields(start, 6, 2).getUint16(0)
  return {
    kind: 'volume',
    format: 'luks',
    subformat: `version ${version}`,
    evidence: '"LUKS\\xba\\xbe" at 0',
    facts: factsOf({ label: version === 2 ? nameAt(start, 24, 48) : '', uuid: name(latin1(start, 168, 208)) }),
  }
}

/** An optical volume that stands where a file system may stand. */
export function readOptical(regions: Regions): GuestContent | undefined {
  const head = opticalHead(regions)
  const volume = readIsoVolume(head)
  const primary = volume?.primary
  // UDF alone has labels of its own.
  if (volume === undefined || primary === undefined) return undefined
  return {
    kind: 'file-system',
    format: 'iso9660',
    subformat: isoKind(volume),
    evidence: `"${volume.identifier}" at ${16 * isoSector + 1}`,
    facts: factsOf({
      label: volume.label,
      uuid: isoDate(head),
      size: primary.getUint32(80, true) * primary.getUint16(128, true),
    }),
  }
}

/** The date of the last change, or of creation, by which blkid knows a volume. */
function isoDate(head: Uint8Array): string {
  const date = [830, 813]
    .map((at) => latin1(head, 16 * isoSector + at, 16 * isoSector + at + 16))
    .find((text) => /^\d{16}$/.test(text) && !/^0+$/.test(text))
  return date === undefined
    ? ''
    : [0, 4, 6, 8, 10, 12, 14].map((from, index, all) => date.slice(from, all[index + 1] ?? 16)).join('-')
}
