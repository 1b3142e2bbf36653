/** Downloads over bad connections: whole and right, or an error; never something in between. */
import { createHash } from 'node:crypto'
import { mkdirSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { Random, seed } from '../../engine/test/support/random.ts'
import { ChangedFile, type Download, downloadBytes, fileBytes } from '../src/download.ts'
import { fetchGet, serveFolder, type Web } from './support/web.ts'

const folder = temporaryFolder()
const data = Buffer.from(new Random(seed('download')).bytes(300_000))
let web: Web
beforeAll(async () => {
  mkdirSync(folder.file('web'))
  writeFileSync(folder.file('web/disk.img'), data)
  web = await serveFolder(folder.file('web'))
})
afterAll(() => web.close())
beforeEach(() => {
  web.faults.clear()
  web.requests.length = 0
})

async function fetchAll(over: Partial<Download> = {}): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  const download = {
    ...{ get: fetchGet, url: `${web.url}/disk.img`, size: data.length, most: 1 << 20, start: 0 },
    patience: { attempts: 3, pauseMilliseconds: 1 },
    ...over,
  }
  for await (const piece of downloadBytes(download)) pieces.push(Uint8Array.from(piece))
  return Buffer.concat(pieces)
}
const sha = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

describe('downloads', () => {
  test('whole at once, and from any byte on', async () => {
    expect(sha(await fetchAll())).toBe(sha(data))
    for (const start of [1, 65_536, data.length - 1]) {
      expect((await fetchAll({ start })).equals(data.subarray(start))).toBe(true)
    }
    expect(web.requests).toEqual([
      'GET /disk.img',
      'GET /disk.img bytes=1-',
      'GET /disk.img bytes=65536-',
      `GET /disk.img bytes=${data.length - 1}-`,
    ])
  })

  test('a connection that breaks again and again is taken up where it broke', async () => {
    web.faults.set('/disk.img', { cutAfter: 50_000 })
    const retries: number[] = []
    expect(sha(await fetchAll({ onRetry: (_, at) => retries.push(at) }))).toBe(sha(data))
    expect(retries.length).toBeGreaterThanOrEqual(5)
    expect(retries).toEqual(retries.toSorted((a, b) => a - b))
  })

  test('a server that knows no ranges', async () => {
    web.faults.set('/disk.img', { whole: true })
    expect((await fetchAll({ start: 1000 })).equals(data.subarray(1000))).toBe(true)
  })

  test('slow is not broken, and what passes is tried again', async () => {
    web.faults.set('/disk.img', { milliseconds: 5 })
    expect(sha(await fetchAll())).toBe(sha(data))
    web.faults.set('/disk.img', { status: 503, times: 2 })
    expect(sha(await fetchAll())).toBe(sha(data))
  })

  test('without a size in the catalogue the server says it, within bounds', async () => {
    const sizes: number[] = []
    expect(sha(await fetchAll({ size: undefined, onSize: (size) => sizes.push(size) }))).toBe(sha(data))
    expect(sizes).toEqual([data.length])
    await expect(fetchAll({ size: undefined, most: 1000 })).rejects.toMatchObject({ kind: 'limit' })
  })

  test('the ETag of what is there must be that of what comes', async () => {
    let etag = ''
    await fetchAll({ onEtag: (seen) => (etag = seen) })
    expect(etag).toMatch(/^"/)
    expect((await fetchAll({ start: 10, etag })).equals(data.subarray(10))).toBe(true)
    await expect(fetchAll({ start: 10, etag: '"another"' })).rejects.toThrow(ChangedFile)
    // It changes in the middle.
    web.faults.set('/disk.img', { cutAfter: 100_000, etag: '"first"', times: 1 })
    await expect(fetchAll()).rejects.toThrow('another file than before')
  })

  test.each([
    ['503 for ever', { status: 503 }, 'io', '503'],
    ['404', { status: 404 }, 'missing', 'not there'],
    ['403', { status: 403 }, 'io', '403'],
    ['cut before the first byte', { cutAfter: 0 }, 'io', 'broke at byte 0'],
    ['a longer file', { data: Buffer.concat([data, data]) }, 'corrupt', 'should have 300000'],
    ['a shorter file', { data: data.subarray(1) }, 'corrupt', '299999'],
    ['a length that is too large', { lengthOff: 1000 }, 'corrupt', '301000'],
  ] as const)('%s is an error', async (_, fault, kind, message) => {
    web.faults.set('/disk.img', fault)
    await expect(fetchAll()).rejects.toMatchObject({
      name: 'MoraineError',
      kind,
      message: expect.stringContaining(message),
    })
  })

  test('a part that is longer than the file', async () => {
    await expect(fetchAll({ start: data.length + 5, size: data.length + 10 })).rejects.toThrow(ChangedFile)
  })

  test('a caller can stop at any time', async () => {
    const controller = new AbortController()
    const run = async () => {
      for await (const _ of downloadBytes({
        ...{ get: fetchGet, url: `${web.url}/disk.img`, size: data.length, most: 1 << 20, start: 0 },
        signal: controller.signal,
      })) {
        controller.abort()
      }
    }
    await expect(run()).rejects.toMatchObject({ kind: 'cancelled' })
  })

  test('from a folder', async () => {
    const pieces: Uint8Array[] = []
    for await (const piece of fileBytes(folder.file('web/disk.img'), 7, undefined)) pieces.push(piece)
    expect(Buffer.concat(pieces).equals(data.subarray(7))).toBe(true)
    const read = fileBytes(folder.file('web/none.img'), 0, undefined)
    await expect(read.next()).rejects.toMatchObject({ kind: 'missing' })
  })
})
