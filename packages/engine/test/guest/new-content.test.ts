/** Pieces gathered into chunks: whoever makes short ones may make them all in one room. */
import { expect, it } from 'vitest'
import { gathered, passedOnBytes, smallBytes } from '../../src/guest/new-content.ts'

it('what a room for small files can hold is copied, with the zeros behind it', async () => {
  // A unit has as many bytes as a small file at most.
  const room = new Uint8Array(2 * smallBytes)
  expect(room.length).toBeLessThan(passedOnBytes)
  const lengths = [room.length, 1, smallBytes, room.length - 1, 300]
  async function* pieces(): AsyncGenerator<Uint8Array> {
    for (const [at, length] of lengths.entries()) yield room.subarray(0, length).fill(at + 1)
    room.fill(0)
  }
  const chunks: Uint8Array[] = []
  for await (const chunk of gathered(pieces(), undefined)) chunks.push(chunk)
  expect(Buffer.concat(chunks).equals(Buffer.concat(lengths.map((length, at) => Buffer.alloc(length, at + 1))))).toBe(
    true,
  )
})
