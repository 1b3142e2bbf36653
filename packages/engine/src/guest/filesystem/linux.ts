/** File systems that Linux makes: ext, XFS, Btrfs, F2FS, EROFS, SquashFS, cramfs, romfs, minix. Facts: Linux, include/uapi and fs/ of each; what tells ext2, ext3 and ext4
 *  apart is as libblkid has it. */
import { fields, isPower, latin1, nameAt, stands } from '../../bytes/header.ts'
import { u64le, viewOf } from '../../bytes/integers.ts'
import { factsOf, type GuestContent } from '../content.ts'
import { uuidAt } from './identity.ts'
import type { Regions } from './regions.ts'

const hasJournal = 4
const isJournal = 8
/** Features that ext2 and ext3 know: of `s_feature_incompat` and `s_feature_ro_compat`. */
const oldIncompatible = 0x16
const oldReadOnly = 7
const wide = 0x80

/** ext2, ext3, ext4, and journals of their own. */
export function readExt({ start }: Regions): GuestContent | undefined {
  const block = fields(start, 1024, 1024)
  if (block.getUint16(56, true) !== 0xef53 || block.getUint32(24, true) > 6 || block.getUint32(4, true) === 0)
    return undefined
  const [compatible, incompatible, readOnly] = [92, 96, 100].map((at) => block.getUint32(at, true)) as [
    number,
    number,
    number,
  ]
  const blockBytes = 1024 << block.getUint32(24, true)
  const high = (incompatible & wide) === 0 ? 0 : block.getUint32(0x150, true)
  const isNew = (incompatible & ~oldIncompatible) !== 0 || (readOnly & ~oldReadOnly) !== 0
  const old = (compatible & hasJournal) === 0 ? 'ext2' : 'ext3'
  const state = block.getUint16(58, true)
  return {
    kind: 'file-system',
    format: 'ext',
    subformat: (incompatible & isJournal) !== 0 ? 'journal' : isNew ? 'ext4' : old,
    evidence: '53 ef at 1080 and a sane superblock',
    facts: factsOf({
      label: nameAt(start, 1024 + 120, 16),
      uuid: uuidAt(start, 1024 + 104),
      blockSize: blockBytes,
      size: (high * 2 ** 32 + block.getUint32(4, true)) * blockBytes,
      lastMounted: nameAt(start, 1024 + 136, 64),
      state:
        (incompatible & 4) !== 0
          ? 'journal to be replayed'
          : (state & 2) !== 0
            ? 'errors'
            : (state & 1) !== 0
              ? 'clean'
              : 'not clean',
    }),
  }
}

/** XFS. */
export function readXfs({ start }: Regions): GuestContent | undefined {
  if (!stands(start, 'XFSB')) return undefined
  const view = fields(start, 0, 128)
  const blockBytes = view.getUint32(4)
  if (!isPower(blockBytes, 512, 65_536)) return undefined
  return {
    kind: 'file-system',
    format: 'xfs',
    subformat: `version ${view.getUint16(100) & 15}`,
    evidence: '"XFSB" at 0',
    facts: factsOf({
      label: nameAt(start, 108, 12),
      uuid: uuidAt(start, 32),
      blockSize: blockBytes,
      size: number(view.getBigUint64(8) * BigInt(blockBytes)),
    }),
  }
}

const btrfsAt = 0x10000

/** Btrfs. */
export function readBtrfs({ at64 }: Regions): GuestContent | undefined {
  const at = btrfsAt - at64.offset
  if (!stands(at64.bytes, '_BHRfS_M', at + 64)) return undefined
  const view = fields(at64.bytes, at, 0x22b)
  return {
    kind: 'file-system',
    format: 'btrfs',
    evidence: `"_BHRfS_M" at ${btrfsAt + 64}`,
    facts: factsOf({
      label: nameAt(at64.bytes, at + 0x12b, 256),
      uuid: uuidAt(at64.bytes, at + 32),
      blockSize: view.getUint32(0x90, true),
      size: finite(u64le(view, 0x70)),
      devices: finite(u64le(view, 0x88)),
      deviceUuid: uuidAt(at64.bytes, at + 0xc9 + 66),
    }),
  }
}

/** F2FS. */
export function readF2fs({ start }: Regions): GuestContent | undefined {
  if (!stands(start, '\x10\x20\xf5\xf2', 1024)) return undefined
  const view = fields(start, 1024, 1148)
  const blockBytes = 2 ** Math.min(view.getUint32(16, true), 16)
  return {
    kind: 'file-system',
    format: 'f2fs',
    subformat: `version ${view.getUint16(4, true)}.${view.getUint16(6, true)}`,
    evidence: '10 20 f5 f2 at 1024',
    facts: factsOf({
      label: utf16At(start, 1024 + 124, 512),
      uuid: uuidAt(start, 1024 + 108),
      blockSize: blockBytes,
      size: finite(u64le(view, 36) * blockBytes),
    }),
  }
}

/** EROFS. */
export function readErofs({ start }: Regions): GuestContent | undefined {
  if (!stands(start, '\xe2\xe1\xf5\xe0', 1024)) return undefined
  const view = fields(start, 1024, 128)
  const blockBytes = 2 ** Math.min(view.getUint8(12), 16)
  return {
    kind: 'file-system',
    format: 'erofs',
    evidence: 'e2 e1 f5 e0 at 1024',
    facts: factsOf({
      label: nameAt(start, 1024 + 64, 16),
      uuid: uuidAt(start, 1024 + 48),
      blockSize: blockBytes,
      size: view.getUint32(36, true) * blockBytes,
    }),
  }
}

const squashfsPackings = ['none', 'gzip', 'lzma', 'lzo', 'xz', 'lz4', 'zstd']

/** SquashFS. */
export function readSquashfs({ start }: Regions): GuestContent | undefined {
  if (!stands(start, 'hsqs')) return undefined
  const view = fields(start, 0, 96)
  return {
    kind: 'file-system',
    format: 'squashfs',
    subformat: `version ${view.getUint16(28, true)}.${view.getUint16(30, true)}`,
    evidence: '"hsqs" at 0',
    facts: factsOf({
      blockSize: view.getUint32(12, true),
      size: finite(u64le(view, 40)),
      packing: squashfsPackings[view.getUint16(20, true)],
      made: new Date(view.getUint32(8, true) * 1000).toISOString(),
    }),
  }
}

/** cramfs and romfs, which old ramdisks are made of. */
export function readSmall({ start }: Regions): GuestContent | undefined {
  const view = fields(start, 0, 64)
  if (stands(start, '\x45\x3d\xcd\x28')) {
    return {
      kind: 'file-system',
      format: 'cramfs',
      evidence: '45 3d cd 28 at 0',
      facts: factsOf({ label: nameAt(start, 48, 16), size: view.getUint32(4, true) }),
    }
  }
  if (!stands(start, '-rom1fs-')) return undefined
  return {
    kind: 'file-system',
    format: 'romfs',
    evidence: '"-rom1fs-" at 0',
    facts: factsOf({ label: nameAt(start, 16, 16), size: view.getUint32(8) }),
  }
}

const minixVersions: Readonly<Record<number, number>> = { 4991: 1, 5007: 1, 9320: 2, 9336: 2 }

/** minix. Its signature is short, so its superblock must have sense. */
export function readMinix({ start }: Regions): GuestContent | undefined {
  const view = fields(start, 1024, 32)
  const version = minixVersions[view.getUint16(16, true)]
  const zones = version === 1 ? view.getUint16(2, true) : view.getUint32(20, true)
  const sane =
    view.getUint16(0, true) > 0 &&
    view.getUint16(4, true) > 0 &&
    view.getUint16(6, true) > 0 &&
    zones > 0 &&
    view.getUint16(10, true) === 0
  if (version === undefined || !sane) return undefined
  return {
    kind: 'file-system',
    format: 'minix',
    subformat: `version ${version}`,
    evidence: `${latin1Hex(start, 1040)} at 1040 and a sane superblock`,
    facts: { size: zones * 1024 },
  }
}

function latin1Hex(bytes: Uint8Array, at: number): string {
  return [...latin1(bytes, at, at + 2)].map((byte) => byte.charCodeAt(0).toString(16).padStart(2, '0')).join(' ')
}

/** A number, where one can hold it. */
export function finite(value: number): number | undefined {
  return Number.isSafeInteger(value) ? value : undefined
}

function number(value: bigint): number | undefined {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : undefined
}

/** A text in UTF-16, up to its first zero. */
export function utf16At(bytes: Uint8Array, at: number, units: number): string {
  const part = bytes.subarray(at, at + units * 2)
  const view = viewOf(part)
  let length = 0
  while (length + 2 <= part.length && view.getUint16(length, true) !== 0) length += 2
  return nameAt(new TextEncoder().encode(new TextDecoder('utf-16le').decode(part.subarray(0, length))), 0, 1024)
}
