/** Dirty bitmaps: which parts of a disk were written since somebody began to count. Backup programs ask them what to copy. */

/** One bitmap, in the terms of QEMU's `BlockDirtyInfo`. */
export interface BitmapInfo {
  name: string
  /** Bytes that one bit stands for: a power of two. */
  granularity: number
  /** The guest's writes are followed. */
  enabled: boolean
  /** Its last writer never came to its end: what it says cannot be trusted, it can only be removed. */
  inconsistent: boolean
}

/** Guest bytes. */
export interface DirtyRange {
  offset: number
  length: number
}

/** The bitmaps of an image. */
export interface Bitmaps {
  /** Bytes of the disk that each of them covers. */
  readonly size: number
  /** In the order in which the image has them. */
  list(): readonly BitmapInfo[]
  /** What a bitmap says is dirty: whole granules (the last cut by the disk's end), ascending, melted where they touch, in batches.
   *  @throws MoraineError `missing`; `invalid` when it is inconsistent; `corrupt`. */
  ranges(name: string, signal?: AbortSignal): AsyncIterable<DirtyRange[]>
}

/** A bitmap that shall be made. */
export interface NewBitmap {
  /** 1 to 1023 bytes in UTF-8. */
  name: string
  /** Bytes: a power of two from 512 to 2 GiB. */
  granularity: number
  enabled: boolean
  /** What is dirty in it from the start, ascending; ranges are widened to whole granules. Nothing when absent. */
  ranges?: AsyncIterable<DirtyRange[]> | undefined
}

/** The bitmaps of an image that can be written. */
export interface BitmapStore extends Bitmaps {
  /** Adds bitmaps behind those that are there: all of them or, when this fails, none. They have reached the file when this returns.
   *  @throws MoraineError `invalid` (a name that is taken or too long, a granularity out of range), `limit`, and what `ranges` throws. */
  add(bitmaps: readonly NewBitmap[], signal?: AbortSignal): Promise<void>
  /** Removes a bitmap, one that is inconsistent too.
   *  @throws MoraineError `missing`. */
  remove(name: string): Promise<void>
  /** Says that nothing is dirty.
   *  @throws MoraineError `missing`; `invalid` when it is inconsistent. */
  clear(name: string): Promise<void>
  /** Lets a bitmap follow the guest's writes, or not any more.
   *  @throws MoraineError `missing`; `invalid` when it is inconsistent. */
  enable(name: string, enabled: boolean): Promise<void>
  /** Adds what bitmap `source` of `from` says is dirty. `from` may be this image or another one of the same size.
   *  @throws MoraineError `missing`; `invalid` when either is inconsistent, `unsupported` when the sizes differ; what `ranges` throws. */
  merge(name: string, from: Bitmaps, source: string, signal?: AbortSignal): Promise<void>
}
