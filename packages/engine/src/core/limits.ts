/** What an image may cost before it is refused, whatever its header claims. */

/** Bounds on untrusted input. Sizes in bytes. */
export interface Limits {
  /** Bytes of one metadata table that must be loaded whole (an L1 table, a descriptor). */
  tableBytes: number
  /** Bytes of paged metadata held in memory for one open disk. */
  cacheBytes: number
  /** Bytes that `check` may hold for its counts; a larger image is checked in windows. */
  checkBytes: number
  /** Disks in one chain, the top one included. */
  chainDepth: number
  /** Largest virtual size that opens or is created. */
  virtualSize: number
}

/** The limits used where the caller names none. `virtualSize` is 2^53 − 1, the largest offset that a number holds exactly. */
export const defaultLimits: Limits = {
  tableBytes: 64 * 1024 * 1024,
  cacheBytes: 16 * 1024 * 1024,
  checkBytes: 48 * 1024 * 1024,
  chainDepth: 200,
  virtualSize: Number.MAX_SAFE_INTEGER,
}
