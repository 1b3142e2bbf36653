/** The shared state of one open qcow2 image: file, header, geometry, active L1 table, metadata pages. */

import { roundDown, viewOf } from '../../bytes/integers.ts'
import {
  type ByteSource,
  type ByteStore,
  type DetailValue,
  type ErrorKind,
  isStore,
  type Limits,
  MoraineError,
  readPadded,
  retelling,
} from '../../core/index.ts'
import type { OpenContext } from '../format.ts'
import { type BitmapEntry, readBitmapDirectory } from './bitmap-directory.ts'
import type { ClusterCrypt } from './crypt.ts'
import { parseHeader } from './header.ts'
import { autoclear, entry, type Geometry, geometryOf, type Header, incompatible } from './layout.ts'
import { MetadataCache } from './metadata-cache.ts'
import { readSnapshotTable, type Snapshot } from './snapshot-table.ts'

/** An L1 table in memory. It is the one table that is held whole; QEMU's bound of 32 MiB holds. */
export class L1Table {
  /** Byte offset in the file; 0 when the table is empty. */
  offset: number
  bytes: Uint8Array
  view: DataView

  constructor(offset: number, bytes: Uint8Array) {
    this.offset = offset
    this.bytes = bytes
    this.view = viewOf(bytes)
  }

  /** Number of entries. */
  get size(): number {
    return this.bytes.length / 8
  }

  /** Host offset of the L2 table of an entry; 0 when there is none. Exact: its lower nine bits are zero, though it may pass 2^53. */
  l2Offset(index: number): number {
    const upper = this.view.getUint32(index * 8) & entry.offsetHigh
    return upper * 0x1_0000_0000 + ((this.view.getUint32(index * 8 + 4) & entry.offsetLow) >>> 0)
  }

  /** Whether the entry's L2 table belongs to this table alone. */
  isCopied(index: number): boolean {
    return this.view.getUint32(index * 8) >= entry.copied
  }

  /** Points an entry at an L2 table that belongs to this table alone, or at none. */
  set(index: number, l2Offset: number): void {
    const upper = Math.floor(l2Offset / 0x1_0000_0000)
    this.view.setUint32(index * 8, l2Offset === 0 ? 0 : (upper | entry.copied) >>> 0)
    this.view.setUint32(index * 8 + 4, l2Offset % 0x1_0000_0000)
  }
}

/** What reading and writing share. */
export interface Qcow2Image {
  readonly file: ByteSource
  /** The same file, when it can be written. */
  readonly store: ByteStore | undefined
  /** Where guest clusters lie: the file, or the external data file. */
  data: ByteSource
  readonly context: OpenContext
  readonly limits: Limits
  header: Header
  readonly geometry: Geometry
  /** Virtual size in bytes, a multiple of 512. */
  size: number
  l1: L1Table
  readonly cache: MetadataCache
  snapshots: Snapshot[]
  /** The persistent bitmaps that are vouched for. */
  bitmapList: BitmapEntry[]
  /** What guest clusters are encrypted with; absent too where the image was opened for its metadata alone. */
  crypt: ClusterCrypt | undefined
  /** What `info` shows of the encryption. */
  cryptDetails: Record<string, DetailValue> | undefined
}

/** Opens the metadata that every use needs: header, active L1 table, snapshot table, data file.
 *  @throws MoraineError as the header, the tables and the gate say. */
export async function openImage(file: ByteSource, context: OpenContext): Promise<Qcow2Image> {
  const write = context.mode === 'write'
  const check = context.purpose === 'check'
  if (write && !isStore(file)) {
    throw new MoraineError('denied', 'the source cannot be written', { path: file.name, format: 'qcow2' })
  }
  const header = parseHeader(await retelling(headerUnread, () => readHead(file)), { path: file.name, write, check })
  const geometry = geometryOf(header)
  const size = roundDown(header.size, 512)
  if (size > context.limits.virtualSize) {
    throw new MoraineError('limit', 'Image is too big', {
      path: file.name,
      format: 'qcow2',
      field: 'size',
      value: header.size,
      rule: `at most ${context.limits.virtualSize} bytes`,
    })
  }
  const l1 = await readL1(file, header.l1TableOffset, header.l1Size)
  const image: Qcow2Image = {
    file,
    store: write && isStore(file) ? file : undefined,
    data: file,
    context,
    limits: context.limits,
    header,
    geometry,
    size,
    l1,
    cache: new MetadataCache(file, geometry.pageSize, context.limits.cacheBytes),
    snapshots: [],
    bitmapList: [],
    crypt: undefined,
    cryptDetails: undefined,
  }
  // A check reads the table by itself: what is wrong with it is a finding then, and may be repaired.
  if (!check) image.snapshots = await readSnapshotTable(image)
  image.bitmapList = await readBitmapDirectory(image)
  await openDataFile(image)
  return image
}

function headerUnread(reason: string): string {
  return `Could not read qcow2 header: ${reason}`
}

async function readHead(file: ByteSource): Promise<Uint8Array> {
  const probe = new Uint8Array(Math.min(24, file.size))
  await file.read(0, probe)
  const bits = probe.length === 24 ? viewOf(probe).getUint32(20) : 0
  // A first cluster that is cut reads as zeros from there on, as every cluster does.
  const cluster = bits >= 9 && bits <= 21 ? 2 ** bits : 512
  const head = new Uint8Array(cluster)
  await readPadded(file, 0, head)
  return head
}

/** Reads an L1 table; what lies past the end of the file is empty. */
export async function readL1(file: ByteSource, offset: number, entries: number): Promise<L1Table> {
  const there = Math.max(0, Math.min(entries * 8, file.size - offset))
  const bytes = new Uint8Array(entries * 8)
  if (there > 0) await readPadded(file, offset, bytes)
  return new L1Table(offset, bytes)
}

async function openDataFile(image: Qcow2Image): Promise<void> {
  const { header, context } = image
  if ((header.incompatibleFeatures & incompatible.dataFile) === 0n) {
    // A name without the bit means nothing, as it does for QEMU.
    return
  }
  if (context.purpose === 'info') return
  if (header.dataFileName === undefined) {
    throw fault(image, 'missing', "'data-file' is required for this image", 'data file')
  }
  image.data = await context.openFile({ name: header.dataFileName, role: 'data-file' })
}

/** Whether guest clusters lie in another file. */
export function hasDataFile(image: Qcow2Image): boolean {
  return (image.header.incompatibleFeatures & incompatible.dataFile) !== 0n
}

/** Whether that other file must stay a valid raw image by itself. */
export function hasRawDataFile(image: Qcow2Image): boolean {
  return hasDataFile(image) && (image.header.autoclearFeatures & autoclear.rawDataFile) !== 0n
}

/** An error about this image. */
export function fault(
  image: Pick<Qcow2Image, 'file'>,
  kind: ErrorKind,
  reason: string,
  field?: string,
  more: { offset?: number; value?: number | string; rule?: string; code?: string; hint?: string } = {},
): MoraineError {
  return new MoraineError(kind, reason, { path: image.file.name, format: 'qcow2', field, ...more })
}
