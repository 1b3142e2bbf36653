/** What the bytes of an upload turned out to be. */

/** Formats that are recognised; whatever is none of them is raw. */
export type DetectedFormat = 'qcow2' | 'qed' | 'vhd' | 'vhdx' | 'vmdk' | 'vdi' | 'iso' | 'gpt' | 'luks'

/** One format that the bytes show. */
export interface Finding {
  format: DetectedFormat
  /** Why data of this format must not be taken from a stranger; empty when nothing speaks against it. */
  dangers: string[]
  /** Bytes of the disk inside, where the header says so. */
  virtualSize?: number | undefined
}

/** Reads at any offset; undefined when that passes the end. */
export type ReadAt = (offset: number, length: number) => Promise<Buffer | undefined>

/** A 64-bit size as a number; undefined when it passes 2^53 − 1, which no disk has. */
export function checkedSize(value: bigint): number | undefined {
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? undefined : Number(value)
}
