/** What a built qcow2 image shall hold, and what a guest then reads from it. */

/** What one guest cluster holds. */
export type ClusterSpec =
  /** Stored plainly; `bytes` shorter than a cluster are followed by zeros. `at`: a fixed host offset that is not counted. */
  | { kind: 'data'; bytes: Uint8Array | number; at?: number }
  /** Reads as zeros, nothing stored. */
  | { kind: 'zero' }
  /** Reads as zeros, a cluster stays reserved. */
  | { kind: 'zero-allocated'; bytes: Uint8Array | number }
  /** Packed with the image's compression. */
  | { kind: 'compressed'; bytes: Uint8Array | number }
  /** Extended L2 only: `alloc` and `zero` have one bit for each of the 32 subclusters. `bytes` absent: nothing stored. */
  | { kind: 'subclusters'; bytes?: Uint8Array | number; alloc: number; zero: number }
  /** The L2 entry as it stands, referring to nothing. */
  | { kind: 'entry'; entry: bigint; bitmap?: bigint }

/** Guest cluster index to content; what is absent is unallocated. */
export type Clusters = Record<number, ClusterSpec>

/** An internal snapshot. */
export interface SnapshotSpec {
  id: string
  name: string
  /** `share`: the same L2 tables as the disk's own. Otherwise tables of its own for these clusters. */
  clusters: Clusters | 'share'
  vmStateSize?: bigint
  diskSize?: bigint
  icount?: bigint
  seconds?: number
  nanoseconds?: number
  vmClock?: bigint
  /** Bytes of extra data, default 24. */
  extraSize?: number
}

/** A persistent bitmap. */
export interface BitmapSpec {
  name: string
  granularityBits: number
  flags: number
  /** Table entries: `zeros` and `ones` are flags in the table, bytes are a data cluster. */
  table: ('zeros' | 'ones' | Uint8Array)[]
  type?: number
}

/** What to build. Only what differs from a plain version 3 image of 1 MiB with 64 KiB clusters need be said. */
export interface Qcow2Spec {
  version?: number
  clusterBits?: number
  size?: bigint
  refcountOrder?: number
  extendedL2?: boolean
  compression?: 'zlib' | 'zstd'
  headerLength?: number
  backing?: { name: string | Uint8Array; format?: string }
  dataFile?: { name?: string; raw?: boolean }
  /** Further header extensions, after the known ones. */
  extensions?: { type: number; data: Uint8Array }[]
  /** Feature names: the eight usual ones by default in version 3, or these, or none. */
  featureNames?: [kind: number, bit: number, name: string][] | false
  /** Bits added to the feature words. */
  incompatible?: bigint
  compatible?: bigint
  autoclear?: bigint
  clusters?: Clusters
  snapshots?: SnapshotSpec[]
  bitmaps?: BitmapSpec[]
  /** Entries of the L1 table, when more than the size needs. */
  l1Size?: number
}

/** The feature names that QEMU writes. */
export const usualNames: [number, number, string][] = [
  [0, 0, 'dirty bit'],
  [0, 1, 'corrupt bit'],
  [0, 2, 'external data file'],
  [0, 3, 'compression type'],
  [0, 4, 'extended L2 entries'],
  [1, 0, 'lazy refcounts'],
  [2, 0, 'bitmaps'],
  [2, 1, 'raw external data'],
]

/** The guest's bytes of what `buildQcow2(spec)` makes, without reading the image: the disk's own over `backing`. */
export function guestOf(spec: Qcow2Spec, backing = new Uint8Array(0)): Uint8Array {
  const clusterSize = 1 << (spec.clusterBits ?? 16)
  const size = Number(spec.size ?? 1n << 20n)
  const guest = new Uint8Array(size)
  guest.set(backing.subarray(0, size))
  const put = (at: number, bytes: Uint8Array): void => {
    if (at < size) guest.set(bytes.subarray(0, size - at), at)
  }
  for (const [index, cluster] of Object.entries(spec.clusters ?? {})) {
    const at = Number(index) * clusterSize
    if (cluster.kind === 'entry') continue
    if (cluster.kind === 'zero' || cluster.kind === 'zero-allocated') put(at, new Uint8Array(clusterSize))
    else if (cluster.kind !== 'subclusters') put(at, fill(cluster.bytes, clusterSize))
    else {
      const part = clusterSize / 32
      const bytes = fill(cluster.bytes ?? 0, clusterSize)
      for (let i = 0; i < 32; i++) {
        if ((cluster.alloc >>> i) & 1) put(at + i * part, bytes.subarray(i * part, (i + 1) * part))
        else if ((cluster.zero >>> i) & 1) put(at + i * part, new Uint8Array(part))
      }
    }
  }
  return guest
}

/** A cluster full of one byte, or starting with these bytes. */
export function fill(bytes: Uint8Array | number, length: number): Uint8Array {
  const whole = new Uint8Array(length)
  if (typeof bytes === 'number') whole.fill(bytes)
  else whole.set(bytes.subarray(0, length))
  return whole
}

/** The data of a feature name table. */
export function featureTable(names: [kind: number, bit: number, name: string][]): Uint8Array {
  const data = new Uint8Array(names.length * 48)
  names.forEach(([kind, bit, name], i) => {
    data[i * 48] = kind
    data[i * 48 + 1] = bit
    data.set(new TextEncoder().encode(name), i * 48 + 2)
  })
  return data
}
