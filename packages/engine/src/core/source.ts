/** The two nouns everything rests on: bytes that can be read at an offset, and bytes that can be written there too. */
import type { Extent } from './extent.ts'

/** Bytes at an offset: a file, a device, an HTTP resource, a Blob, the disk inside an image. */
export interface ByteSource {
  /** For messages and for the gate. */
  readonly name: string
  /** Bytes. */
  readonly size: number
  /** What it is, as the operating system sees it: two sources with the same identity are the same bytes (device and inode, say). */
  readonly identity?: string | undefined
  /** An open descriptor of this process over the same bytes at the same offsets, where there is one: workers and in-kernel copies use it. */
  readonly descriptor?: number | undefined
  /** Reading far ahead costs as much as reading all that lies before, as in a compressed file. */
  readonly sequential?: boolean | undefined
  /** Fills `into` with the bytes from `offset`. Never short: all, or an error.
   *  @throws MoraineError `io` when the range passes the end or the host fails; `cancelled`. */
  read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void>
  /** What lies at the range, in order and without gaps, in batches. A source that cannot tell says "data" for all of it.
   *  @throws MoraineError `io` when the range passes the end. */
  extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]>
  /** Bytes that the host really spends on it, where it can tell. */
  allocatedSize?(): Promise<number>
  /** Is told what a format is about to do with it, where it wants to know: `l2_load`, `write_aio` and others of QEMU's `BlkdebugEvent`. For the injection of errors. */
  debugEvent?(event: string): void
  close(): Promise<void>
}

/** How `zero` may do its work: `unmap` may leave a hole; `allocate` keeps or takes the space. */
export type ZeroMode = 'unmap' | 'allocate'

/** What happens to space that a file or disk gains: nothing, metadata only, reserved by the host, written with zeros. */
export type Preallocation = 'off' | 'metadata' | 'falloc' | 'full'

/** Bytes that can be written too. Writing past the end grows a file and is an error on a device. */
export interface ByteStore extends ByteSource {
  /** `file` grows when written past its end and its new bytes read as zeros; `device` has a fixed size and stale content. */
  readonly kind: 'file' | 'device' | 'memory'
  /** @throws MoraineError `io` (with `code`), `denied` when opened for reading, `cancelled`. */
  write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void>
  /** Makes the range read as zeros, by the cheapest means that `mode` allows. */
  zero(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void>
  /** Says that the content of the range no longer matters; it reads as zeros or as before. */
  discard(offset: number, length: number): Promise<void>
  /** Sets the size in bytes. `preallocation` is about the space gained. */
  resize(size: number, preallocation?: Preallocation): Promise<void>
  /** Returns when everything written is on stable storage (a no-op where the caller opened it as unsafe). */
  flush(): Promise<void>
  /** Copies inside the kernel from `source`, sharing or moving no bytes through this process.
   *  Returns the bytes copied, from `offset` on, which may be fewer than asked; 0 when it cannot be done. */
  copyFrom?(source: ByteSource, sourceOffset: number, offset: number, length: number): Promise<number>
}

/** Whether a source can be written. */
export function isStore(source: ByteSource): source is ByteStore {
  return 'write' in source && typeof source.write === 'function'
}

/** Reads like `source.read`, with zeros for what lies past the end: an image cut in its last cluster is valid. */
export function readPadded(source: ByteSource, offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
  if (offset + into.length <= source.size) return source.read(offset, into, signal)
  const there = Math.max(0, source.size - offset)
  into.fill(0, there)
  return there === 0 ? Promise.resolve() : source.read(offset, into.subarray(0, there), signal)
}
