/** Writing a fixed VHD: the guest's bytes lie in the file as they are. */
import type { ByteSource, ByteStore, Preallocation, WritableDisk, ZeroMode } from '../../core/index.ts'
import type { OpenContext } from '../format.ts'
import { checkSizeChange } from '../growth.ts'
import { FixedVhdDisk } from './disk.ts'
import { sizeFor } from './growth.ts'
import { type Footer, footerBytes, mostSectors, sectorBytes, setSize } from './layout.ts'

/** A fixed VHD opened for writing. */
export class WritableFixedVhdDisk extends FixedVhdDisk implements WritableDisk {
  readonly kind: ByteStore['kind']
  readonly store: ByteStore
  readonly #context: OpenContext
  #closed = false

  constructor(store: ByteStore, footer: Footer, place: { footerOffset: number; size: number }, context: OpenContext) {
    super(store, footer, place.footerOffset, place.size)
    this.#context = context
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

  /** Sets the size. Where the creator of the image is believed on its geometry, it is the next size that a geometry has. The footer is the last sector of the file at any moment: where
   *  it was, zeros stand before the footer at the new end tells the new size.
   *  @throws MoraineError as `checkSizeChange`; `unsupported` on a device, which does not end where the image does. */
  async resize(size: number, preallocation: Preallocation = 'off', shrink = false): Promise<void> {
    const { footer, store } = this
    const rules = { unit: sectorBytes, most: mostSectors * sectorBytes, limit: this.#context.limits.virtualSize }
    checkSizeChange(this, { size, preallocation, shrink }, rules)
    if (size === this.size) return
    if (this.kind === 'device') throw this.fault('unsupported', 'Cannot resize device files', { field: 'size' })
    const after = sizeFor(footer, size, this.name, this.#context.vhdSize)
    if (after.size === this.size) return
    const stored = { size: footer.currentSize, geometry: footer.geometry, original: footer.originalSize }
    // A footer that moved, and no more, leaves what it stood on before.
    const gap = Math.min(this.footerOffset, after.size) - this.size
    try {
      if (gap > 0) await store.zero(this.size, gap, 'unmap')
      if (after.size > this.footerOffset) {
        // One size must be that of the file, or nobody takes it for a VHD.
        setSize(footer, { ...stored, original: after.size })
        await this.#moveFooter(after.size)
      }
      await store.flush()
      setSize(footer, after)
      await store.write(after.size, footer.bytes.slice())
      await store.flush()
      // Of a smaller disk the old footer counts until here.
      if (store.size > after.size + footerBytes) await store.resize(after.size + footerBytes)
      await store.flush()
    } catch (error) {
      setSize(footer, stored)
      throw error
    }
    this.footerOffset = after.size
    this.size = after.size
  }

  async #moveFooter(to: number): Promise<void> {
    const { footer, store, footerOffset } = this
    await store.write(to, footer.bytes.slice())
    await store.flush()
    await store.zero(footerOffset, Math.min(footerBytes, to - footerOffset), 'unmap')
    await store.flush()
    this.footerOffset = to
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
