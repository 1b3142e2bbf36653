/** Pushes to services that refuse, break off, or want to know again who is calling. */
import { createHash, randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { beforeEach, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../../engine/test/support/folder.ts'
import { imageCommand } from './support/command.ts'
import { type Double, doubles } from './support/double.ts'

const folder = temporaryFolder()
const start = doubles()
const data = Buffer.concat([randomBytes(3_000_000), Buffer.alloc(4_000_000), randomBytes(1_000_001)])

let double: Double
let command: ReturnType<typeof imageCommand>
beforeEach(async () => {
  double = await start()
  command = imageCommand(folder, { OS_ENDPOINT: double.url })
})

describe('tokens', () => {
  const login = () => ({
    OS_AUTH_URL: `${double.url}/v3`,
    OS_USERNAME: 'u',
    OS_PASSWORD: 'very-secret',
    OS_PROJECT_NAME: 'p',
  })

  it('are renewed once when they are no longer taken, also in the middle of a push', async () => {
    const patient = imageCommand(folder, login())
    const path = folder.fresh('.raw')
    writeFileSync(path, data)
    double.instead = (request) => {
      if (request.method === 'PUT' && double.logins === 1) double.tokens.clear()
      if (double.tokens.size === 0) double.tokens.add('another')
      return false
    }
    const image = await patient.json<{ id: string; status: string }>('push', path)
    expect([image.status, double.logins]).toEqual(['active', 2])
    expect(double.images.get(image.id)?.data.equals(data)).toBe(true)
  })

  it('are not asked for again and again', async () => {
    const patient = imageCommand(folder, login())
    double.instead = (request, response) => {
      if (request.url?.startsWith('/v3') === true) return false
      response.writeHead(401).end()
      return true
    }
    const { code, stderr } = await patient.run('list')
    expect([code, double.logins, stderr]).toEqual([1, 2, expect.stringContaining('HTTP 401')])
    expect(stderr).not.toContain('very-secret')
  })
})

describe('push', () => {
  let path: string
  beforeEach(() => {
    path = folder.fresh('.raw')
    writeFileSync(path, data)
  })

  it('deletes the image when the service refuses the data, and says its words', async () => {
    double.instead = (request, response) => {
      if (request.method !== 'PUT') return false
      request.resume().on('end', () => {
        response.writeHead(413, { 'content-type': 'text/html', 'x-openstack-request-id': 'req-7' })
        response.end(
          '<html><head><title>413</title></head><body><h1>413 Too Large</h1>Denying attempt &amp; all<br /><br /></body></html>',
        )
      })
      return true
    }
    const { code, stderr } = await command.run('push', path)
    expect([code, stderr]).toEqual([1, expect.stringContaining('Denying attempt & all (HTTP 413, request req-7)\n')])
    expect(double.images.size).toBe(0)
    expect((await command.run('push', path, '--keep')).stderr).toMatch(/warning: the image .* is left behind/)
    expect(double.images.size).toBe(1)
  })

  it('deletes the image when the service has other bytes than were sent', async () => {
    double.instead = (request, response) => {
      if (request.method !== 'PUT') return false
      request.resume().on('end', () => {
        for (const { document } of double.images.values())
          Object.assign(document, { status: 'active', size: data.length, checksum: 'f'.repeat(32) })
        response.writeHead(204).end()
      })
      return true
    }
    const { code, stderr } = await command.run('push', path)
    expect([code, stderr]).toEqual([1, expect.stringContaining('the image data is not what the service has: md5')])
    expect(double.images.size).toBe(0)
  })

  it('reads the file again when the service hashes in a way of its own', async () => {
    let hash = ''
    double.instead = (request, response, where) => {
      if (request.method === 'POST') {
        const send = response.end.bind(response)
        response.end = ((body: string) =>
          send(JSON.stringify({ ...JSON.parse(body), os_hash_algo: null }))) as typeof response.end
      }
      if (request.method === 'GET' && !where.endsWith('/tasks')) {
        const [image] = double.images.values()
        hash ||= createHash('sha256').update(data).digest('hex')
        Object.assign(image?.document ?? {}, { os_hash_algo: 'sha256', os_hash_value: hash })
      }
      return false
    }
    expect(await command.json('push', path)).toMatchObject({ status: 'active', os_hash_value: hash })
    hash = 'a'.repeat(64)
    double.images.clear()
    expect((await command.run('push', path)).stderr).toContain('the image data is not what the service has: sha256')
    expect(double.images.size).toBe(0)
  })

  it('deletes the image when it is stopped', async () => {
    const begun = new Promise<void>((resolve) => {
      double.instead = (request) => {
        // Nobody reads: the push waits.
        if (request.method === 'PUT') resolve()
        return request.method === 'PUT'
      }
    })
    expect(await command.stopped(['push', path], begun)).toBe('SIGINT')
    expect(double.images.size).toBe(0)
  })

  it('goes on by tus after connections that break', async () => {
    double.tusCuts.push(1_000_000, 2_000_000)
    const image = await command.json<{ id: string; status: string }>('push', '--method', 'tus', path)
    expect(image.status).toBe('active')
    expect(double.images.get(image.id)?.data.equals(data)).toBe(true)
    const offsets = double.seen
      .filter(({ method }) => method === 'PATCH')
      .map(({ headers }) => Number(headers['upload-offset']))
    expect(offsets).toHaveLength(3)
    expect(offsets[2]).toBeGreaterThan(2_500_000)
  })

  it('goes on by tus in another run, with the same file only', async () => {
    expect(
      await command.stopped(['push', '--method', 'tus', '--name', 'mine', path], double.received(2_000_000), 'SIGKILL'),
    ).toBe('SIGKILL')
    const [image] = double.images.values()
    expect(image?.document).toMatchObject({ name: 'mine', status: 'queued' })
    const other = folder.fresh('.raw')
    writeFileSync(other, data)
    expect((await command.run('push', '--resume', 'mine', other)).stderr).toContain(
      'was changed since the upload began, or is another file',
    )
    const resumed = await command.json<{ status: string }>('push', '--resume', 'mine', path)
    expect(resumed.status).toBe('active')
    expect(image?.data.equals(data)).toBe(true)
    const offset = double.seen.findLast(({ method }) => method === 'PATCH')?.headers['upload-offset']
    expect(Number(offset)).toBeGreaterThan(0)
    expect((await command.run('push', '--resume', 'mine', path)).stderr).toContain(
      "the service has no upload of 'mine' to go on with",
    )
  })

  it('says that a service has no resumable uploads, and leaves nothing there', async () => {
    double.instead = (_request, response, where) => {
      if (!where.endsWith('/tus')) return false
      response.writeHead(404).end()
      return true
    }
    const { code, stderr } = await command.run('push', '--method', 'tus', path)
    expect([code, stderr]).toEqual([1, expect.stringContaining('the service does not offer resumable uploads (tus)')])
    expect(double.images.size).toBe(0)
  })
})
