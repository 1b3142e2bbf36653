/** A server that is right but for a few bits: the client ends with the right bytes or an error of the engine, in time, and never hangs. */
import { isMoraineError } from '@moraine/engine'
import { expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { budget, Random, seed, timeFor } from '../../engine/test/support/random.ts'
import { openNbd } from '../src/index.ts'
import { chunkOf, dataChunk, Gone, handshake, type Peer, pack, scripted, takeRequest } from './support/scripted.ts'

const folder = temporaryFolder()
const size = 1 << 18

/** Answers requests as a server should, in several chunks. */
async function serve(peer: Peer, content: Buffer): Promise<void> {
  await handshake(peer, size)
  for (;;) {
    const { type, cookie, offset, length } = await takeRequest(peer)
    if (type === 2) {
      peer.socket.end()
      throw new Gone()
    }
    if (type === 7) peer.say(chunkOf(cookie, 5, true, pack([4, 7], [4, 4096], [4, 0], [4, length - 4096], [4, 0])))
    else if (type !== 0) peer.say(chunkOf(cookie, 0, true))
    else {
      const half = Math.floor(length / 2)
      peer.say(
        dataChunk(cookie, offset + half, content.subarray(offset + half, offset + length), false),
        dataChunk(cookie, offset, content.subarray(offset, offset + half), false),
        chunkOf(cookie, 0, true),
      )
    }
  }
}

it(
  'replies with bits that are wrong, in their headers or anywhere',
  async () => {
    const random = new Random(seed('nbd mutation'))
    const content = Buffer.from(random.bytes(size))
    const end = Date.now() + budget(3000)
    let rounds = 0
    let refused = 0
    let chance = 0
    const server = await scripted(folder.fresh('.sock'), async (peer) => {
      const say = peer.say.bind(peer)
      peer.say = (...pieces) => {
        // Content is the server's business; what stands around it is not.
        const mutated = pieces.map((piece) => {
          const copy = Buffer.from(piece)
          if (!random.bool(chance)) return copy
          for (let i = random.int(1, 3); i > 0; i--) {
            const at = random.int(0, Math.min(copy.length, 40) - 1)
            copy[at] = (copy[at] ?? 0) ^ (1 << random.int(0, 7))
          }
          return random.bool(0.1) ? copy.subarray(0, random.int(0, copy.length)) : copy
        })
        say(...mutated)
      }
      await serve(peer, content)
    })
    for (; rounds < 20 || Date.now() < end; rounds++) {
      chance = random.pick([0.02, 0.1, 0.3])
      try {
        const store = await openNbd(server.uri, { timeout: 250, mode: 'write', retries: random.int(0, 1) })
        try {
          for (let i = 0; i < 4; i++) {
            const at = random.int(0, size - 2)
            const into = Buffer.alloc(Math.min(size - at, random.int(1, 50_000)), 0xaa)
            await store.read(at, into)
            let covered = 0
            for await (const batch of store.extents(0, Math.min(store.size, size))) {
              for (const extent of batch) {
                expect(extent.offset).toBe(covered)
                covered += extent.length
              }
            }
            await store.write(at, into)
            await store.flush()
          }
        } finally {
          await store.close()
        }
      } catch (error) {
        refused++
        if (!isMoraineError(error)) throw error
      }
    }
    await server.stop()
    console.info(`nbd mutation: ${rounds} rounds, ${refused} refused`)
    expect(refused).toBeGreaterThan(0)
    expect(rounds).toBeGreaterThan(refused)
  },
  timeFor(3000),
)
