/** A store that fails or stalls at any step, and data that was damaged on the disk: one request fails, nothing is left, no copy that is good goes unread. */
import { randomBytes } from 'node:crypto'
import { closeSync, openSync, readdirSync, readlinkSync, truncateSync, writeSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { ConfigInput } from '../src/config.ts'
import { withPatience } from '../src/store/patience.ts'
import type { ImageStore, StoreUpload } from '../src/store/store.ts'
import { Stores } from '../src/store/stores.ts'
import { doctor } from '../src/upkeep.ts'
import { until } from './support/served.ts'
import { ask, createImage, dataFile, type Subject, services, showImage, upload } from './support/service.ts'

const start = services()
const MiB = 1024 * 1024
const json = { 'content-type': 'application/json' }
const steps = ['begin', 'write', 'read', 'commit', 'abort', 'open', 'remove', 'source'] as const
type Step = (typeof steps)[number]
type Trouble = { step: Step | undefined; stalls: boolean }

/** A store one step of which goes wrong while `trouble` says so. */
function troubled(real: ImageStore, trouble: Trouble): ImageStore {
  const at = async <Result>(step: Step, work: () => Promise<Result>): Promise<Result> => {
    if (trouble.step !== step) return work()
    if (trouble.stalls) return new Promise(() => {})
    throw new Error(`EIO: ${step}`)
  }
  const filled = (data: StoreUpload): StoreUpload => ({
    write: (bytes) => at('write', () => data.write(bytes)),
    read: () => at('read', () => data.read()),
    commit: () => at('commit', () => data.commit()),
    async abort() {
      // Its file stays, and is closed all the same: left to the garbage collector, it would be so while a later test counts.
      if (trouble.step === 'abort') await data.suspend?.()
      await at('abort', () => data.abort())
    },
  })
  return {
    description: real.description,
    properties: real.properties,
    begin: async (key, expected) => filled(await at('begin', () => real.begin(key, expected))),
    open: (key) =>
      at('open', async () => {
        const source = await real.open(key)
        const read = (offset: number, into: Uint8Array, signal?: AbortSignal) =>
          offset === 0 ? source.read(offset, into, signal) : at('source', () => source.read(offset, into, signal))
        return {
          ...{ name: source.name, size: source.size, read, close: () => source.close() },
          extents: (offset: number, length: number) => source.extents(offset, length),
        }
      }),
    remove: (key) => at('remove', () => real.remove(key)),
    urlOf: (key) => real.urlOf(key),
    keyOf: (url) => real.keyOf(url),
    sweep: (isKnown) => real.sweep(isKnown),
  }
}

async function startTroubled(stalls: boolean): Promise<Subject & { trouble: Trouble }> {
  const trouble: Trouble = { step: undefined, stalls }
  const subject = await start({}, (service) => {
    const { default: store, staging } = service.stores
    const double = (data: ImageStore) => withPatience(troubled(data, trouble), 0.3)
    return Object.assign(service, {
      stores: new Stores([{ ...store, data: double(store.data) }], double(staging), false),
    })
  })
  return Object.assign(subject, { trouble })
}

async function findings(data: string, settings: ConfigInput = {}) {
  const found = []
  for await (const finding of doctor({ data, ...settings }, { repair: false, verify: true })) found.push(finding)
  return found
}

/** Files of image data that this process has open. */
function openData({ data }: Subject): string[] {
  const targets = readdirSync('/proc/self/fd').flatMap((name) => {
    try {
      return readlinkSync(`/proc/self/fd/${name}`)
    } catch {
      // The one that lists them.
      return []
    }
  })
  return targets.filter((target) => ['store', 'staging'].some((folder) => target.startsWith(join(data, folder))))
}

const stored = ({ data }: Subject, folder = 'store') =>
  ['images', 'uploads'].flatMap((name) => readdirSync(join(data, folder, name)))

describe.each([
  ['fails', false],
  ['stalls', true],
] as const)('a store that %s', (_, stalls) => {
  it('in any step of an upload leaves a queued image and no data, and the next upload is taken', async () => {
    const subject = await startTroubled(stalls)
    const data = randomBytes(3 * MiB)
    for (const step of ['begin', 'write', 'read', 'commit'] as const) {
      const id = await createImage(subject.url)
      subject.trouble.step = step
      expect([step, (await upload(subject.url, id, data)).status]).toEqual([step, stalls ? 503 : 500])
      expect(await showImage(subject.url, id)).toMatchObject({ status: 'queued', size: null })
      subject.trouble.step = undefined
      await until(() => stored(subject).length === 0)
      expect((await upload(subject.url, id, data)).status).toBe(204)
      expect((await ask(`${subject.url}/v2/images/${id}`, 'DELETE')).status).toBe(204)
    }
    expect(await findings(subject.data)).toEqual([])
  })

  it('when data is taken back or removed keeps nobody; what is left is swept away at the next start', async () => {
    const subject = await startTroubled(stalls)
    const [cut, gone] = [await createImage(subject.url, { disk_format: 'qcow2' }), await createImage(subject.url)]
    expect((await upload(subject.url, gone, randomBytes(MiB))).status).toBe(204)
    subject.trouble.step = 'remove'
    expect((await ask(`${subject.url}/v2/images/${gone}`, 'DELETE')).status).toBe(204)
    subject.trouble.step = 'abort'
    expect((await upload(subject.url, cut, randomBytes(MiB))).status).toBe(415)
    expect((await showImage(subject.url, cut)).status).toBe('queued')
    expect(openData(subject)).toEqual([])
    subject.trouble.step = undefined
    await subject.close()
    const next = await start({ data: subject.data })
    expect(stored(next)).toEqual([])
    expect(await findings(next.data)).toEqual([])
  })

  it('in an import fails the task, not the service', async () => {
    const subject = await startTroubled(stalls)
    const id = await createImage(subject.url)
    const stage = () =>
      ask(`${subject.url}/v2/images/${id}/stage`, 'PUT', randomBytes(2 * MiB), {
        'content-type': 'application/octet-stream',
      })
    for (const step of ['open', 'write', 'commit'] as const) {
      expect([step, (await stage()).status]).toEqual([step, 204])
      subject.trouble.step = step
      const body = JSON.stringify({ method: { name: 'glance-direct' } })
      expect((await ask(`${subject.url}/v2/images/${id}/import`, 'POST', body, json)).status).toBe(202)
      await until(async () => (await showImage(subject.url, id)).status === 'queued')
      subject.trouble.step = undefined
    }
    await until(() => [...stored(subject), ...stored(subject, 'staging')].length === 0)
    expect(await findings(subject.data)).toEqual([])
  })

  it('while data is read ends the connection early, or answers with an error before the first byte', async () => {
    const subject = await startTroubled(stalls)
    const id = await createImage(subject.url)
    const data = randomBytes(3 * MiB)
    await upload(subject.url, id, data)
    const read = () => ask(`${subject.url}/v2/images/${id}/file`)
    subject.trouble.step = 'open'
    expect((await read()).status).toBe(stalls ? 503 : 500)
    subject.trouble.step = 'source'
    await expect(read()).rejects.toThrow()
    subject.trouble.step = undefined
    expect((await read()).body.equals(data)).toBe(true)
  })
})

describe('image data that was damaged on the disk', () => {
  it('is found by the doctor, and ends a connection where it ends', async () => {
    const subject = await start()
    const [cut, changed] = [await createImage(subject.url), await createImage(subject.url)]
    const data = randomBytes(2 * MiB)
    for (const id of [cut, changed]) await upload(subject.url, id, data)
    truncateSync(dataFile(subject, cut), MiB)
    const file = openSync(dataFile(subject, changed), 'r+')
    writeSync(file, Buffer.from('x'), 0, 1, MiB)
    closeSync(file)
    expect((await ask(`${subject.url}/v2/images/${cut}/file`)).status).toBe(500)
    const found = await findings(subject.data)
    expect(new Map(found.map(({ image, kind }) => [image, kind]))).toEqual(
      new Map([
        [cut, 'short-data'],
        [changed, 'wrong-digest'],
      ]),
    )
  })

  it('is cut while it is read: the connection ends early, and says nothing that is not so', async () => {
    const subject = await start()
    const id = await createImage(subject.url)
    const data = randomBytes(24 * MiB)
    await upload(subject.url, id, data)
    const answer = await fetch(`${subject.url}/v2/images/${id}/file`)
    const reader = answer.body?.getReader()
    const parts = [Buffer.from((await reader?.read())?.value ?? [])]
    truncateSync(dataFile(subject, id), 12 * MiB)
    const end = async () => {
      for (;;) {
        const { value, done } = (await reader?.read()) ?? { done: true }
        if (done) return
        parts.push(Buffer.from(value))
      }
    }
    await expect(end()).rejects.toThrow()
    const got = Buffer.concat(parts)
    expect([got.length < data.length, got.equals(data.subarray(0, got.length))]).toEqual([true, true])
  })
})

describe('clients', () => {
  it('that go away, or take nothing more, leave no open file', async () => {
    const subject = await start({ downloadIdleSeconds: 1, uploadIdleSeconds: 1 })
    const id = await createImage(subject.url)
    await upload(subject.url, id, randomBytes(32 * MiB))
    const cut = await createImage(subject.url)
    const connections = () =>
      new Promise<number>((resolve) => subject.app.server.getConnections((_error, count) => resolve(count)))
    await until(async () => (await connections()) === 0 && openData(subject).length === 0)
    const address = { port: Number(new URL(subject.url).port), host: '127.0.0.1' }
    const sockets = Array.from({ length: 8 }, () => connect(address))
    for (const [at, socket] of sockets.entries()) {
      socket.on('error', () => {})
      socket.pause()
      if (at < 7) socket.write(`GET /v2/images/${id}/file HTTP/1.1\r\nHost: localhost\r\n\r\n`)
      else {
        const head = `PUT /v2/images/${cut}/file HTTP/1.1\r\nHost: localhost\r\n`
        socket.write(`${head}Content-Type: application/octet-stream\r\nContent-Length: 100000000\r\n\r\nsome`)
      }
    }
    // Some may be given up before all have begun.
    const seen = { connections: 0, files: new Set<string>() }
    await until(async () => {
      for (const file of openData(subject)) seen.files.add(file)
      seen.connections = Math.max(seen.connections, await connections())
      return seen.files.size === 2 && seen.connections > 3
    })
    for (const socket of sockets.slice(0, 3)) socket.destroy()
    // The others hold their connection, and do nothing: the service ends them.
    await until(async () => (await connections()) === 0 && openData(subject).length === 0)
    await until(async () => (await showImage(subject.url, cut)).status === 'queued')
    for (const socket of sockets) socket.destroy()
    expect(stored(subject)).toHaveLength(1)
  })
})
