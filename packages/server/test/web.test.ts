/** What the service fetches from the web, and what it must not be made to fetch. */
import { randomBytes } from 'node:crypto'
import type { ServerResponse } from 'node:http'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, it } from 'vitest'
import { settings } from '../src/config.ts'
import { WebClient } from '../src/web/client.ts'
import { CannotResume, canGoOn, download, type FileVersion } from '../src/web/download.ts'
import { isPublic, type Resolve, WebGate, type WebRules } from '../src/web/gate.ts'
import { type Mirror, type MirrorFile, startMirror } from './support/mirror.ts'

const rules: WebRules = {
  importSchemes: settings.importSchemes.initial,
  importPorts: settings.importPorts.initial,
  importAllowedHosts: '',
  importDeniedHosts: '',
}
const limits = { importConnectSeconds: 5, importIdleSeconds: 5, importRedirects: 3 }
const at =
  (...addresses: string[]): Resolve =>
  () =>
    Promise.resolve(addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })))
const publicly = at('93.184.215.14')

describe('addresses', () => {
  it.each([
    '127.0.0.1',
    '127.255.255.254',
    '10.0.0.1',
    '172.16.0.1',
    '172.31.255.255',
    '192.168.1.1',
    '169.254.169.254',
    '0.0.0.0',
    '0.1.2.3',
    '100.64.0.1',
    '192.0.0.8',
    '192.0.2.1',
    '198.18.0.1',
    '198.51.100.7',
    '203.0.113.9',
    '224.0.0.1',
    '240.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    'fe80::1',
    'fc00::1',
    'fd12:3456::1',
    'ff02::1',
    '::ffff:127.0.0.1',
    '::ffff:93.184.215.14',
    '64:ff9b::7f00:1',
    '::127.0.0.1',
    '2001:db8::1',
    '2002:7f00:1::',
    '2001::1',
    '3fff::1',
    'fec0::1',
    '5f00::1',
    'nonsense',
    '',
  ])('%s is not on the internet', (address) => expect(isPublic(address)).toBe(false))

  it.each([
    '93.184.215.14',
    '1.1.1.1',
    '172.32.0.1',
    '100.128.0.1',
    '2606:4700::1111',
    '2a00:1450:4001::1',
    '2001:4860:4860::8888',
  ])('%s is', (address) => expect(isPublic(address)).toBe(true))
})

describe('the gate', () => {
  const gate = new WebGate(rules, publicly)

  it.each([
    ['http://127.0.0.1/', 'is not on the internet'],
    ['http://localhost/', 'localhost has an address that is not on the internet', at('127.0.0.1')],
    ['http://example.org/', 'example.org has an address that is not on the internet', at('10.0.0.1')],
    ['http://example.org/', 'has an address that is not', at('93.184.215.14', '::1')],
    ['http://example.org/', 'has no address', at()],
    ['http://[::1]/', 'is not on the internet'],
    ['http://[::ffff:7f00:1]/', 'not on the internet'],
    ['http://[fe80::1]/', 'is not on the internet'],
    ['http://169.254.169.254/latest/meta-data/', 'is not on the internet'],
    ['http://2130706433/', 'another way to write 127.0.0.1'],
    ['http://0x7f000001/', 'another way to write'],
    ['http://0x7f.0.0.1/', 'another way to write'],
    ['http://0177.0.0.1/', 'another way to write'],
    ['http://127.1/', 'another way to write'],
    ['http://1572395790/', 'another way to write 93.184.219.14'],
    ['http://127.0.0.1./', 'another way to write'],
    ['http://%31%32%37.0.0.1/', 'another way to write'],
    ['http://１２７.0.0.1/', 'another way to write'],
    ['http://127。0。0。1/', 'another way to write'],
    ['http://user@example.org/', 'user name'],
    ['http://example.org:pass@127.0.0.1/', 'user name'],
    ['http://127.0.0.1#@example.org/', 'is not on the internet'],
    ['http:\\\\127.0.0.1\\', 'backslashes'],
    ['http://exa\tmple.org/', 'control characters'],
    ['http://example.org/ HTTP/1.1\r\nHost: x', 'spaces'],
    ['http:example.org', 'it is no address'],
    ['//example.org/', 'it is no address'],
    ['', 'it is no address'],
    ['file:///etc/passwd', "the scheme 'file'"],
    ['ftp://example.org/', "the scheme 'ftp'"],
    ['data:text/plain,x', 'it is no address'],
    ['http://example.org:22/', 'the port 22'],
    ['https://example.org:8443/', 'the port 8443'],
  ] as [string, string, Resolve?][])('refuses %j: %s', async (url, reason, resolve = publicly) => {
    const client = new WebClient(new WebGate(rules, resolve), limits)
    await expect(client.check(url)).rejects.toThrow(reason)
    await expect(client.get(url, {}, AbortSignal.timeout(5000))).rejects.toSatisfy((error: Error) =>
      `${error.message} ${String(error.cause)}`.includes(reason),
    )
    await client.close()
  })

  it.each([
    'http://example.org/',
    'https://example.org/x?y#z',
    'http://93.184.215.14:443/',
    'HTTP://EXAMPLE.ORG./',
    'https://[2606:4700::1111]/',
  ])('lets %s through', async (url) => {
    const { hostname } = gate.check(url)
    await gate.resolve(hostname.replace(/[[\]]/g, ''))
  })

  it('keeps to the lists of hosts', async () => {
    const only = new WebGate(
      { ...rules, importAllowedHosts: 'images.example.org, *.mirror.org, 10.1.0.0/16' },
      at('10.1.2.3'),
    )
    for (const host of ['images.example.org', 'images.example.org.', 'a.b.mirror.org', '10.1.2.3', 'inside.example']) {
      await only.resolve(only.check(`http://${host}/`).hostname)
    }
    for (const host of ['10.2.0.1', '127.0.0.1']) expect(() => only.check(`http://${host}/`)).toThrow('not on the list')
    const elsewhere = new WebGate({ ...rules, importAllowedHosts: '10.1.0.0/16' }, at('10.2.0.1'))
    await expect(elsewhere.resolve('example.org')).rejects.toThrow('not on the list')
    const without = new WebGate({ ...rules, importDeniedHosts: '*.evil.org, 93.184.0.0/16' }, publicly)
    expect(() => without.check('http://a.evil.org/')).toThrow('denied')
    expect(() => without.check('http://93.184.1.1/')).toThrow('denied')
    await expect(without.resolve('example.org')).rejects.toThrow('denied')
    expect(
      new WebGate({ ...rules, importPorts: '*', importSchemes: 'https' }).check('https://example.org:1/').port,
    ).toBe('1')
  })
})

describe('a client', () => {
  let mirror: Mirror
  beforeAll(async () => {
    mirror = await startMirror()
  })
  const open = (more: Partial<WebRules> = {}, resolve?: Resolve) =>
    new WebClient(new WebGate({ ...rules, importPorts: '*', ...more }, resolve), limits)
  const signal = AbortSignal.timeout(20_000)
  const redirect = (to: string): MirrorFile => ({
    data: Buffer.alloc(0),
    answer: (_request, response) => void response.writeHead(302, { location: to }).end(),
  })

  it('connects to what was judged: a name that means something else the second time does not help', async () => {
    const { port } = new URL(mirror.url)
    let asked = 0
    const client = open({}, () =>
      Promise.resolve([{ address: asked++ === 0 ? '93.184.215.14' : '127.0.0.1', family: 4 }]),
    )
    await client.check(`http://rebind.example:${port}/`)
    const before = mirror.requests.length
    await expect(client.get(`http://rebind.example:${port}/`, {}, signal)).rejects.toThrow()
    expect([asked, mirror.requests.length]).toEqual([2, before])
    await client.close()
  })

  it('reaches an allowed name at its judged address', async () => {
    mirror.files.set('/hello', { data: Buffer.from('hello') })
    const client = open({ importAllowedHosts: 'mirror.example' }, at('127.0.0.1'))
    const answer = await client.get(`http://mirror.example:${new URL(mirror.url).port}/hello`, {}, signal)
    expect([answer.status, await text(answer.body)]).toEqual([200, 'hello'])
    await client.close()
  })

  it.each([
    ['http://[::1]/', 'not on the list'],
    ['http://2130706433:1/', 'another way to write'],
    ['file:///etc/passwd', "the scheme 'file'"],
    ['/again', 'only 3 redirects'],
  ])('does not follow to %s', async (to, reason) => {
    mirror.files.set('/again', redirect(to))
    const client = open({ importAllowedHosts: '127.0.0.1' })
    await expect(client.get(`${mirror.url}/again`, {}, signal)).rejects.toThrow(reason)
    await client.close()
  })

  it('does not tell another server its secrets', async () => {
    const other = await startMirror()
    let seen: unknown
    other.files.set('/x', {
      data: Buffer.alloc(0),
      answer: ({ headers }, response) => {
        seen = headers['x-auth-token']
        response.end()
      },
    })
    mirror.files.set('/away', redirect(`${other.url}/x`))
    const client = open({ importAllowedHosts: '127.0.0.1' })
    await text((await client.get(`${mirror.url}/away`, { 'x-auth-token': 'secret' }, signal)).body)
    expect([seen, other.requests]).toEqual([undefined, ['GET /x']])
    await client.close()
  })

  it('waits for a server no longer than it may, and for its reader', async () => {
    const short = new WebClient(new WebGate({ ...rules, importPorts: '*', importAllowedHosts: '127.0.0.1' }), {
      ...limits,
      importIdleSeconds: 0.4,
    })
    const silent = (response: ServerResponse, said: string) => void response.write(said)
    mirror.files.set('/silent', { data: Buffer.alloc(0), answer: () => {} })
    mirror.files.set('/stops', { data: Buffer.alloc(0), answer: (_, response) => silent(response, 'some') })
    await expect(short.get(`${mirror.url}/silent`, {}, signal)).rejects.toThrow('no answer within 0.4 seconds')
    const stopping = await short.get(`${mirror.url}/stops`, {}, signal)
    await expect(text(stopping.body)).rejects.toThrow('nothing came for 0.4 seconds')
    // What has come and is not read yet is no silence.
    mirror.files.set('/large', { data: randomBytes(1_000_000) })
    const slow = await short.get(`${mirror.url}/large`, {}, signal)
    await sleep(1000)
    let read = 0
    for await (const piece of slow.body) read += (piece as Buffer).length
    expect(read).toBe(1_000_000)
    await short.close()
  })

  it('lets requests wait for a connection as long as others use them', async () => {
    const client = new WebClient(new WebGate({ ...rules, importPorts: '*', importAllowedHosts: '127.0.0.1' }), {
      ...limits,
      importConnectSeconds: 0.3,
    })
    mirror.files.set('/held', {
      data: Buffer.alloc(0),
      answer: (_, response) => void setTimeout(() => response.end('x'), 700),
    })
    const said = await Promise.all(
      Array.from({ length: 20 }, async () => text((await client.get(`${mirror.url}/held`, {}, signal)).body)),
    )
    expect(said).toEqual(Array(20).fill('x'))
    await client.close()
  })

  describe('a download', () => {
    const data = randomBytes(1_000_000)
    const get = async (path: string, more = {}) => {
      const client = open({ importAllowedHosts: '127.0.0.1' })
      const parts: Buffer[] = []
      try {
        const body = download({
          client,
          url: `${mirror.url}${path}`,
          retries: 2,
          pauseMilliseconds: 1,
          signal,
          ...more,
        })
        for await (const part of body) parts.push(Buffer.from(part))
      } finally {
        await client.close()
      }
      return Buffer.concat(parts)
    }

    it('goes on after each cut with a range', async () => {
      mirror.files.set('/cut', { data, etag: '"1"', cutAfter: 300_000 })
      mirror.requests.length = 0
      expect((await get('/cut')).equals(data)).toBe(true)
      expect(mirror.requests.length).toBeGreaterThanOrEqual(4)
      expect(mirror.requests[1]).toMatch(/^GET \/cut bytes=\d+-$/)
    })

    it('reads again what it has from a server without ranges', async () => {
      let times = 0
      const file = { data, etag: '"1"', whole: true, cutAfter: 400_000 }
      mirror.files.set('/whole', file)
      expect(
        (
          await get('/whole', {
            onRetry: () => {
              if (++times === 2) file.cutAfter = Infinity
            },
          })
        ).equals(data),
      ).toBe(true)
    })

    it('goes on when a part does not say again when the file was changed', async () => {
      const modified = 'Mon, 05 Jan 2026 10:00:00 GMT'
      const half = data.length / 2
      mirror.files.set('/terse', {
        data,
        answer({ headers }, response) {
          if (headers.range === undefined) {
            response.writeHead(200, { 'content-length': data.length, 'last-modified': modified })
            response.write(data.subarray(0, half), () => response.destroy())
            return
          }
          expect(headers).toMatchObject({ range: `bytes=${half}-`, 'if-range': modified })
          const range = `bytes ${half}-${data.length - 1}/${data.length}`
          response.writeHead(206, { 'content-range': range }).end(data.subarray(half))
        },
      })
      expect((await get('/terse')).equals(data)).toBe(true)
    })

    it.each<[string, Omit<MirrorFile, 'data'>]>([
      ['nothing to know the file by', { cutAfter: 300_000 }],
      ['a weak tag', { etag: 'W/"1"', cutAfter: 300_000 }],
      [
        'no length',
        {
          answer: (_request, response) =>
            void response.writeHead(200, { etag: '"1"' }).write(data.subarray(0, 300_000), () => response.destroy()),
        },
      ],
    ])('begins anew, or not at all, when it breaks at a server that says %s', async (_what, file) => {
      mirror.files.set('/unknown', { data, ...file })
      mirror.requests.length = 0
      await expect(get('/unknown')).rejects.toThrow(CannotResume)
      await expect(get('/unknown', { retries: 0 })).rejects.not.toThrow(CannotResume)
      expect(mirror.requests).toEqual(['GET /unknown', 'GET /unknown'])
    })

    it('goes on by the length alone when the whole is compared with a digest', async () => {
      mirror.files.set('/checked', { data, cutAfter: 300_000 })
      expect((await get('/checked', { isChecked: true })).equals(data)).toBe(true)
    })

    it('takes another file while no byte has come', async () => {
      let times = 0
      mirror.files.set('/mirrors', {
        data,
        answer(_request, response) {
          const tag = `"${++times}"`
          response.writeHead(200, { etag: tag, 'content-length': data.length + 2 - times })
          if (times === 2) response.end(data)
          else {
            response.flushHeaders()
            setTimeout(() => response.destroy(), 50)
          }
        },
      })
      const sizes: number[] = []
      expect((await get('/mirrors', { onSize: (size: number) => sizes.push(size) })).equals(data)).toBe(true)
      expect(sizes).toEqual([data.length + 1, data.length])
    })

    it('ends when the file has changed meanwhile', async () => {
      const file = { data, etag: '"1"', cutAfter: 300_000 }
      mirror.files.set('/changed', file)
      const onRetry = () => {
        file.etag = '"2"'
      }
      await expect(get('/changed', { onRetry })).rejects.toThrow('the file changed')
    })

    it('gives up after some tries without a byte', async () => {
      mirror.requests.length = 0
      mirror.files.set('/busy', { data, answer: (_request, response) => void response.writeHead(503).end() })
      await expect(get('/busy')).rejects.toThrow('the server answered 503; tried 3 times')
      expect(mirror.requests).toHaveLength(3)
    })

    it.each([
      ['/nothing', 'the server answered 404', undefined],
      ['/packed', 'a coding of its own: gzip', { 'content-encoding': 'gzip' }],
    ])('%s fails at once', async (path, reason, headers) => {
      mirror.requests.length = 0
      if (headers !== undefined) {
        mirror.files.set(path, { data, answer: (_request, response) => void response.writeHead(200, headers).end('x') })
      }
      await expect(get(path)).rejects.toThrow(reason)
      expect(mirror.requests).toHaveLength(1)
    })

    describe('that goes on where an earlier one was', () => {
      const at = 400_000
      const tag = '"1"'
      const old = 'Mon, 05 Jan 2026 10:00:00 GMT'
      const size = data.length
      const answering =
        (status: number, headers: Record<string, string | number>, from = at): NonNullable<MirrorFile['answer']> =>
        (_request, response) =>
          void response.writeHead(status, headers).end(data.subarray(from))
      const part = `bytes ${at}-${size - 1}/${size}`

      it.each<[string, Omit<MirrorFile, 'data'>, object]>([
        ['by its tag', { etag: tag }, { etag: tag, size }],
        ['by the time of its change', { modified: old }, { modified: old, size }],
        ['by both', { etag: tag, modified: old }, { etag: tag, modified: old, size }],
        [
          'again from the first byte, where the server knows no ranges',
          { etag: tag, whole: true },
          { etag: tag, size },
        ],
        ['after cuts', { etag: tag, cutAfter: 250_000 }, { etag: tag, size }],
      ])('asks for the rest: %s', async (_how, file, version) => {
        mirror.requests.length = 0
        mirror.files.set('/rest', { data, ...file })
        expect((await get('/rest', { from: { at, version } })).equals(data.subarray(at))).toBe(true)
        expect(mirror.requests[0]).toBe(`GET /rest bytes=${at}-`)
      })

      it('asks for nothing when nothing is missing', async () => {
        mirror.requests.length = 0
        expect(await get('/rest', { from: { at: size, version: { etag: tag, size } } })).toHaveLength(0)
        expect(mirror.requests).toEqual([])
      })

      it.each<[string, Omit<MirrorFile, 'data'>]>([
        ['another file', { etag: '"2"' }],
        ['a file without a tag', {}],
        ['a file with a weak tag', { etag: 'W/"1"' }],
        ['another range', { answer: answering(206, { etag: tag, 'content-range': `bytes 0-${size - 1}/${size}` }, 0) }],
        ['a part of something longer', { answer: answering(206, { etag: tag, 'content-range': `${part}0` }) }],
        ['a range of unknown length', { answer: answering(206, { etag: tag, 'content-range': `bytes ${at}-/*` }) }],
        ['a range that is not named', { answer: answering(206, { etag: tag }) }],
        ['no such range', { answer: answering(416, {}) }],
        ['nothing of that name', { answer: answering(404, {}) }],
        ['a broken connection, each time', { answer: (_request, response) => void response.destroy() }],
      ])('fails, so that it can begin anew, when the server has %s', async (_what, file) => {
        mirror.files.set('/other', { data, ...file })
        await expect(get('/other', { from: { at, version: { etag: tag, size } } })).rejects.toThrow(CannotResume)
      })

      it.each<[string, Record<string, string>, boolean]>([
        ['a tag', { etag: tag }, true],
        ['a weak tag', { etag: 'W/"1"' }, false],
        ['a time long ago', { 'last-modified': old }, true],
        ['a time of this second', { 'last-modified': old, date: old }, false],
        ['no length', { etag: tag, 'transfer-encoding': 'chunked' }, false],
        ['nothing', {}, false],
      ])('can be told by %s', async (_what, facts, can) => {
        const headers = facts['transfer-encoding'] === undefined ? { ...facts, 'content-length': size } : facts
        mirror.files.set('/told', { data, answer: answering(200, headers, 0) })
        const seen: FileVersion[] = []
        await get('/told', { onVersion: (version: FileVersion) => seen.push(version) })
        expect(seen.map(canGoOn)).toEqual([can])
      })
    })

    it('ends in the middle when it is told to', async () => {
      mirror.files.set('/slow', { data, milliseconds: 50 })
      await expect(get('/slow', { signal: AbortSignal.timeout(150) })).rejects.toThrow('timeout')
    })
  })
})
