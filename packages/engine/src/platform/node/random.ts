/** Random bytes. */
import fs from 'node:fs'

/** `count` bytes from the system's generator. Where it is a file it is read: loading Node's crypto takes 5 ms, longer than making a small image. */
export function randomBytes(count: number): Uint8Array {
  const bytes = new Uint8Array(count)
  try {
    const generator = fs.openSync('/dev/urandom', 'r')
    try {
      if (fs.readSync(generator, bytes) === count) return bytes
    } finally {
      fs.closeSync(generator)
    }
  } catch {
    // Another system, or a container without devices.
  }
  return crypto.getRandomValues(bytes)
}
