/** How often each host cluster is referred to, as the walk over the tables finds it: a window of clusters at a time. With each count stand two
 *  flags about COPIED, so that one walk settles both questions of a sound image. */
import { fault, type Qcow2Image } from './image.ts'

/** Counts too high for the window's array are kept aside; more of them than this belong to no image that was made in earnest. */
const mostAside = 1_000_000

/** The array of the last check that came to its end. A look at what was repaired follows at once, before the first array is collected. */
let spare: WeakRef<ArrayBuffer> | undefined

function zeroBuffer(bytes: number): ArrayBuffer {
  const old = spare?.deref()
  spare = undefined
  if (old?.byteLength !== bytes) return new ArrayBuffer(bytes)
  new Uint8Array(old).fill(0)
  return old
}

/** Reference counts of the host clusters from `base` to before `base + length`. */
export class ReferenceCounts {
  readonly #image: Qcow2Image
  /** A count in the low bits (`mask`), the two flags above it. */
  readonly values: Uint16Array<ArrayBuffer> | Uint32Array<ArrayBuffer>
  readonly mask: number
  /** Flag: an active table refers to the cluster with COPIED. */
  readonly copied: number
  /** Flag: an active table refers to the cluster without COPIED. */
  readonly plain: number
  /** Counts below this can be raised by one without further thought. */
  readonly cap: number
  /** The most that the image's width holds. */
  readonly most: number
  base = 0
  length: number
  /** Told of references that do not fit into the image's width any more. */
  onOverflow: (cluster: number, times: number) => void = () => {}
  readonly #aside = new Map<number, number>()
  /** The array holds something; filling a fresh one would only cost time. */
  #used = false
  /** Windows (by number) in which there is something to count; those before and after the present one. */
  readonly #touched: Uint8Array

  /** For `clusters` clusters, in windows of at most `bytes` bytes. `wide`: counts past 16,382 will be common. */
  constructor(image: Qcow2Image, clusters: number, bytes: number, wide: boolean) {
    this.#image = image
    const { refcountBits } = image.geometry
    // One more than there are: a range may run past the end of the file by less than a cluster.
    const room = Math.max(64, Math.floor(bytes / (wide ? 4 : 2) / 64) * 64)
    const window = Math.min(clusters + 1, room)
    const buffer = zeroBuffer(window * (wide ? 4 : 2))
    this.values = wide ? new Uint32Array(buffer) : new Uint16Array(buffer)
    this.length = window
    const bits = wide ? 32 : 16
    this.copied = 2 ** (bits - 1)
    this.plain = 2 ** (bits - 2)
    this.mask = 2 ** (bits - 2) - 1
    this.most = refcountBits > 31 ? Number.POSITIVE_INFINITY : 2 ** refcountBits - 1
    this.cap = Math.min(this.most, this.mask - 1)
    this.#touched = new Uint8Array(Math.ceil((clusters + 1) / window))
  }

  /** Gives the array up; the counts must not be used any more. */
  release(): void {
    spare = new WeakRef(this.values.buffer)
  }

  /** How many windows there are. */
  get windows(): number {
    return this.#touched.length
  }

  /** Begins to count the clusters of a window. */
  move(window: number): void {
    if (this.#used) this.values.fill(0)
    this.#used = true
    this.#aside.clear()
    this.base = window * this.length
  }

  /** Whether anything refers into a window, as far as it is known from the walks so far. */
  isTouched(window: number): boolean {
    return this.#touched[window] === 1
  }

  /** Adds references to a cluster; elsewhere than in the window they are only noted. */
  add(cluster: number, times: number, flag = 0): void {
    const at = cluster - this.base
    if (at < 0 || at >= this.length) {
      this.miss(cluster)
      return
    }
    const value = this.values[at] as number
    const low = value & this.mask
    let count = low === this.mask ? (this.#aside.get(cluster) ?? low) : low
    count += times
    if (count > this.most) {
      this.onOverflow(cluster, count - this.most)
      count = this.most
    }
    if (count >= this.mask) {
      if (this.#aside.size >= mostAside) {
        throw fault(this.#image, 'limit', 'too many clusters are referred to too often', 'reference count', {
          value: count,
          rule: `at most ${mostAside} clusters with ${this.mask} references or more`,
        })
      }
      this.#aside.set(cluster, count)
    }
    this.values[at] = (value & ~this.mask) | flag | Math.min(count, this.mask)
  }

  /** Adds references to each cluster from `first` to `last`. */
  addRange(first: number, last: number, times: number, flag = 0): void {
    if (first === last) {
      this.add(first, times, flag)
      return
    }
    const end = Math.min(last, this.base + this.length - 1)
    for (let cluster = Math.max(first, this.base); cluster <= end; cluster++) this.add(cluster, times, flag)
    for (let cluster = first; cluster <= last; cluster += this.length) this.miss(cluster)
    this.miss(last)
  }

  /** Notes a reference that lies outside the window. */
  miss(cluster: number): void {
    const window = Math.floor(cluster / this.length)
    if (window < this.#touched.length) this.#touched[window] = 1
  }

  /** The count of a cluster of the window. */
  get(cluster: number): number {
    const low = (this.values[cluster - this.base] as number) & this.mask
    return low === this.mask ? (this.#aside.get(cluster) ?? low) : low
  }
}
