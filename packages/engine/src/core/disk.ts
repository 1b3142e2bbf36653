/** A disk: the guest's bytes, as a format presents them. */
import type { BitmapStore, Bitmaps } from './bitmap.ts'
import type { PackedCodec } from './extent.ts'
import type { ByteSource, ByteStore, Preallocation } from './source.ts'

/** One internal snapshot, in the terms of QEMU's `SnapshotInfo`. */
export interface SnapshotInfo {
  id: string
  name: string
  /** Bytes of saved machine state. */
  vmStateSize: number
  /** Seconds since 1970. */
  dateSeconds: number
  dateNanoseconds: number
  /** Nanoseconds of guest time. */
  vmClockNanoseconds: bigint
  /** Instruction count of record and replay, where it was stored. */
  icount?: bigint | undefined
  /** Virtual size in bytes when it was taken. */
  diskSize: number
}

/** A fact in a format's own details; nested as QEMU nests them. */
export type DetailValue = string | number | boolean | DetailValue[] | { [key: string]: DetailValue }

/** The facts of an opened disk, as `info` shows them. Names follow QEMU's `ImageInfo`. */
export interface DiskInfo {
  format: string
  /** Bytes. */
  virtualSize: number
  /** Bytes. */
  clusterSize?: number | undefined
  encrypted?: boolean | undefined
  compressed?: boolean | undefined
  /** The image was not closed cleanly. */
  dirty?: boolean | undefined
  /** The backing file or parent, as it stands in the image. */
  backing?: { name: string; format?: string | undefined } | undefined
  snapshots: SnapshotInfo[]
  /** What only this format has; keys and values are those of QEMU's `format-specific`, so that scripts find them. */
  details?: { type: string; data: Record<string, DetailValue> } | undefined
}

/** An image opened as the guest sees it. Closing it closes the files and parents under it too. */
export interface Disk extends ByteSource {
  /** The format's name. */
  readonly format: string
  /** The file (or other source) that holds the image. */
  readonly file: ByteSource
  /** The disk under this one, once opened. */
  readonly parent?: Disk | undefined
  /** The dirty bitmaps of the image (a snapshot shows those of its image); missing where it has no place for any. */
  readonly bitmaps?: Bitmaps | undefined
  info(): DiskInfo
  /** A read-only view of an internal snapshot, by id or name; it borrows this disk's files and need not be closed.
   *  @throws MoraineError `missing`. */
  openSnapshot?(idOrName: string): Promise<Disk>
}

/** What can be done with internal snapshots. Each call has reached the file when it returns. */
export interface SnapshotStore {
  create(name: string, when?: { seconds: number; nanoseconds: number }): Promise<void>
  /** Makes the disk's content that of the snapshot. */
  apply(idOrName: string): Promise<void>
  delete(idOrName: string): Promise<void>
}

/** A disk that can be written. Offsets and lengths are guest bytes; the disk does not grow by writing. */
export interface WritableDisk extends Disk, ByteStore {
  readonly snapshots?: SnapshotStore | undefined
  readonly bitmaps?: BitmapStore | undefined
  /** Bytes of one cluster for `writePacked`; missing when the format cannot store compressed units. */
  readonly packedUnit?: number | undefined
  /** How the units of this image are packed; missing where `packedUnit` is. */
  readonly packedCodec?: PackedCodec | undefined
  /** What compressing means here, where it is neither impossible nor a matter of choice. `always`: whole units are all that can be written, packed or not;
   *  `ignored`: asked for, it is taken and changes nothing. */
  readonly compression?: 'always' | 'ignored' | undefined
  /** Where bytes that nobody has written read as anything, since they are decrypted all the same: everywhere, or in clusters that were laid out in advance. */
  readonly noise?: 'everywhere' | 'preallocated' | undefined
  /** Stores one whole unit, already packed by the image's codec. The unit must not be allocated yet. In the last one, what lies past the disk's end must be
   *  zeros: the disk may grow. */
  writePacked?(offset: number, packed: Uint8Array): Promise<void>
  /** Sets the virtual size. `shrink` must be true to lose bytes.
   *  @throws MoraineError `unsupported` where the format or its state (snapshots, bitmaps) forbids it. */
  resize(size: number, preallocation?: Preallocation, shrink?: boolean): Promise<void>
  /** Records another backing file, or none. What the guest sees is the caller's concern; this disk goes on reading through the parent that it was opened with.
   *  @throws MoraineError `invalid` for a name that is too long or not possible. */
  changeBacking?(backing: { name: string; format?: string | undefined } | undefined): Promise<void>
  /** Records the identity that the disk under this one has now, where the format keeps one: for whoever changes that disk so that this one shows the same as before.
   *  Has reached the file when it returns. `parent` is that disk, of the same format. */
  adoptParent?(parent: Disk): Promise<void>
  /** Gives up everything that the image itself holds, so that what lies under it shows. Internal snapshots keep theirs. */
  makeEmpty?(): Promise<void>
}

/** Whether a source is a disk already: an image that was opened, not the bytes of one. */
export function isDisk(source: ByteSource): source is Disk {
  return 'format' in source && 'info' in source && typeof source.info === 'function'
}

/** Whether a disk was opened for writing. */
export function isWritable(disk: Disk): disk is WritableDisk {
  return 'write' in disk && typeof disk.write === 'function'
}
