/** What operators need: TLS with a certificate that can be renewed, proxies, health, measures, the audit log, the file of settings. */
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { type ClientRequest, request as httpRequest } from 'node:http'
import { request as httpsRequest, type RequestOptions } from 'node:https'
import type { PeerCertificate, TLSSocket } from 'node:tls'
import fastify from 'fastify'
import { describe, expect, it, vi } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, runOk } from '../../engine/test/support/process.ts'
import { createApp } from '../src/app.ts'
import type { Catalog } from '../src/catalog/catalog.ts'
import { readConfig, settings, settingsInForce, settingsSchema } from '../src/config.ts'
import { type RunningService, serve } from '../src/index.ts'
import { addressCheck, readAddresses } from '../src/operate/addresses.ts'
import { believing } from './support/believing.ts'
import { asCaller } from './support/glance.ts'
import { ask, binary, createImage, services, showImage, upload } from './support/service.ts'

const start = services()
const folder = temporaryFolder()
const quiet = { port: 0, logLevel: 'silent' }

/** Starts a service as an operator does, and stops it in the end. */
async function running(
  options: Parameters<typeof serve>[0],
  work: (service: RunningService) => Promise<void>,
): Promise<void> {
  const service = await serve({ ...quiet, data: folder.fresh(), ...options })
  try {
    await work(service)
  } finally {
    await service.close()
  }
}

describeWith(['openssl'], 'a certificate', () => {
  const make = async (name: string) => {
    const [tlsCertificate, tlsKey] = [folder.file('cert.pem'), folder.file('key.pem')]
    const subject = [
      '-subj',
      `/CN=${name}`,
      '-days',
      '2',
      '-nodes',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
    ]
    await runOk('openssl', ['req', '-x509', ...subject, '-keyout', tlsKey, '-out', tlsCertificate])
    return { tlsCertificate, tlsKey }
  }

  const nameOf = (url: string, options: RequestOptions = {}): Promise<string> =>
    new Promise((resolve, reject) => {
      const message = httpsRequest(`${url}/versions`, { rejectUnauthorized: false, agent: false, ...options })
      message.on('response', (response) => {
        const certificate: PeerCertificate = (response.socket as TLSSocket).getPeerCertificate()
        response.resume().on('end', () => resolve(String(certificate.subject.CN)))
      })
      message.on('error', reject).end()
    })

  it('is read again when it was renewed, and kept when the new one is no good', async () => {
    const files = await make('first.example')
    await running(files, async (service) => {
      expect(service.url).toMatch(/^https:/)
      expect(await nameOf(service.url)).toBe('first.example')
      await expect(nameOf(service.url, { maxVersion: 'TLSv1.1', minVersion: 'TLSv1' })).rejects.toThrow()
      await make('second.example')
      service.reload()
      expect(await nameOf(service.url)).toBe('second.example')
      writeFileSync(files.tlsKey, 'no key')
      expect(() => service.reload()).toThrow(/tlsCertificate: .* cannot be used together/)
      expect(await nameOf(service.url)).toBe('second.example')
    })
  })

  it('lets accounts be used off loopback, and links say https', async () => {
    const files = await make('images.example')
    expect(() => readConfig({ auth: 'local', host: '0.0.0.0' }, {})).toThrow('in clear')
    expect(readConfig({ auth: 'local', host: '0.0.0.0', ...files }, {}).host).toBe('0.0.0.0')
  })

  it.each([
    ['without its key', { tlsKey: '' }, 'tlsKey: it must be given together with tlsCertificate'],
    ['that is not there', { tlsCertificate: '/nowhere/cert.pem' }, 'cannot read /nowhere/cert.pem'],
  ])('%s is refused by name', async (_what, wrong, message) => {
    const files = await make('images.example')
    await expect(serve({ ...quiet, data: folder.fresh(), ...files, ...wrong })).rejects.toThrow(message)
  })
})

describe('a proxy', () => {
  const forwarded = {
    'x-forwarded-proto': 'https',
    'x-forwarded-host': 'images.example',
    'x-forwarded-for': '203.0.113.7',
  }

  it.each([
    ['that is trusted is believed', '127.0.0.0/8, ::1', 'https://images.example'],
    ['that is not is not', '10.0.0.0/8', 'http://127.0.0.1'],
  ])('%s', async (_what, trustedProxies, expected) => {
    const auditFile = folder.file('audit.log')
    await running({ trustedProxies, auditFile, publicUrl: 'https://images.example' }, async ({ url }) => {
      await ask(`${url}/v2/images`, 'POST', '{}', { ...forwarded, 'content-type': 'application/json' })
    })
    const lines = readFileSync(auditFile, 'utf8').trim().split('\n')
    expect(JSON.parse(lines.at(-1) ?? '').ip).toBe(expected.startsWith('https') ? '203.0.113.7' : '127.0.0.1')
    await running({ trustedProxies, allowRemote: true }, async ({ url }) => {
      const { headers, json } = await ask(`${url}/versions`, 'GET', undefined, forwarded)
      expect(headers['content-type']).toBe('application/json')
      const [version] = json<{ versions: { links: { href: string }[] }[] }>().versions
      expect(version?.links[0]?.href.startsWith(expected)).toBe(true)
    })
  })
})

describe('lists of addresses', () => {
  it('hold addresses and networks of both kinds', () => {
    const holds = addressCheck(readAddresses('metricsFrom', '10.0.0.0/8,192.168.1.7 ::1, 2001:db8::/32'))
    const [inside, outside] = [
      ['10.1.2.3', '192.168.1.7', '::1', '2001:db8::7', '::ffff:10.0.0.1'],
      ['11.0.0.1', '192.168.1.8', '::2', '2001:db9::1', 'nonsense', ''],
    ]
    expect(inside.filter((address) => !holds(address))).toEqual([])
    expect(outside.filter((address) => holds(address))).toEqual([])
  })

  it.each(['10.0.0.0/33', 'images.example', '10.0.0/8', '::1/129', '10.0.0.0/8/8', '10.0.0.0/-1'])(
    'refuse %s',
    (text) => {
      expect(() => readConfig({ trustedProxies: text }, {})).toThrow(`trustedProxies: '${text}'`)
    },
  )
})

/** A catalog whose database is sometimes gone. */
function failingWhen(isGone: () => boolean, catalog: Catalog): Catalog {
  return new Proxy(catalog, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name)
      if (typeof value !== 'function') return value
      return isGone() && name !== 'close' ? () => Promise.reject(new Error('gone')) : value.bind(target)
    },
  })
}

describe('health', () => {
  it('is alive, and ready as long as the catalog answers', async () => {
    let isThere = true
    const { url } = await start({}, (service) => ({
      ...service,
      catalog: failingWhen(() => !isThere, service.catalog),
    }))
    expect((await ask(`${url}/livez`)).body.toString()).toBe('OK')
    expect((await ask(`${url}/readyz`)).status).toBe(200)
    isThere = false
    const answer = await ask(`${url}/readyz`)
    expect([answer.status, answer.body.toString()]).toEqual([503, 'the catalog does not answer'])
    expect((await ask(`${url}/livez`)).status).toBe(200)
  })
})

describe('measures', () => {
  it('count requests by the pattern of their path, and bytes', async () => {
    const { url } = await start()
    const id = await createImage(url)
    await upload(url, id, new Uint8Array(300_000))
    await ask(`${url}/v2/images/${id}/file`)
    await ask(`${url}/v2/images/00000000-0000-4000-8000-000000000000`)
    const { headers, body } = await ask(`${url}/metrics`)
    expect(headers['content-type']).toMatch(/^text\/plain; version=0\.0\.4/)
    const text = body.toString()
    const value = (series: string) =>
      Number(
        text
          .split('\n')
          .find((line) => line.startsWith(series))
          ?.split(' ')
          .at(-1),
      )
    const route = 'route="/v2/images/:image_id/file"'
    expect(value(`moraine_http_requests_total{method="PUT",${route},status="204",outcome="answered"}`)).toBe(1)
    expect(value(`moraine_http_bytes_total{direction="in",${route}}`)).toBeGreaterThan(290_000)
    expect(value(`moraine_http_bytes_total{direction="out",${route}}`)).toBeGreaterThan(300_000)
    const missed = 'method="GET",route="/v2/images/:image_id",status="404",outcome="answered"'
    expect(value(`moraine_http_requests_total{${missed}}`)).toBe(1)
    expect(value('moraine_uploads_running')).toBe(0)
    expect(text).not.toContain(id)
  })

  it('are there for those who may see them, and for others there is no such page', async () => {
    const { url } = await start({ metricsFrom: '192.0.2.1' })
    expect((await ask(`${url}/metrics`)).status).toBe(300)
  })
})

describe('the audit log', () => {
  it('says who did what, and how it ended', async () => {
    const lines: Record<string, unknown>[] = []
    const audit = { info: (line: Record<string, unknown>) => lines.push(line) }
    const { url } = await start({}, (service) => ({ ...service, identity: believing }), { audit: audit as never })
    const [mine, other] = [asCaller('p1', ['member']), asCaller('p2', ['member'])]
    const json = { 'content-type': 'application/json' }
    const made = await ask(`${url}/v2/images`, 'POST', '{"visibility":"community"}', { ...mine, ...json })
    const { id } = made.json<{ id: string }>()
    await ask(`${url}/v2/images/${id}`, 'GET', undefined, mine)
    await ask(`${url}/v2/images/${id}`, 'DELETE', undefined, other)
    await ask(`${url}/v2/images/${id}`, 'DELETE', undefined, mine)
    await ask(`${url}/v2/images`, 'POST', '{}', json)
    const shown = lines.map(({ audit, outcome, status, project }) => ({ audit, outcome, status, project }))
    expect(shown).toEqual([
      { audit: 'image.create', outcome: 'success', status: 201, project: 'p1' },
      { audit: 'image.delete', outcome: 'denied', status: 403, project: 'p2' },
      { audit: 'image.delete', outcome: 'success', status: 204, project: 'p1' },
      { audit: 'image.create', outcome: 'denied', status: 401, project: null },
    ])
    expect(lines[1]?.target).toEqual({ image_id: id })
    expect(String(lines[1]?.reqId)).toMatch(/^req-/)
    expect(JSON.stringify(lines)).not.toContain(mine['x-auth-token'])
  })

  it('says how an import ended, and why', async () => {
    const lines: Record<string, unknown>[] = []
    const audit = { info: (line: Record<string, unknown>) => lines.push(line) }
    const { url } = await start({ taskLimit: 1 }, (service) => ({ ...service, identity: believing }), {
      audit: audit as never,
    })
    const caller = { ...asCaller('p1', ['member']), 'content-type': 'application/json' }
    const bring = async (diskFormat: string) => {
      const body = JSON.stringify({ disk_format: diskFormat, container_format: 'bare' })
      const { id } = (await ask(`${url}/v2/images`, 'POST', body, caller)).json<{ id: string }>()
      const octets = { ...caller, 'content-type': 'application/octet-stream' }
      await ask(`${url}/v2/images/${id}/stage`, 'PUT', Buffer.from('some data'), octets)
      const answer = await ask(`${url}/v2/images/${id}/import`, 'POST', '{"method":{"name":"glance-direct"}}', caller)
      return { id, reqId: answer.headers['x-openstack-request-id'] }
    }
    const ends = () => lines.filter(({ audit }) => audit === 'image.import.end')
    const [good, bad] = [await bring('raw'), await bring('qcow2')]
    await vi.waitUntil(() => ends().length === 2, 10_000)
    const expected = ({ id, reqId }: typeof good) => ({
      ...{ project: 'p1', user: expect.any(String), reqId },
      target: { image_id: id, task_id: expect.any(String) },
    })
    expect(ends()).toEqual([
      { audit: 'image.import.end', outcome: 'success', ...expected(good) },
      {
        ...{ audit: 'image.import.end', outcome: 'failure', ...expected(bad) },
        reason: expect.stringContaining('disk_format says qcow2'),
      },
    ])
  })
})

describe('a transfer that is cut off', () => {
  const cutSeries = async (url: string): Promise<string[]> =>
    (await ask(`${url}/metrics`)).body
      .toString()
      .split('\n')
      .filter((line) => line.startsWith('moraine_http_requests_total') && line.includes('outcome="cut"'))
      .map((line) => line.replace(/^moraine_http_requests_total/, ''))

  it('is in the audit log, in the log and in the measures, once', async () => {
    const lines: Record<string, unknown>[] = []
    const said: { msg: string; method?: string; outcome?: string }[] = []
    const audit = { info: (line: Record<string, unknown>) => lines.push(line) }
    const stream = { write: (line: string) => said.push(JSON.parse(line)) }
    const { service } = await start()
    const app = createApp(service, fastify({ logger: { level: 'info', stream } }).log, { audit: audit as never })
    const url = await app.listen({ host: '127.0.0.1', port: 0 })
    const id = await createImage(url)
    // More than a connection takes that nobody reads from.
    expect((await upload(url, id, Buffer.alloc(64 * 1024 * 1024, 'data'))).status).toBe(204)
    lines.splice(0)
    await cut(url, 'GET', `/v2/images/${id}/file`, {}, async (message) => {
      const [response] = await once(message, 'response')
      await once(response, 'readable')
    })
    const other = await createImage(url)
    await cut(url, 'PUT', `/v2/images/${other}/file`, { ...binary, 'content-length': '1000' }, async (message) => {
      message.write('only this')
      await expect.poll(async () => (await showImage(url, other)).status).toBe('saving')
    })
    await expect.poll(async () => (await showImage(url, other)).status).toBe('queued')
    await expect.poll(() => lines.filter(({ outcome }) => outcome === 'cut')).toHaveLength(2)
    const path = (image: string) => ({ target: { image_id: image }, outcome: 'cut', ip: '127.0.0.1' })
    const cutLines = lines.filter(({ audit }) => audit === 'image.send' || audit === 'image.upload')
    expect(cutLines).toMatchObject([
      { audit: 'image.send', status: 200, ...path(id) },
      { audit: 'image.upload', status: null, ...path(other) },
    ])
    expect(Number(cutLines[0]?.sent)).toBeGreaterThan(0)
    expect(Number(cutLines[0]?.sent)).toBeLessThan(64 * 1024 * 1024)
    const file = 'route="/v2/images/:image_id/file"'
    expect((await cutSeries(url)).sort()).toEqual([
      `{method="GET",${file},status="200",outcome="cut"} 1`,
      `{method="PUT",${file},status="0",outcome="cut"} 1`,
    ])
    const logged = said.filter(({ msg }) => msg === 'cut off').map(({ method, outcome }) => [method, outcome])
    expect(logged).toEqual([
      ['GET', 'cut'],
      ['PUT', 'cut'],
    ])
    expect(said.filter(({ method, msg }) => msg === 'answered' && method === 'PUT')).toHaveLength(1)
    await app.close()
  })
})

/** Begins a request, and goes away in the middle of it. */
async function cut(
  url: string,
  method: string,
  path: string,
  headers: Record<string, string>,
  halfway: (message: ClientRequest) => Promise<void>,
): Promise<void> {
  const message = httpRequest(`${url}${path}`, { method, headers, agent: false })
  message.on('error', () => {})
  message.flushHeaders()
  if (method === 'GET') message.end()
  await halfway(message)
  message.destroy()
}

describe('the file of settings', () => {
  const write = (text: string): string => {
    const path = folder.file('moraine.yaml')
    writeFileSync(path, text)
    return path
  }

  it('stands behind the command line and the environment', () => {
    const config = write('port: 1000\nimageSizeCap: 10G\nlistLimit: 7\nrequireFormatMatch: false\n# nothing\n')
    const inForce = readConfig({ port: 3000 }, { MORAINE_CONFIG: config, MORAINE_LIST_LIMIT: '8' })
    expect([inForce.port, inForce.imageSizeCap, inForce.listLimit]).toEqual([3000, 10 * 1024 ** 3, 8])
    expect(inForce.requireFormatMatch).toBe(false)
    const origins = settingsInForce({ config, port: 3000 }, { MORAINE_LIST_LIMIT: '8' })
    const of = (name: string) => origins.find((setting) => setting.name === name)?.from
    expect(['port', 'listLimit', 'imageSizeCap', 'host'].map(of)).toEqual(['caller', 'environment', 'file', 'default'])
  })

  it.each([
    ['prot: 80', 'there is no setting prot'],
    ['config: other.yaml', 'there is no setting config'],
    ['port: eighty', "port: 'eighty' is not a number"],
    ['port: 70000', 'port: 70000 is not a whole number from 0 to 65535'],
    ['requireFormatMatch: perhaps', 'requireFormatMatch: "perhaps" is not a flag'],
    ['- port', 'is no map of settings'],
    ['a: b: c', 'cannot read'],
  ])('%s is refused by name', (text, message) => {
    expect(() => readConfig({ config: write(text) }, {})).toThrow(message)
  })

  it('has a schema with every setting', () => {
    const { properties } = settingsSchema() as { properties: Record<string, { default: unknown }> }
    expect(Object.keys(properties).sort()).toEqual(
      Object.keys(settings)
        .filter((name) => name !== 'config')
        .sort(),
    )
  })
})
