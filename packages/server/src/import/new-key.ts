/** Names of image data. */
import { randomBytes } from 'node:crypto'

/** A name for data that was never given before, so that nobody who comes late spoils the data of somebody else. */
export function newKey(imageId: string): string {
  return `${imageId}.${randomBytes(4).toString('hex')}`
}
