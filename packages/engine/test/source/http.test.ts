/** The manners of HTTP servers in the wild. */
import { cachedSource, type HttpOptions, openHttp } from '@moraine/engine'
import { afterEach, describe, expect, it } from 'vitest'
import { expectSameBytes, refused, sampleContent } from './conformance.ts'
import { type Manners, serve, type TestServer } from './http-server.ts'

const servers: TestServer[] = []
afterEach(async () => {
  for (const server of servers.splice(0)) await server.close()
})

const content = sampleContent(1024 * 1024 + 77)

async function started(manners: Partial<Manners> = {}): Promise<TestServer> {
  const server = await serve({ content, ...manners })
  servers.push(server)
  return server
}

async function opened(manners: Partial<Manners> = {}, options: HttpOptions = {}) {
  const server = await started(manners)
  return { server, source: await openHttp(server.url, options) }
}

async function expectReads(source: Awaited<ReturnType<typeof openHttp>>, offset: number, length: number) {
  const bytes = new Uint8Array(length)
  await source.read(offset, bytes)
  expectSameBytes(bytes, content.subarray(offset, offset + length), `${offset}+${length}`)
}

describe('opening', () => {
  it('asks HEAD once', async () => {
    const { server, source } = await opened()
    expect(source.size).toBe(content.length)
    expect(server.seen.map(({ method }) => method)).toEqual(['HEAD'])
  })

  it.each([
    ['HEAD is refused', { headStatus: 405 }],
    ['HEAD is forbidden by a signature', { headStatus: 403 }],
    ['HEAD tells no length', { headWithoutLength: true }],
    ['HEAD tells the length of something compressed', { headSaysGzip: true }],
  ] as const)('asks for the first byte when %s', async (_title, manners) => {
    const { server, source } = await opened(manners)
    expect(source.size).toBe(content.length)
    expect(server.seen.map(({ method, range }) => [method, range])).toEqual([
      ['HEAD', undefined],
      ['GET', 'bytes=0-0'],
    ])
    expect(server.sent()).toBe(1)
    await expectReads(source, 1000, 5000)
  })

  it('opens an empty resource without HEAD', async () => {
    const { source } = await opened({ content: new Uint8Array(0), headStatus: 405 })
    expect(source.size).toBe(0)
  })

  it('says what the server said', async () => {
    const gone = await started({ headStatus: 404, statuses: [404] })
    const error = await refused(openHttp(gone.url), 'missing')
    expect(error).toMatchObject({ path: gone.url, value: 404 })
    const denied = await started({ headStatus: 401, statuses: [401] })
    await refused(openHttp(denied.url), 'denied')
    const broken = await started({ headStatus: 500, statuses: [500, 500, 500] })
    await refused(openHttp(broken.url, { retries: 0 }), 'io')
    await refused(openHttp('ftp://x/y'), 'unsupported')
    await refused(openHttp('no address'), 'invalid')
    await refused(openHttp(gone.url, {}, AbortSignal.abort()), 'cancelled')
    const nobody = await started()
    await nobody.close()
    await refused(openHttp(nobody.url, { retries: 0 }), 'io')
  })

  it('sends credentials of the address, and shows them nowhere', async () => {
    const server = await started()
    const source = await openHttp(server.url.replace('http://', 'http://user:p%40ss@'))
    expect(source.name).toBe(server.url)
    await expectReads(source, 0, 10)
    const expected = `Basic ${Buffer.from('user:p@ss').toString('base64')}`
    expect(server.seen.map(({ authorization }) => authorization)).toEqual([expected, expected])
  })

  it('uses the fetch it is given', async () => {
    const asked: string[] = []
    const { source } = await opened(
      {},
      {
        fetch: (input, init) => {
          asked.push(init?.method ?? 'GET')
          return fetch(input, init)
        },
      },
    )
    await expectReads(source, 0, 10)
    expect(asked).toEqual(['HEAD', 'GET'])
  })
})

describe('reading', () => {
  it('puts neighbouring reads of one moment together', async () => {
    const { server, source } = await opened()
    server.seen.length = 0
    await Promise.all([
      expectReads(source, 20_000, 4096),
      expectReads(source, 0, 4096),
      expectReads(source, 2048, 8000),
      expectReads(source, 500_000, 100),
    ])
    expect(server.seen.map(({ range }) => range)).toEqual(['bytes=0-24095', 'bytes=500000-500099'])
  })

  it('keeps requests within their length', async () => {
    const { server, source } = await opened({}, { requestBytes: 100_000 })
    server.seen.length = 0
    await Promise.all(Array.from({ length: 10 }, (_, i) => expectReads(source, i * 40_000, 40_000)))
    expect(server.seen).toHaveLength(5)
  })

  it('reads an image head and tail behind a cache in 3 requests', async () => {
    const { server, source } = await opened()
    const cached = cachedSource(source)
    await expectReads(cached, 0, 128 * 1024)
    await expectReads(cached, content.length - 1536, 1536)
    await expectReads(cached, 72, 8)
    expect(server.seen).toHaveLength(3)
  })

  it('reads front to back from a server without ranges, in one answer', async () => {
    for (const manners of [{ noRanges: true }, { noRanges: true, saysNoRanges: true }]) {
      const { server, source } = await opened(manners)
      for (let at = 0; at < 900_000; at += 90_000) await expectReads(source, at + 100, 80_000)
      const gets = server.seen.filter(({ method }) => method === 'GET').length
      expect(gets).toBe('saysNoRanges' in manners ? 1 : 2)
      await expectReads(source, 5, 10)
      await source.close()
    }
  })

  it('refuses to fetch much only to throw it away', async () => {
    const { server, source } = await opened({ noRanges: true }, { skipBytes: 100_000 })
    await expectReads(source, 50_000, 1000)
    const error = await refused(source.read(800_000, new Uint8Array(10)), 'unsupported')
    expect(error).toMatchObject({ path: server.url, offset: 800_000 })
    expect(error.hint).toContain('range requests')
    await expectReads(source, 100_000, 1000)
  })

  it('goes on where a broken connection ended', async () => {
    const { server, source } = await opened({ breakAfter: [30_000, 1] })
    server.seen.length = 0
    await Promise.all([expectReads(source, 1000, 60_000), expectReads(source, 70_000, 50_000)])
    expect(server.seen.map(({ range }) => range)).toEqual([
      'bytes=1000-119999',
      'bytes=31000-119999',
      'bytes=31001-119999',
    ])
  })

  it('gives up at last, with the place', async () => {
    const { server, source } = await opened({ breakAfter: [10, 10, 10, 10] }, { retries: 1 })
    const error = await refused(source.read(0, new Uint8Array(1000)), 'io')
    expect(error).toMatchObject({ path: server.url, code: 'ECONNRESET', offset: 20 })
  })

  it('tries again after a passing status', async () => {
    const { server, source } = await opened({ statuses: [503, 429] })
    await expectReads(source, 0, 100)
    expect(server.seen).toHaveLength(4)
    server.manners.statuses = [500, 500, 500]
    expect(await refused(source.read(0, new Uint8Array(100)), 'io')).toMatchObject({ value: 500, offset: 0 })
  })

  it('does not wait for ever', async () => {
    const { source } = await opened({ hang: true }, { timeout: 150, retries: 0 })
    expect((await refused(source.read(0, new Uint8Array(100)), 'io')).code).toBe('ETIMEDOUT')
  })

  it('ends when it is cancelled, and only what was cancelled', async () => {
    for (const noRanges of [false, true]) {
      const { server, source } = await opened({ hang: true, noRanges })
      const abort = new AbortController()
      const reading = source.read(0, new Uint8Array(100), abort.signal)
      setTimeout(() => abort.abort(), 50)
      await refused(reading, 'cancelled')
      server.manners.hang = false
      await expectReads(source, 0, 100)
    }
  })

  it('refuses another range than it asked for', async () => {
    const { source } = await opened({ shift: 512 })
    const error = await refused(source.read(0, new Uint8Array(100)), 'io')
    expect(error).toMatchObject({ field: 'Content-Range', offset: 0 })
  })
})

describe('a resource that changes between two reads', () => {
  it.each([
    ['ETag', { etag: '"a"' }, { etag: '"b"' }],
    ['Last-Modified', { modified: 'Mon, 01 Jan 2024 00:00:00 GMT' }, { modified: 'Tue, 02 Jan 2024 00:00:00 GMT' }],
    ['Content-Length', {}, { content: content.subarray(0, 900_000) }],
  ] as const)('is noticed by its %s', async (field, before, after) => {
    for (const noRanges of [false, true]) {
      const { server, source } = await opened({ ...before, noRanges })
      await expectReads(source, 100, 100)
      Object.assign(server.manners, after)
      // Without ranges the open answer goes on; a read further ahead in it is of the old bytes. Back means anew.
      const error = await refused(source.read(0, new Uint8Array(50)), 'io')
      expect(error).toMatchObject({ field, code: 'ESTALE', path: server.url })
    }
  })

  it('is noticed when it became so short that the range is gone', async () => {
    const { server, source } = await opened()
    server.manners.content = content.subarray(0, 1000)
    expect((await refused(source.read(500_000, new Uint8Array(50)), 'io')).code).toBe('ESTALE')
  })

  it('has not changed when only a weak mark or the clock of another server differs', async () => {
    const { server, source } = await opened({ etag: 'W/"a"', modified: 'Mon, 01 Jan 2024 00:00:00 GMT' })
    Object.assign(server.manners, { etag: '"a"', modified: 'Mon, 01 Jan 2024 00:00:01 GMT' })
    await expectReads(source, 0, 100)
  })
})
