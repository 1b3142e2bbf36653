/** Servers that lie in their replies. */
import { describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { type NbdStore, openNbd } from '../src/index.ts'
import { bytes, extentsOf, never, type Row, size, testRows } from './support/hostile.ts'
import {
  type Asked,
  chunkOf,
  dataChunk,
  handshake,
  type Peer,
  pack,
  scripted,
  takeRequest,
} from './support/scripted.ts'

const folder = temporaryFolder()

/** A whole handshake, and one answer to the first request. */
const atRequest =
  (answer: (asked: Asked, peer: Peer) => Buffer, structured = true): Row['script'] =>
  async (peer) => {
    await handshake(peer, size, { structured })
    const asked = await takeRequest(peer)
    peer.say(answer(asked, peer))
    await never
  }

const read = (store: NbdStore) => store.read(0, new Uint8Array(4096))
const status = extentsOf

const rows: Row[] = [
  {
    name: 'replies with another magic',
    script: atRequest(() => bytes(32)),
    work: read,
    kind: 'corrupt',
    says: /invalid magic/,
  },
  {
    name: 'replies to nobody',
    script: atRequest(({ cookie }) => chunkOf(cookie + 1n, 0, true)),
    work: read,
    kind: 'corrupt',
    says: /Unexpected reply/,
  },
  {
    name: 'replies with a cookie of 64 bits',
    script: atRequest(({ cookie }) => chunkOf(cookie + (1n << 63n), 0, true)),
    work: read,
    kind: 'corrupt',
    says: /Unexpected reply/,
  },
  {
    name: 'answers a read without chunks',
    script: atRequest(({ cookie }) => pack([4, 0x67446698], [4, 0], [8, cookie])),
    work: read,
    kind: 'corrupt',
    says: /simple reply/,
  },
  {
    name: 'sends chunks that were not agreed upon',
    script: atRequest(({ cookie }) => dataChunk(cookie, 0, bytes(4096), true), false),
    work: read,
    kind: 'corrupt',
    says: /invalid magic/,
  },
  {
    name: 'sends too little',
    script: atRequest(({ cookie }) => dataChunk(cookie, 0, bytes(4095), true)),
    work: read,
    kind: 'corrupt',
    says: /missing/,
  },
  {
    name: 'sends nothing',
    script: atRequest(({ cookie }) => chunkOf(cookie, 0, true)),
    work: read,
    kind: 'corrupt',
    says: /missing/,
  },
  {
    name: 'leaves a gap',
    script: atRequest(({ cookie }) =>
      Buffer.concat([dataChunk(cookie, 0, bytes(1000), false), dataChunk(cookie, 1001, bytes(3095), true)]),
    ),
    work: read,
    kind: 'corrupt',
    says: /missing/,
  },
  {
    name: 'sends too much',
    script: atRequest(({ cookie }) => dataChunk(cookie, 0, bytes(4097), true)),
    work: read,
    kind: 'corrupt',
    says: /exceeding/,
  },
  {
    name: 'sends what lies before',
    script: atRequest(({ cookie }) => dataChunk(cookie, -1, bytes(10), true)),
    work: read,
    kind: 'corrupt',
    says: /exceeding/,
  },
  {
    name: 'sends what lies behind',
    script: atRequest(({ cookie }) => dataChunk(cookie, 4096, bytes(10), true)),
    work: read,
    kind: 'corrupt',
    says: /exceeding/,
  },
  {
    name: 'sends chunks that overlap',
    script: atRequest(({ cookie }) =>
      Buffer.concat([dataChunk(cookie, 2000, bytes(2096), false), dataChunk(cookie, 0, bytes(2001), true)]),
    ),
    work: read,
    kind: 'corrupt',
    says: /exceeding|twice/,
  },
  {
    name: 'sends a chunk twice',
    script: atRequest(({ cookie }) =>
      Buffer.concat([dataChunk(cookie, 0, bytes(9), false), dataChunk(cookie, 0, bytes(9), false)]),
    ),
    work: read,
    kind: 'corrupt',
    says: /twice/,
  },
  {
    name: 'promises a chunk of 4 GiB',
    script: atRequest(({ cookie }) => pack([4, 0x668e33ef], [2, 1], [2, 1], [8, cookie], [4, 0xffff_ffff], [8, 0])),
    work: read,
    kind: 'corrupt',
    says: /exceeding/,
  },
  {
    name: 'sends a chunk without data',
    script: atRequest(({ cookie }) => dataChunk(cookie, 0, bytes(0), true)),
    work: read,
    kind: 'corrupt',
    says: /data chunk/,
  },
  {
    name: 'sends a hole of no length',
    script: atRequest(({ cookie }) => chunkOf(cookie, 2, true, pack([8, 0], [4, 0]))),
    work: read,
    kind: 'corrupt',
    says: /exceeding/,
  },
  {
    name: 'sends a hole that is too long',
    script: atRequest(({ cookie }) => chunkOf(cookie, 2, true, pack([8, 0], [4, 0xffff_ffff]))),
    work: read,
    kind: 'corrupt',
    says: /exceeding/,
  },
  {
    name: 'sends half a hole',
    script: atRequest(({ cookie }) => chunkOf(cookie, 2, true, pack([8, 0]))),
    work: read,
    kind: 'corrupt',
    says: /hole chunk/,
  },
  {
    name: 'sends an unknown chunk',
    script: atRequest(({ cookie }) => chunkOf(cookie, 77, true)),
    work: read,
    kind: 'corrupt',
    says: /unknown type/,
  },
  {
    name: 'sends a NONE chunk with data',
    script: atRequest(({ cookie }) => chunkOf(cookie, 0, true, bytes(4))),
    work: read,
    kind: 'corrupt',
    says: /NONE/,
  },
  {
    name: 'answers an error of number 0',
    script: atRequest(({ cookie }) => chunkOf(cookie, 0x8001, true, pack([4, 0], [2, 0]))),
    work: read,
    kind: 'corrupt',
    says: /without an error/,
  },
  {
    name: 'answers an error whose message is longer than it',
    script: atRequest(({ cookie }) => chunkOf(cookie, 0x8001, true, pack([4, 5], [2, 9]))),
    work: read,
    kind: 'corrupt',
    says: /message/,
  },
  {
    name: 'answers a giant error',
    script: atRequest(({ cookie }) => chunkOf(cookie, 0x8001, true, bytes(70_000))),
    work: read,
    kind: 'corrupt',
    says: /error chunk/,
  },
  {
    name: 'answers an error that lies elsewhere',
    script: atRequest(({ cookie }) => chunkOf(cookie, 0x8002, true, pack([4, 5], [2, 0], [8, 99_999]))),
    work: read,
    kind: 'corrupt',
    says: /outside/,
  },
  {
    name: 'answers an error',
    script: atRequest(({ cookie }) => chunkOf(cookie, 0x8002, true, pack([4, 5], [2, 0], [8, 512]))),
    work: read,
    kind: 'io',
    says: /Input\/output error/,
  },
  {
    name: 'answers an unknown error',
    script: atRequest(({ cookie }) => chunkOf(cookie, 0x9abc, true, pack([4, 4711], [2, 0]))),
    work: read,
    kind: 'io',
    says: /Invalid argument/,
  },
  {
    name: 'answers an error in the old way',
    script: atRequest(({ cookie }) => pack([4, 0x67446698], [4, 1], [8, cookie]), false),
    work: read,
    kind: 'denied',
    says: /not permitted/,
  },
  {
    name: 'stops in a reply',
    silent: true,
    script: atRequest(({ cookie }) => dataChunk(cookie, 0, bytes(4096), true).subarray(0, 500)),
    work: read,
    kind: 'io',
    says: /silent/,
  },
  {
    name: 'hangs up in a reply',
    script: async (peer) => {
      await handshake(peer, size)
      const { cookie } = await takeRequest(peer)
      peer.socket.end(dataChunk(cookie, 0, bytes(4096), true).subarray(0, 500))
    },
    work: read,
    kind: 'io',
    says: /closed/,
  },
  {
    name: 'sends a status for a read',
    script: atRequest(({ cookie }) => chunkOf(cookie, 5, true, pack([4, 7], [4, 4096], [4, 0]))),
    work: read,
    kind: 'corrupt',
    says: /another request/,
  },
  {
    name: 'sends a status of no context',
    script: atRequest(({ cookie }) => chunkOf(cookie, 5, true, pack([4, 8], [4, 4096], [4, 0]))),
    work: status,
    kind: 'corrupt',
    says: /context/,
  },
  {
    name: 'sends an extent of no length',
    script: atRequest(({ cookie }) => chunkOf(cookie, 5, true, pack([4, 7], [4, 0], [4, 0]))),
    work: status,
    kind: 'corrupt',
    says: /invalid length/,
  },
  {
    name: 'sends extents behind the end',
    script: atRequest(({ cookie }) => chunkOf(cookie, 5, true, pack([4, 7], [4, size], [4, 0], [4, 5], [4, 0]))),
    work: status,
    kind: 'corrupt',
    says: /behind/,
  },
  {
    name: 'sends a status without extents',
    script: atRequest(({ cookie }) => chunkOf(cookie, 5, true, pack([4, 7]))),
    work: status,
    kind: 'corrupt',
    says: /block status/,
  },
  {
    name: 'sends no status',
    script: atRequest(({ cookie }) => chunkOf(cookie, 0, true)),
    work: status,
    kind: 'corrupt',
    says: /no block status/,
  },
  {
    name: 'sends a context twice',
    script: atRequest(({ cookie }) =>
      Buffer.concat([1, 2].map(() => chunkOf(cookie, 5, false, pack([4, 7], [4, 512], [4, 0])))),
    ),
    work: status,
    kind: 'corrupt',
    says: /twice/,
  },
  {
    name: 'promises a status of 2 GiB',
    script: atRequest(({ cookie }) => pack([4, 0x668e33ef], [2, 1], [2, 5], [8, cookie], [4, 0x7fff_fffc])),
    work: status,
    kind: 'corrupt',
    says: /block status/,
  },
  {
    name: 'is read-only when it shall be written',
    script: (peer) => handshake(peer, size, { flags: 3 }),
    work: (store) => store.write(0, bytes(1)),
    kind: 'denied',
    says: /write permission/,
  },
]

testRows(folder, rows)

describe('a server that', () => {
  it('answers slowly is waited for as long as it gives signs of life', async () => {
    const server = await scripted(folder.fresh('.sock'), async (peer) => {
      await handshake(peer, size)
      const { cookie } = await takeRequest(peer)
      const whole = dataChunk(cookie, 0, bytes(size), true)
      for (let at = 0; at < whole.length; at += 100_000) {
        peer.say(whole.subarray(at, at + 100_000))
        await new Promise((resolve) => setTimeout(resolve, 120))
      }
      await never
    })
    const store = await openNbd(server.uri, { timeout: 500 })
    const into = new Uint8Array(size)
    await store.read(0, into)
    expect(into.every((byte) => byte === 1)).toBe(true)
    await store.close()
    await server.stop()
  })

  it('gives single bytes is not', async () => {
    const server = await scripted(folder.fresh('.sock'), async (peer) => {
      await handshake(peer, size)
      const { cookie } = await takeRequest(peer)
      peer.say(dataChunk(cookie, 0, bytes(4096), true).subarray(0, 28))
      for (;;) {
        peer.say(bytes(1))
        await new Promise((resolve) => setTimeout(resolve, 20))
        if (peer.socket.destroyed) return
      }
    })
    const store = await openNbd(server.uri, { timeout: 400, retries: 0 })
    await expect(store.read(0, new Uint8Array(4096))).rejects.toThrow(/silent for 0.4 s/)
    await store.close()
    await server.stop()
  })
})
