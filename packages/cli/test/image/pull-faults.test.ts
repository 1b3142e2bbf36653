/** Pulls over connections that break, of images that are not what they were. */
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { beforeEach, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../../engine/test/support/folder.ts'
import { imageCommand } from './support/command.ts'
import { type Double, doubles } from './support/double.ts'

const folder = temporaryFolder()
const start = doubles()
const id = '0d7a3f0e-8a25-4f3a-b7d4-111111111111'
const data = Buffer.concat([randomBytes(3_000_000), Buffer.alloc(4_000_000), randomBytes(1_000_001)])

let double: Double
let command: ReturnType<typeof imageCommand>
let target: string
beforeEach(async () => {
  double = await start()
  command = imageCommand(folder, { OS_ENDPOINT: double.url })
  target = folder.fresh('.raw')
})
const gets = () => double.seen.filter(({ method, path }) => method === 'GET' && path.endsWith('/file'))

describe('pull', () => {
  beforeEach(() => double.add(id, 'disk', data))

  it('goes on after connections that break, each time from where it was', async () => {
    double.cuts.push(1_000_000, 2_000_000, 100_000)
    await command.ok('pull', 'disk', target)
    expect(readFileSync(target).equals(data)).toBe(true)
    const starts = gets().map(({ headers }) => Number(/\d+/.exec(headers.range ?? '0')?.[0]))
    expect(starts).toHaveLength(4)
    expect(starts).toEqual([...starts].sort((a, b) => a - b))
    expect(starts[3]).toBeGreaterThan(2_000_000)
    expect([existsSync(`${target}.part`), existsSync(`${target}.part.json`)]).toEqual([false, false])
  })

  it('reads over what it has when the service knows no ranges', async () => {
    double.cuts.push(1_000_000)
    double.ranges = false
    await command.ok('pull', 'disk', target)
    expect(readFileSync(target).equals(data)).toBe(true)
  })

  it('gives up when nothing comes any more, and keeps what came', async () => {
    double.cuts.push(1_000_000, 0, 0, 0, 0, 0, 0, 0)
    const result = await command.run('pull', 'disk', target)
    expect([result.code, result.stderr]).toEqual([1, expect.stringMatching(/connection to http.* failed/)])
    expect(existsSync(target)).toBe(false)
    const kept = readFileSync(`${target}.part`)
    expect(kept.length).toBeGreaterThan(0)
    expect(kept.equals(data.subarray(0, kept.length))).toBe(true)
  })

  it('goes on in another run after it was stopped', async () => {
    double.etag = '"one"'
    const stop = double.sent(3_500_000)
    double.instead = (_request, response) => {
      // Slow enough to be stopped.
      const write = response.write.bind(response)
      response.write = ((piece: Buffer) => {
        setTimeout(() => response.emit('drain'), 20)
        write(piece)
        return false
      }) as typeof response.write
      return false
    }
    expect(await command.stopped(['pull', 'disk', target], stop)).toBe('SIGINT')
    const kept = readFileSync(`${target}.part`)
    expect(kept.equals(data.subarray(0, kept.length))).toBe(true)
    double.instead = undefined
    const { stderr } = await command.run('pull', 'disk', target)
    expect(stderr).toContain(`goes on after the first ${kept.length} bytes`)
    expect(gets().at(-1)?.headers).toMatchObject({ range: `bytes=${kept.length}-`, 'if-range': '"one"' })
    expect(readFileSync(target).equals(data)).toBe(true)
  })

  it('begins anew when the image is another than that of the part', async () => {
    double.cuts.push(1_000_000)
    double.instead = (_request, response, path) => {
      if (!path.endsWith('/file') || gets().length < 2) return false
      response.writeHead(403).end()
      return true
    }
    expect((await command.run('pull', 'disk', target)).stderr).toContain('HTTP 403')
    expect(existsSync(`${target}.part`)).toBe(true)
    double.instead = undefined
    const other = randomBytes(data.length)
    double.add(id, 'disk', other)
    await command.ok('pull', 'disk', target)
    expect(gets().at(-1)?.headers.range).toBeUndefined()
    expect(readFileSync(target).equals(other)).toBe(true)
  })

  it('begins anew when the image changes while it comes', async () => {
    double.etag = '"one"'
    double.cuts.push(1_000_000)
    double.instead = (_request, _response, path) => {
      if (path.endsWith('/file') && gets().length === 2) double.etag = '"two"'
      return false
    }
    const { code, stderr } = await command.run('pull', 'disk', target)
    expect([code, stderr]).toEqual([0, expect.stringContaining('the image was changed while it was read')])
    expect(gets().map(({ headers }) => headers['if-range'])).toEqual([undefined, '"one"', undefined])
    expect(readFileSync(target).equals(data)).toBe(true)
  })

  it('refuses bytes that do not fit the digest, and leaves nothing', async () => {
    double.add(id, 'disk', data, { os_hash_value: 'ab'.repeat(64) })
    const { code, stderr } = await command.run('pull', 'disk', target)
    expect([code, stderr]).toEqual([1, expect.stringMatching(/not what the service has: sha512 is [0-9a-f]{128} here/)])
    expect([existsSync(target), existsSync(`${target}.part`)]).toEqual([false, false])
  })

  it('compares by the checksum when the service knows no better', async () => {
    double.add(id, 'disk', data, { os_hash_value: null, os_hash_algo: null, checksum: '0'.repeat(32) })
    expect((await command.run('pull', 'disk', target)).stderr).toContain('md5 is')
  })

  it('fails when a pipe was given the wrong bytes', async () => {
    double.add(id, 'disk', data, { os_hash_value: 'ab'.repeat(64) })
    const { code, stderr } = await command.run('pull', 'disk', '-')
    expect([code, stderr]).toEqual([1, expect.stringContaining('not what the service has')])
  })

  it('waits out a service that is not ready', async () => {
    let times = 2
    double.instead = (_request, response, path) => {
      if (!path.endsWith('/file') || times-- <= 0) return false
      response.writeHead(503, { 'content-type': 'text/html' }).end('<html><body><h1>503</h1>busy</body></html>')
      return true
    }
    await command.ok('pull', 'disk', target)
    expect(gets()).toHaveLength(3)
  })
})
