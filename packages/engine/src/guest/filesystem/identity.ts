/** How file systems are told from one another: UUIDs and serial numbers, as people know them from blkid and /dev/disk. */

/** A UUID whose bytes stand in order; empty where all are zeros. */
export function uuidAt(bytes: Uint8Array, at: number): string {
  const part = bytes.subarray(at, at + 16)
  if (part.length < 16 || part.every((byte) => byte === 0)) return ''
  const digits = [...part].map((byte) => byte.toString(16).padStart(2, '0')).join('')
  return `${digits.slice(0, 8)}-${digits.slice(8, 12)}-${digits.slice(12, 16)}-${digits.slice(16, 20)}-${digits.slice(20)}`
}

/** The serial number of a FAT or exFAT volume. */
export function serialText(serial: number): string {
  const digits = serial.toString(16).toUpperCase().padStart(8, '0')
  return `${digits.slice(0, 4)}-${digits.slice(4)}`
}
