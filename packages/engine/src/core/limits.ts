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
  /** Bytes that a compressed file may unpack to. */
  unpackedBytes: number
  /** Bytes that a compressed file may unpack to for each of its own, once it has unpacked to 64 MiB. All wrappers around one another count as one. Zeros
   *  shrink in zstd to 1 in 32768, in xz to 1 in 7000, in gzip to 1 in 1032; a sparse disk is mostly zeros. */
  unpackedRatio: number
  /** Bytes, zeros not counted, of a compressed file that may be kept unpacked in a temporary file, for images that are read here and there. */
  spoolBytes: number
  /** Rounds of PBKDF2 that opening an encrypted image may take, all key slots together. */
  keyRounds: number
  /** Bytes of memory that deriving a key may take (Argon2). */
  keyBytes: number
}

/** The limits used where the caller names none. `virtualSize` is 2^53 − 1, the largest offset that a number holds exactly. */
export const defaultLimits: Limits = {
  tableBytes: 64 * 1024 * 1024,
  cacheBytes: 16 * 1024 * 1024,
  checkBytes: 48 * 1024 * 1024,
  chainDepth: 200,
  virtualSize: Number.MAX_SAFE_INTEGER,
  unpackedBytes: Number.MAX_SAFE_INTEGER,
  unpackedRatio: 65_536,
  spoolBytes: 1024 ** 4,
  // cryptsetup and QEMU spend two seconds on a slot: some ten million rounds on the fastest machines.
  keyRounds: 200_000_000,
  // What cryptsetup takes at most.
  keyBytes: 4 * 1024 ** 3,
}
