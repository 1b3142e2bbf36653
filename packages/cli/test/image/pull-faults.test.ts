/** Pulls over connections that break, of images that are not what they were. */
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { beforeEach, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../../engine/test/support/folder.ts'
import { run } from '../../../engine/test/support/process.ts'
import { imageCommand, imageShell } from './support/command.ts'
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
/** Waits until something of a download is in its file. */
const partOf = (path: string) =>
  expect.poll(() => statSync(`${path}.part`).size, { timeout: 20_000 }).toBeGreaterThan(0)
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

  it('gives up on a service that ends the image early each time, and says so', async () => {
    double.instead = (_request, response, path) => {
      if (!path.endsWith('/file')) return false
      // Without a length: nobody can tell that the end is not the end.
      response.write(data.subarray(0, 1_000_000))
      response.end()
      return true
    }
    const { code, stderr } = await command.run('pull', 'disk', target)
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining(`ended the image after 1000000 of ${data.length} bytes`),
    ])
    expect(gets().length).toBeLessThan(10)
  })

  it('goes on in another run after it was stopped', async () => {
    double.etag = '"one"'
    double.holdsAt = 3_500_000
    expect(await command.stopped(['pull', 'disk', target], partOf(target))).toBe('SIGINT')
    const kept = readFileSync(`${target}.part`)
    expect(kept.length).toBeGreaterThan(0)
    expect(kept.equals(data.subarray(0, kept.length))).toBe(true)
    double.holdsAt = undefined
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

describe('export', () => {
  const made = Buffer.concat([randomBytes(2_000_000), Buffer.alloc(3_000_000), randomBytes(1_000_001)])
  const exports = () => double.seen.filter(({ path }) => path.includes('/export?'))
  beforeEach(() => {
    double.add(id, 'disk', data, { disk_format: 'qcow2', virtual_size: 5_000_000 })
    double.exported = made
  })
  const save = (...more: string[]) => command.run('export', 'disk', target, '-O', 'raw', ...more)
  const nothingIsLeft = () =>
    expect([existsSync(target), existsSync(`${target}.part`), existsSync(`${target}.part.json`)]).toEqual([
      false,
      false,
      false,
    ])

  it('goes on from where it broke when the service keeps it', async () => {
    double.etag = '"kept"'
    double.cuts.push(1_000_000, 2_000_000)
    expect(await save()).toMatchObject({ code: 0 })
    expect(readFileSync(target).equals(made)).toBe(true)
    expect(statSync(target).blocks * 512).toBeLessThan(3_300_000)
    const starts = exports().map(({ headers }) => Number(/\d+/.exec(headers.range ?? '0')?.[0]))
    expect(starts).toHaveLength(3)
    expect(starts[2]).toBeGreaterThan(starts[1] ?? made.length)
    expect(exports().map(({ headers }) => headers['if-range'])).toEqual([undefined, '"kept"', '"kept"'])
  })

  it('begins anew when the service makes it while it sends', async () => {
    double.cuts.push(4_000_000, 1_000_000)
    const { code, stderr } = await save()
    expect([code, stderr.match(/it is asked for anew/g)]).toEqual([0, ['it is asked for anew', 'it is asked for anew']])
    expect(readFileSync(target).equals(made)).toBe(true)
    expect(exports().map(({ headers }) => headers.range)).toEqual([undefined, undefined, undefined])
  })

  it('gives up at last, and leaves only what can be gone on with', async () => {
    double.cuts.push(...Array.from({ length: 9 }, () => 1_000_000))
    expect(await save()).toMatchObject({ code: 1, stderr: expect.stringMatching(/connection to http.* failed/) })
    expect(exports()).toHaveLength(4)
    nothingIsLeft()
    double.etag = '"kept"'
    double.cuts.splice(0, 9, 1_000_000, 0, 0, 0, 0, 0)
    expect(await save()).toMatchObject({ code: 1 })
    double.cuts.splice(0)
    expect(statSync(`${target}.part`).size).toBeGreaterThan(900_000)
    const before = exports().length
    expect(await save()).toMatchObject({ code: 0 })
    expect(exports()[before]?.headers['if-range']).toBe('"kept"')
    expect(readFileSync(target).equals(made)).toBe(true)
  })

  it('does not mix exports of two kinds, or an export and the image', async () => {
    double.etag = '"kept"'
    double.cuts.push(1_000_000, 0, 0, 0, 0, 0, 0)
    expect(await save()).toMatchObject({ code: 1 })
    double.cuts.splice(0)
    double.exported = randomBytes(5_000_000)
    expect(await save('-o', 'preallocation=off')).toMatchObject({ code: 0 })
    expect(exports().at(-1)?.headers.range).toBeUndefined()
    expect(readFileSync(target).equals(double.exported)).toBe(true)
  })

  it('begins anew when what the service keeps is another by now', async () => {
    double.etag = '"one"'
    double.cuts.push(1_000_000)
    const other = randomBytes(5_500_000)
    double.instead = (_request, _response, path) => {
      if (path.endsWith('/export') && exports().length === 2) Object.assign(double, { etag: '"two"', exported: other })
      return false
    }
    expect(await save()).toMatchObject({ code: 0 })
    expect(readFileSync(target).equals(other)).toBe(true)
  })

  it('is refused when it is smaller than the disk, or no image of the format', async () => {
    double.exported = made.subarray(0, 4_000_000)
    expect(await save()).toMatchObject({
      code: 1,
      stderr: 'moraine: what the service sent is a disk of 4000256 bytes, and the image is one of 5000000\n',
    })
    nothingIsLeft()
    const { code, stderr } = await command.run('export', 'disk', target, '-O', 'qcow2')
    expect([code, stderr]).toEqual([1, expect.stringMatching(/^moraine: What the service sent is no good: /)])
    nothingIsLeft()
  })

  it('--verify compares what the disk holds with the digest of a raw image', async () => {
    double.add(id, 'disk', data)
    double.exported = data
    expect(await save('--verify')).toMatchObject({ code: 0, stderr: '' })
    double.exported = Buffer.from(data)
    double.exported.writeUInt8(data.readUInt8(7) ^ 1, 7)
    expect(await command.run('export', 'disk', `${target}.second`, '-O', 'raw', '--verify')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('not what the service has: sha512'),
    })
    expect(existsSync(`${target}.second`)).toBe(false)
  })

  it('is converted here where the service has no exports', async () => {
    double.exported = undefined
    double.add(id, 'disk', data)
    const { code, stderr } = await save('--verify')
    expect([code, stderr]).toEqual([0, expect.stringContaining('the service does not export; it is converted here')])
    // A disk has whole sectors.
    expect(readFileSync(target).subarray(0, data.length).equals(data)).toBe(true)
    const piped = await command.run('export', 'disk', '-', '-O', 'raw')
    expect([piped.code, piped.stderr]).toEqual([1, expect.stringContaining('the service does not export\nIt said: ')])
  })

  it.each([
    ['"kept"', 0],
    [undefined, 1],
  ])('to a pipe goes on when its ETag is %s', async (etag, expected) => {
    double.etag = etag
    double.cuts.push(2_000_000)
    const { env, cwd } = command
    const { code } = await run('bash', ['-c', `${imageShell()} export disk - -O raw > '${target}'`], { env, cwd })
    expect([code, readFileSync(target).equals(made)]).toEqual([expected, expected === 0])
    expect(exports()).toHaveLength(expected === 0 ? 2 : 1)
  })
})
