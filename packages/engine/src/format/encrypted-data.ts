/** Clusters that lie encrypted in a file: read and written in whole sectors of 512 bytes. */
import { roundUp } from '../bytes/integers.ts'
import { type ByteSource, readPadded } from '../core/index.ts'
import type { SectorCipher } from '../crypt/sector-cipher.ts'

const sector = 512

/** Reads guest bytes that lie at `host`. Sectors have the numbers that begin with byte `numbered`, which differs from `host` by whole sectors. */
export async function readEncrypted(
  cipher: SectorCipher,
  file: ByteSource,
  host: number,
  numbered: number,
  into: Uint8Array,
  signal?: AbortSignal,
): Promise<void> {
  const skip = host % sector
  const length = roundUp(skip + into.length, sector)
  const bytes = length === into.length ? into : new Uint8Array(length)
  await readPadded(file, host - skip, bytes, signal)
  cipher.decrypt((numbered - skip) / sector, bytes)
  if (bytes !== into) into.set(bytes.subarray(skip, skip + into.length))
}
