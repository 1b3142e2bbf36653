/** Servers that lie before anything is read. */
import { MoraineError } from '@moraine/engine'
import { describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { openNbd } from '../src/index.ts'
import { atOption, bytes, extentsOf, never, type Row, size, testRows } from './support/hostile.ts'
import {
  allFlags,
  goAnswer,
  greeting,
  type Peer,
  pack,
  reply,
  scripted,
  takeOption,
  takeRequest,
} from './support/scripted.ts'

const folder = temporaryFolder()

const rows: Row[] = [
  {
    name: 'is no NBD server',
    script: async (peer) => peer.say(Buffer.from('HTTP/1.1 400 Bad Request\r\n')),
    kind: 'corrupt',
    says: /Bad initial magic/,
  },
  {
    name: 'knows half of the magic',
    script: async (peer) => peer.say(Buffer.from('NBDMAGICwhatever')),
    kind: 'corrupt',
    says: /Bad server magic/,
  },
  { name: 'says nothing', silent: true, script: () => never, kind: 'io', says: /handshake within/ },
  { name: 'hangs up', script: async (peer) => void peer.socket.destroy(), kind: 'io', says: /closed/ },
  {
    name: 'hangs up in its greeting',
    script: async (peer) => void peer.socket.end(greeting().subarray(0, 11)),
    kind: 'io',
    says: /closed/,
  },
  {
    name: 'answers with another magic',
    script: atOption(7, (peer) => peer.say(bytes(20))),
    kind: 'corrupt',
    says: /reply magic/,
  },
  {
    name: 'answers another option',
    script: atOption(7, (peer) => peer.say(reply(6, 1))),
    kind: 'corrupt',
    says: /option type 6/,
  },
  {
    name: 'promises a reply of 4 GiB',
    script: atOption(7, (peer) => peer.say(pack([8, 0x0003e889045565a9n], [4, 7], [4, 3], [4, 0xffff_ffff]))),
    kind: 'corrupt',
    says: /too long/,
  },
  {
    name: 'agrees with data',
    script: atOption(7, (peer) => peer.say(reply(7, 1, bytes(4)))),
    kind: 'corrupt',
    says: /ACK with data/,
  },
  {
    name: 'never ends its replies',
    script: atOption(7, async (peer) => {
      const many = Buffer.concat(Array.from({ length: 1000 }, () => reply(7, 3, pack([2, 2], [8, 0]))))
      for (let i = 0; i < 40 && !peer.socket.destroyed; i++) peer.say(many)
    }),
    kind: 'limit',
    says: /does not come to an end/,
  },
  {
    name: 'sends giant strings without an end',
    script: atOption(7, async (peer) => {
      const giant = reply(7, 3, Buffer.concat([pack([2, 1]), bytes(8000)]))
      for (let i = 0; i < 4000 && !peer.socket.destroyed; i++) {
        peer.say(giant)
        if (i % 50 === 0) await new Promise((resolve) => setImmediate(resolve))
      }
    }),
    kind: 'limit',
    says: /does not come to an end/,
  },
  {
    name: 'tells no size',
    script: atOption(7, (peer) => peer.say(reply(7, 1))),
    kind: 'corrupt',
    says: /omitted NBD_INFO_EXPORT/,
  },
  {
    name: 'tells half a size',
    script: atOption(7, (peer) => peer.say(reply(7, 3, pack([2, 0], [8, 5])), reply(7, 1))),
    kind: 'corrupt',
    says: /info reply/,
  },
  {
    name: 'has an export of 2^64 - 1 bytes',
    script: atOption(7, (peer) => peer.say(goAnswer(-1n, allFlags))),
    kind: 'limit',
    says: /too large/,
  },
  ...[0, 3, 1 << 17].map(
    (block): Row => ({
      name: `has blocks of ${block} bytes`,
      script: atOption(7, (peer) =>
        peer.say(reply(7, 3, pack([2, 3], [4, block], [4, 4096], [4, 1 << 25])), goAnswer(size, allFlags).subarray(34)),
      ),
      kind: 'corrupt',
      says: /minimum block size/,
    }),
  ),
  {
    name: 'has an export that is no multiple of its blocks',
    script: atOption(7, (peer) =>
      peer.say(reply(7, 3, pack([2, 3], [4, 512], [4, 4096], [4, 1 << 25])), goAnswer(1000, allFlags).subarray(34)),
    ),
    kind: 'unsupported',
    says: /not multiple/,
  },
  {
    name: 'takes less than a block at once',
    script: atOption(7, (peer) =>
      peer.say(reply(7, 3, pack([2, 3], [4, 512], [4, 4096], [4, 16])), goAnswer(size, allFlags).subarray(34)),
    ),
    kind: 'corrupt',
    says: /maximum block size/,
  },
  {
    name: 'has no such export',
    script: atOption(7, (peer) => peer.say(reply(7, 0x8000_0006, Buffer.from('no\u001b[2Jpe')))),
    kind: 'missing',
    says: /not available/,
  },
  {
    name: 'demands TLS',
    script: atOption(7, (peer) => peer.say(reply(7, 0x8000_0005))),
    kind: 'denied',
    says: /TLS negotiation required/,
  },
  {
    name: 'has a new kind of error',
    script: atOption(7, (peer) => peer.say(reply(7, 0x8000_0fff))),
    kind: 'io',
    says: /Unknown error code/,
  },
  {
    name: 'gives one number to two contexts',
    script: atOption(10, (peer) =>
      peer.say(
        ...['base:allocation', 'base:allocation'].map((text) =>
          reply(10, 4, Buffer.concat([pack([4, 1]), Buffer.from(text)])),
        ),
        reply(10, 1),
      ),
    ),
    kind: 'corrupt',
    says: /two contexts/,
  },
]

testRows(folder, rows)

describe('a server that', () => {
  it('agrees to TLS and goes on in clear is refused', async () => {
    const server = await scripted(folder.fresh('.sock'), async (peer) => {
      peer.say(greeting())
      await peer.take(4)
      await takeOption(peer)
      peer.say(reply(5, 1), goAnswer(size, allFlags))
      await never
    })
    const error = await openNbd(server.uri, { tls: {} }).catch((error: unknown) => error)
    expect(error).toBeInstanceOf(MoraineError)
    expect((error as MoraineError).message).toMatch(/in clear|TLS handshake failed/)
    await server.stop()
  })

  it.each([
    ['does not know TLS', async (peer: Peer) => peer.say(greeting(), reply(5, 0x8000_0001))],
    ['is too old for TLS', async (peer: Peer) => peer.say(greeting(0))],
    [
      'is much too old for TLS',
      async (peer: Peer) =>
        peer.say(pack([8, 0x4e42444d41474943n], [8, 0x00420281861253n], [8, size], [4, 1]), Buffer.alloc(124)),
    ],
  ])('%s gets no request in clear', async (_name, script) => {
    const server = await scripted(folder.fresh('.sock'), script)
    await expect(openNbd(server.uri, { tls: {} })).rejects.toThrow(/starttls/)
    await server.stop()
  })

  it.each([
    ['old', (zeros: Buffer) => [pack([8, 0x4e42444d41474943n], [8, 0x00420281861253n], [8, size], [4, 1]), zeros]],
    ['not fixed', (zeros: Buffer) => [greeting(0), pack([8, size], [2, 1]), zeros]],
  ] as const)('is %s is understood', async (_name, words) => {
    const server = await scripted(folder.fresh('.sock'), async (peer) => {
      peer.say(...words(Buffer.alloc(124)))
      if (words(Buffer.alloc(0)).length === 3) await peer.take(4 + 16)
      const { cookie, length } = await takeRequest(peer)
      peer.say(pack([4, 0x67446698], [4, 0], [8, cookie]), bytes(length))
      await never
    })
    const store = await openNbd(server.uri)
    const into = new Uint8Array(1000)
    await store.read(5, into)
    expect([store.size, into.every((byte) => byte === 1)]).toEqual([size, true])
    expect(await extentsOf(store)).toMatchObject([{ length: size, data: true, zero: false }])
    await store.close()
    await server.stop()
  })
})
