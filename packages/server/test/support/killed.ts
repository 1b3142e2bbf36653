/** What clients do to a service that is killed under their hands, and what must hold when it is back: a model of every image that was asked for. */
import { createHash, randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import type { Random } from '../../../engine/test/support/random.ts'
import type { Mirror } from './mirror.ts'
import { ask, binary, type ImageDocument, showImage } from './service.ts'

const json = { 'content-type': 'application/json' }
const patchType = { 'content-type': 'application/openstack-images-v2.1-json-patch' }
const KiB = 1024

/** An image as its clients know it. */
interface Known {
  readonly id: string
  /** Whether the service said that it is there. */
  created: boolean
  /** What was sent, or is fetched, as its data. */
  data: Buffer | undefined
  /** What the service answered binds it: the data is there (`whole`), it will be there (`imported`), it waits to be imported (`staged`), its upload goes on (`begun`). */
  promised: 'nothing' | 'begun' | 'staged' | 'imported' | 'whole'
  /** Bytes that a resumable upload was told to have; undefined where there is none. */
  resumable: number | undefined
  /** Somebody asked to have it deleted, and was told that it is. */
  deletion: 'none' | 'asked' | 'done'
  /** Numbers that its name was asked to be, and that it was told to be last. */
  asked: number
  told: number
}

/** Clients of one service, over all its deaths. */
export class Clients {
  readonly images: Known[] = []
  /** How often each thing was begun, and how often it was answered. */
  readonly begun = new Map<string, number>()
  readonly #random: Random
  readonly #mirror: Mirror
  /** An image that stays, as it was uploaded and as it is exported. */
  readonly #kept: { id: string; exported: Buffer }

  constructor(random: Random, mirror: Mirror, kept: { id: string; exported: Buffer }) {
    this.#random = random
    this.#mirror = mirror
    this.#kept = kept
  }

  /** Everything that clients do at once; all of it ends when the service does. Resolves when each was answered or cut. */
  async busy(url: string): Promise<void> {
    const work = [this.#upload(url), this.#stage(url), this.#fetch(url), this.#resume(url)]
    work.push(this.#rename(url), this.#export(url))
    if (this.#random.bool(0.7)) work.push(this.#remove(url))
    if (this.#random.bool(0.3)) work.push(this.#upload(url))
    await Promise.all(work)
  }

  /** Looks at every image, when the service is back; imports are waited for. Then what was cut off is done again. */
  async check(url: string): Promise<void> {
    for (const known of [...this.images]) {
      const answer = await settled(url, known)
      if (answer === undefined) {
        expect(known.created && known.deletion === 'none' ? `${known.id} is lost` : '').toBe('')
        this.images.splice(this.images.indexOf(known), 1)
        continue
      }
      expect(known.deletion === 'done' ? `${known.id} was deleted, and is back` : '').toBe('')
      known.created = true
      known.deletion = 'none'
      this.#checkName(known, answer)
      expect(['queued', 'uploading', 'active']).toContain(answer.status)
      if (known.promised === 'whole' || known.promised === 'imported') expect(answer.status).toBe('active')
      if (known.promised !== 'nothing') expect(['uploading', 'active']).toContain(answer.status)
      if (answer.status === 'uploading') await this.#goOn(url, known)
      if (answer.status === 'active') await this.#checkData(url, known)
      else if (answer.status === 'queued') {
        known.resumable = undefined
        expect(answer).toMatchObject({ size: null, checksum: null })
      }
    }
    await this.#checkExport(url)
    await this.#redo(url)
  }

  #checkName(known: Known, { name }: ImageDocument): void {
    const number = Number(name)
    expect(number).toBeGreaterThanOrEqual(known.told)
    expect(number).toBeLessThanOrEqual(known.asked)
    known.told = number
    known.asked = number
  }

  async #checkData(url: string, known: Known): Promise<void> {
    const { data } = known
    if (data === undefined) throw new Error(`${known.id} is active, and nobody gave it data`)
    expect(await showImage(url, known.id)).toMatchObject({ size: data.length, os_hash_value: digest(data) })
    const { status, body } = await ask(`${url}/v2/images/${known.id}/file`)
    expect([known.id, status, body.equals(data)]).toEqual([known.id, 200, true])
    known.promised = 'whole'
  }

  async #checkExport(url: string): Promise<void> {
    const { status, body } = await ask(`${url}/v2/images/${this.#kept.id}/export?format=raw`)
    expect([status, body.equals(this.#kept.exported)]).toEqual([200, true])
  }

  /** Uploads a few images whose uploads were cut off; deletes old ones, so that they do not become too many. */
  async #redo(url: string): Promise<void> {
    const waiting = this.images.filter(({ promised }) => promised === 'nothing')
    for (const known of waiting.slice(0, -3)) {
      known.data = this.#data()
      const { status, body } = await ask(`${url}/v2/images/${known.id}/file`, 'PUT', known.data, binary)
      expect([known.id, status, body.toString()]).toEqual([known.id, 204, ''])
      await this.#checkData(url, known)
    }
    const whole = this.images.filter(({ promised }) => promised === 'whole')
    for (const known of whole.slice(0, -6)) {
      expect((await ask(`${url}/v2/images/${known.id}`, 'DELETE')).status).toBe(204)
      expect((await ask(`${url}/v2/images/${known.id}`)).status).toBe(404)
      this.images.splice(this.images.indexOf(known), 1)
    }
  }

  /** Goes on with what was staged, or sent in part. */
  async #goOn(url: string, known: Known): Promise<void> {
    const { data, resumable } = known
    if (data !== undefined && resumable !== undefined) {
      const { status, headers } = await ask(tusOf(url, known.id), 'HEAD', undefined, tus)
      const offset = Number(headers['upload-offset'])
      expect([status, headers['upload-length']]).toEqual([200, String(data.length)])
      expect(offset).toBeGreaterThanOrEqual(resumable)
      expect((await sendPart(url, known.id, offset, data.subarray(offset))).status).toBe(204)
      return this.#checkData(url, known)
    }
    const answer = await importOf(url, known.id, { name: 'glance-direct' })
    expect([answer.status, answer.body.toString()]).toEqual([202, ''])
    known.promised = 'imported'
    expect((await settled(url, known))?.status).toBe('active')
    await this.#checkData(url, known)
  }

  #data(): Buffer {
    return Buffer.from(this.#random.bytes(this.#random.int(1, 1500) * KiB))
  }

  /** One step of a client: counted, and cut off when the service is. */
  async #step(name: string, step: () => Promise<void>): Promise<void> {
    this.begun.set(name, (this.begun.get(name) ?? 0) + 1)
    await step().catch((error: NodeJS.ErrnoException) => {
      if (error.name === 'AssertionError') throw error
    })
  }

  async #create(url: string): Promise<Known> {
    const known: Known = {
      ...{ id: randomUUID(), created: false, data: undefined, resumable: undefined },
      ...{ promised: 'nothing', deletion: 'none', asked: 0, told: 0 },
    }
    this.images.push(known)
    const body = JSON.stringify({ id: known.id, name: '0', disk_format: 'raw', container_format: 'bare' })
    const { status } = await ask(`${url}/v2/images`, 'POST', body, json)
    expect(status).toBe(201)
    known.created = true
    return known
  }

  /** A queued image: an old one, or one that is made. */
  async #queued(url: string): Promise<Known> {
    const free = this.images.filter(({ promised, created, data }) => promised === 'nothing' && created && !isBusy(data))
    const [known] = this.#random.bool(0.3) ? free : []
    const taken = known ?? (await this.#create(url))
    taken.data = mark(this.#data())
    return taken
  }

  #upload(url: string): Promise<void> {
    return this.#step('upload', async () => {
      const known = await this.#queued(url)
      const answer = await ask(`${url}/v2/images/${known.id}/file`, 'PUT', this.#slowly(known.data), binary)
      expect([answer.status, answer.body.toString()]).toEqual([204, ''])
      known.promised = 'whole'
    })
  }

  #stage(url: string): Promise<void> {
    return this.#step('stage and import', async () => {
      const known = await this.#queued(url)
      const answer = await ask(`${url}/v2/images/${known.id}/stage`, 'PUT', this.#slowly(known.data), binary)
      expect([answer.status, answer.body.toString()]).toEqual([204, ''])
      known.promised = 'staged'
      expect((await importOf(url, known.id, { name: 'glance-direct' })).status).toBe(202)
      known.promised = 'imported'
      await settled(url, known)
    })
  }

  #resume(url: string): Promise<void> {
    return this.#step('tus', async () => {
      const known = await this.#queued(url)
      const data = known.data ?? Buffer.alloc(0)
      known.resumable = 0
      const begun = await ask(tusOf(url, known.id), 'POST', '', { ...tus, 'upload-length': String(data.length) })
      expect([begun.status, begun.body.toString()]).toEqual([201, ''])
      known.promised = 'begun'
      const size = Math.ceil(data.length / this.#random.int(1, 4))
      for (let at = 0; at < data.length; at += size) {
        const { status } = await sendPart(url, known.id, at, this.#slowly(data.subarray(at, at + size)))
        expect(status).toBe(204)
        known.resumable = Math.min(at + size, data.length)
      }
      known.promised = 'whole'
    })
  }

  #fetch(url: string): Promise<void> {
    return this.#step('web-download', async () => {
      const known = await this.#queued(url)
      const path = `/${known.id}`
      this.#mirror.files.set(path, { data: known.data ?? Buffer.alloc(0), etag: `"${known.id}"`, milliseconds: 2 })
      const uri = `${this.#mirror.url}${path}`
      expect((await importOf(url, known.id, { name: 'web-download', uri })).status).toBe(202)
      known.promised = 'imported'
      await settled(url, known)
    })
  }

  #rename(url: string): Promise<void> {
    return this.#step('patch', async () => {
      const known = this.#random.pick(this.images.filter(({ created }) => created))
      for (let round = 0; round < 30; round++) {
        known.asked++
        const change = JSON.stringify([{ op: 'replace', path: '/name', value: String(known.asked) }])
        const { status } = await ask(`${url}/v2/images/${known.id}`, 'PATCH', change, patchType)
        if (status === 404 && known.deletion !== 'none') return
        expect(status).toBe(200)
        known.told = known.asked
      }
    })
  }

  #remove(url: string): Promise<void> {
    return this.#step('delete', async () => {
      const mayGo = ({ promised }: Known) => promised === 'whole' || promised === 'begun'
      const known = this.#random.pick(this.images.filter(mayGo))
      await sleep(this.#random.int(0, 150))
      known.deletion = 'asked'
      expect((await ask(`${url}/v2/images/${known.id}`, 'DELETE')).status).toBe(204)
      known.deletion = 'done'
    })
  }

  #export(url: string): Promise<void> {
    return this.#step('export', () => this.#checkExport(url))
  }

  async *#slowly(data: Buffer | undefined): AsyncGenerator<Uint8Array> {
    const { length } = data ?? ''
    const pause = this.#random.pick([0, 0, 1, 5])
    for (let at = 0; at < length; at += 64 * KiB) {
      if (data !== undefined) yield data.subarray(at, at + 64 * KiB)
      if (pause > 0) await sleep(pause)
    }
  }
}

/** Data that is on its way in this life of the service. */
const busy = new WeakSet<Buffer>()
const isBusy = (data: Buffer | undefined) => data !== undefined && busy.has(data)
function mark(data: Buffer): Buffer {
  busy.add(data)
  return data
}

const digest = (data: Uint8Array) => createHash('sha512').update(data).digest('hex')

const tus = { 'tus-resumable': '1.0.0' }
const tusOf = (url: string, id: string) => `${url}/v2/images/${id}/tus`

function sendPart(url: string, id: string, at: number, body: Uint8Array | AsyncIterable<Uint8Array>) {
  const headers = { ...tus, 'content-type': 'application/offset+octet-stream', 'upload-offset': String(at) }
  return ask(tusOf(url, id), 'PATCH', body, headers)
}

const importOf = (url: string, id: string, method: object) =>
  ask(`${url}/v2/images/${id}/import`, 'POST', JSON.stringify({ method }), json)

/** The image once no import is at it; undefined when there is none. */
async function settled(url: string, { id }: Known): Promise<ImageDocument | undefined> {
  for (const end = Date.now() + 40_000; Date.now() < end; await sleep(20)) {
    const answer = await ask(`${url}/v2/images/${id}`)
    if (answer.status === 404) return undefined
    expect(answer.status).toBe(200)
    const image = answer.json<ImageDocument>()
    if (image.status !== 'importing' && image.os_glance_import_task === undefined) return image
  }
  throw new Error(`the import of ${id} did not end within 40 seconds`)
}
