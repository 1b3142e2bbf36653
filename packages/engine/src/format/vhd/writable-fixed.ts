/** Writing a fixed VHD: the guest's bytes lie in the file as they are. */
import type { ByteSource, ByteStore, WritableDisk, ZeroMode } from '../../core/index.ts'
import { FixedVhdDisk, refuseResize } from './disk.ts'
import type { Footer } from './layout.ts'

/** A fixed VHD opened for writing. */
export class WritableFixedVhdDisk extends FixedVhdDisk implements WritableDisk {
  readonly kind: ByteStore['kind']
  readonly store: ByteStore
  #closed = false

  constructor(store: ByteStore, footer: Footer, footerOffset: number, size: number) {
    super(store, footer, footerOffset, size)
    this.store = store
    this.kind = store.kind
  }

  async write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    this.#check(offset, from.length)
    if (from.length > 0) await this.store.write(offset, from, signal)
  }

  async zero(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    this.#check(offset, length)
    if (length > 0) await this.store.zero(offset, length, mode, signal)
  }

  async discard(offset: number, length: number): Promise<void> {
    this.#check(offset, length)
    if (length > 0) await this.store.discard(offset, length)
  }

  /** A footer may promise more bytes than stand before it; the footer itself is never written over. */
  #check(offset: number, length: number): void {
    if (offset < 0 || offset + length > this.size) throw this.outside(offset, length)
    if (offset + length <= this.footerOffset) return
    throw this.fault('corrupt', 'the image is shorter than its footer says', {
      field: 'current_size',
      value: this.size,
      rule: `at most ${this.footerOffset} bytes`,
    })
  }

  async resize(): Promise<void> {
    throw refuseResize(this.name)
  }

  async copyFrom(source: ByteSource, sourceOffset: number, offset: number, length: number): Promise<number> {
    this.#check(offset, length)
    return (await this.store.copyFrom?.(source, sourceOffset, offset, length)) ?? 0
  }

  flush(): Promise<void> {
    return this.store.flush()
  }

  override async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    try {
      await this.store.flush()
    } finally {
      await super.close()
    }
  }
}
