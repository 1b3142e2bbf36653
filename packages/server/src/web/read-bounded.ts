/** Short answers of other services, in bounded memory. */

/** All of a body. @throws Error when it is longer than `most` bytes, and the body's own; the connection is given up then. */
export async function readBounded(body: AsyncIterable<Uint8Array>, most: number): Promise<Buffer> {
  const parts: Uint8Array[] = []
  let length = 0
  // Leaving the loop destroys the stream.
  for await (const part of body) {
    parts.push(part)
    length += part.length
    if (length > most) throw new Error(`an answer of more than ${most} bytes`)
  }
  return Buffer.concat(parts)
}
