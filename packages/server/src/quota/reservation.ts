/** The room that one upload is promised, in steps: a bound is exact, and yet the catalog is not asked for each piece of data. */
import type { Bound, Usages } from '../catalog/usage.ts'

const stepBytes = 64 * 1024 * 1024

/** A bound would be passed. */
export class OverQuota extends Error {
  constructor({ of, kind, limit }: Bound, left: number) {
    const what = kind === 'stagedBytes' ? 'staged image data' : 'image data'
    super(
      of === 'everybody'
        ? `all image data together may take ${limit} bytes, and ${left} are left`
        : `the ${what} of project ${of.owner} may take ${limit} bytes, and ${left} are left`,
    )
    this.name = 'OverQuota'
  }
}

export class Reservation {
  readonly #usages: Usages
  readonly #key: string
  readonly #bounds: readonly Bound[]
  #promised = 0
  #taken = 0

  constructor(usages: Usages, uploadKey: string, bounds: readonly Bound[]) {
    this.#usages = usages
    this.#key = uploadKey
    this.#bounds = bounds
  }

  /** Makes room for so many bytes in all. @throws OverQuota */
  async expect(bytes: number): Promise<void> {
    if (this.#bounds.length === 0 || bytes <= this.#promised) return
    const refusal = await this.#usages.promise(this.#key, bytes, this.#bounds)
    if (refusal !== undefined) throw new OverQuota(refusal.bound, refusal.left)
    this.#promised = bytes
  }

  /** Counts bytes that come. @throws OverQuota, when it is not already known that they have room. */
  take(bytes: number): Promise<void> | undefined {
    this.#taken += bytes
    if (this.#bounds.length === 0 || this.#taken <= this.#promised) return undefined
    return this.#grow()
  }

  async #grow(): Promise<void> {
    const step = Math.max(this.#taken, this.#promised + stepBytes)
    if ((await this.#usages.promise(this.#key, step, this.#bounds)) === undefined) this.#promised = step
    else await this.expect(this.#taken)
  }
}
