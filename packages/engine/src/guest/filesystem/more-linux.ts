/** Further file systems of Linux, and pools of ZFS: ReiserFS, JFS, NILFS2. Facts: Linux 5.19, fs/reiserfs/reiserfs.h; fs/jfs/jfs_superblock.h; include/uapi/linux/nilfs2_ondisk.h;
 *  Sun, "ZFS On-Disk Specification", chapter 1. Which labels and UUIDs count is as libblkid has it. */
import { fields, isPower, latin1, name, nameAt, stands } from '../../bytes/header.ts'
import { u64le } from '../../bytes/integers.ts'
import { factsOf, type GuestContent } from '../content.ts'
import { uuidAt } from './identity.ts'
import { finite } from './linux.ts'
import type { Regions } from './regions.ts'

const reiserMagics: readonly (readonly [magic: string, version: string])[] = [
  ['ReIsErFs', '3.5'],
  ['ReIsEr2Fs', '3.6'],
  ['ReIsEr3Fs', 'journal elsewhere'],
]
const reiserAt = 65_536

/** ReiserFS, as it was made since 1999. */
export function readReiser({ at64 }: Regions): GuestContent | undefined {
  const at = reiserAt - at64.offset
  const found = reiserMagics.find(([magic]) => stands(at64.bytes, magic, at + 52))
  if (found === undefined) return undefined
  const view = fields(at64.bytes, at, 128)
  const blockBytes = view.getUint16(44, true)
  if (!isPower(blockBytes, 512, 32_768)) return undefined
  const [magic, version] = found
  const isOld = version === '3.5'
  return {
    kind: 'file-system',
    format: 'reiserfs',
    subformat: `version ${version}`,
    evidence: `"${magic}" at ${reiserAt + 52}`,
    facts: factsOf({
      label: isOld ? '' : nameAt(at64.bytes, at + 100, 16),
      uuid: isOld ? '' : uuidAt(at64.bytes, at + 84),
      blockSize: blockBytes,
      size: view.getUint32(0, true) * blockBytes,
      state: view.getUint16(50, true) === 1 ? 'clean' : 'not clean',
    }),
  }
}

/** JFS. */
export function readJfs({ at32 }: Regions): GuestContent | undefined {
  if (!stands(at32.bytes, 'JFS1')) return undefined
  const view = fields(at32.bytes, 0, 184)
  const [blockBytes, sectorBytes] = [view.getUint32(16, true), view.getUint32(24, true)]
  if (!isPower(blockBytes, 512, 4096) || 2 ** view.getUint16(20, true) !== blockBytes) return undefined
  if (!isPower(sectorBytes, 512, blockBytes)) return undefined
  return {
    kind: 'file-system',
    format: 'jfs',
    subformat: `version ${view.getUint32(4, true)}`,
    evidence: `"JFS1" at ${at32.offset}`,
    facts: factsOf({
      label: nameAt(at32.bytes, 152, 16),
      uuid: uuidAt(at32.bytes, 136),
      blockSize: blockBytes,
      size: finite(u64le(view, 8) * sectorBytes),
    }),
  }
}

/** NILFS2. Its signature is short, so its superblock must have sense. */
export function readNilfs({ start }: Regions): GuestContent | undefined {
  const view = fields(start, 1024, 280)
  const shift = view.getUint32(20, true)
  const bytes = view.getUint16(8, true)
  if (view.getUint16(6, true) !== 0x3434 || shift > 6 || bytes < 200 || bytes > 1024) return undefined
  return {
    kind: 'file-system',
    format: 'nilfs2',
    subformat: `version ${view.getUint32(0, true)}`,
    evidence: '34 34 at 1030 and a sane superblock',
    facts: factsOf({
      label: nameAt(start, 1024 + 168, 80),
      uuid: uuidAt(start, 1024 + 152),
      blockSize: 1024 << shift,
      size: finite(u64le(view, 32)),
    }),
  }
}

/** Pairs of the outer list that are looked at: those that count come first. */
const mostPairs = 64
const [xdrUint64, xdrString] = [8, 9]

/** A device of a pool of ZFS, by the list of names and values in its first label. */
export function readZfs({ at16: { offset, bytes } }: Regions): GuestContent | undefined {
  // In XDR, and its bytes say so; a list of unique names.
  if (!stands(bytes, '\x01') || (bytes[1] ?? 2) > 1 || !stands(bytes, '\0\0\0\0\0\0\0\0\0\x01', 2)) return undefined
  const pairs = readPairs(bytes)
  const [version, pool, device] = ['version', 'pool_guid', 'guid'].map((key) => pairs.get(key))
  if (typeof version !== 'bigint' || typeof pool !== 'bigint' || typeof device !== 'bigint') return undefined
  const state = Number(pairs.get('state') ?? -1n)
  return {
    kind: 'volume',
    format: 'zfs',
    subformat: `version ${version}`,
    evidence: `a label with a pool's GUID at ${offset}`,
    facts: factsOf({
      label: name(String(pairs.get('name') ?? '')),
      uuid: String(pool),
      deviceUuid: String(device),
      state: ['active', 'exported', 'destroyed', 'spare', 'cache'][state],
    }),
  }
}

/** Numbers and texts of the outer list: each pair with its length before it, so that what is not known is passed over. */
function readPairs(bytes: Uint8Array): Map<string, bigint | string> {
  const pairs = new Map<string, bigint | string>()
  for (let at = 12, count = 0; at + 20 <= bytes.length && count < mostPairs; count++) {
    const view = fields(bytes, at, 12)
    const [length, nameBytes] = [view.getUint32(0), view.getUint32(8)]
    const valueAt = at + 12 + Math.ceil(nameBytes / 4) * 4
    if (length < 20 || nameBytes === 0 || nameBytes > 64 || valueAt + 8 > at + length) break
    const key = latin1(bytes, at + 12, at + 12 + nameBytes)
    const value = fields(bytes, valueAt, 16)
    if (value.getUint32(0) === xdrUint64) pairs.set(key, value.getBigUint64(8))
    if (value.getUint32(0) === xdrString) pairs.set(key, nameAt(bytes, valueAt + 12, Math.min(value.getUint32(8), 256)))
    at += length
  }
  return pairs
}
