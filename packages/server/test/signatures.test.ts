/** Images that are signed: beside cursive, which Glance asks, and at every way on which data comes in. */
import { randomBytes, X509Certificate } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { join } from 'node:path'
import { beforeAll, expect, it, vi } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith } from '../../engine/test/support/process.ts'
import { certificatesIn } from '../src/signature/certificates.ts'
import { readSigned, SignatureError, verificationOf } from '../src/signature/signature.ts'
import { Signatures } from '../src/signature/signatures.ts'
import { HashThreads } from '../src/store/hashing.ts'
import { keystoneDoubles, tokenOf } from './support/keystone-double.ts'
import { type Mirror, startMirror } from './support/mirror.ts'
import { ask, binary, createImage, type Subject, services, showImage, upload } from './support/service.ts'
import {
  askCursive,
  cursive,
  makeSigners,
  type Signer,
  type SignerName,
  signatureProperties,
  signed,
} from './support/signing.ts'

const folder = temporaryFolder()
const start = services()
const keystones = keystoneDoubles()
const data = randomBytes(300_000)
const waiting = { timeout: 10_000, interval: 20 }

describeWith(['openssl', cursive], 'a signature', () => {
  const home = folder.file('signing')
  const certificates = join(home, 'certificates')
  const names: SignerName[] = ['rsa', 'rsa-1024', 'p384', 'p521', 'p256', 'k409', 'r571', 'dsa']
  let signers: Record<SignerName, Signer>
  let subject: Subject
  let mirror: Mirror
  beforeAll(async () => {
    signers = await makeSigners(certificates, names)
    mirror = await startMirror()
    mirror.files.set('/data', { data, etag: '"1"' })
    subject = await start({
      signatureCertificates: certificates,
      ...{ importAllowedHosts: '127.0.0.1', importPorts: '*', importRetries: 0 },
    })
  }, 60_000)

  /** What ours says of a signature over data. */
  async function verdict(hashes: HashThreads, properties: Record<string, string>, bytes: Uint8Array): Promise<string> {
    const image = { id: 'ID', properties: new Map(Object.entries(properties)) }
    try {
      const verification = await new Signatures({ files: certificatesIn(certificates) }).verification(image)
      if (verification === undefined) return 'unsigned'
      const hash = hashes.start(verification)
      const memory = new SharedArrayBuffer(bytes.length)
      new Uint8Array(memory).set(bytes)
      await hash.update(memory, bytes.length)
      return (await hash.digest()) === 'good' ? 'good' : 'Signature verification failed'
    } catch (error) {
      if (!(error instanceof SignatureError)) throw error
      return error.message.replace('Signature verification failed for image ID: ', '')
    }
  }

  it('is good or not as cursive has it', async () => {
    const cases: { title: string; properties: Record<string, string>; data: Uint8Array }[] = []
    const add = (title: string, properties: Record<string, string>, bytes: Uint8Array = data) =>
      cases.push({ title, properties, data: bytes })
    const typeOf = (name: SignerName) =>
      signers[name].kind === 'rsa' ? 'RSA-PSS' : signers[name].kind === 'dsa' ? 'DSA' : 'ECC_SECP384R1'
    for (const name of names) {
      for (const hash of ['SHA-224', 'SHA-256', 'SHA-384', 'SHA-512']) {
        // No salt fits beside this digest into so short a key.
        if (name === 'rsa-1024' && hash === 'SHA-512') continue
        const properties = signatureProperties(signed(data, signers[name], hash), signers[name], hash, typeOf(name))
        add(`${name} ${hash}`, properties)
        add(`${name} ${hash} of other data`, properties, data.subarray(1))
      }
      const properties = signatureProperties(signed(data, signers[name], 'SHA-256'), signers[name], 'SHA-256', '')
      for (const type of ['RSA-PSS', 'DSA', 'ECC_SECT571K1', 'ECC_SECP521R1', 'ECC_SECP256R1', 'RSA', '']) {
        add(`${name} as ${type}`, { ...properties, img_signature_key_type: type })
      }
      add(`${name} by another hash`, {
        ...properties,
        img_signature_hash_method: 'SHA-512',
        img_signature_key_type: typeOf(name),
      })
    }
    const rsa = signatureProperties(signed(data, signers.rsa, 'SHA-256'), signers.rsa, 'SHA-256', 'RSA-PSS')
    for (const salt of [0, 20, 32, 221]) {
      add(`salt ${salt}`, { ...rsa, img_signature: signed(data, signers.rsa, 'SHA-256', salt) })
    }
    for (const method of ['MD5', 'SHA-1', 'sha-256', '', 'constructor']) {
      add(`method ${method}`, { ...rsa, img_signature_hash_method: method })
    }
    const text = rsa.img_signature
    for (const [what, signature] of Object.entries({
      cut: text.slice(0, -4),
      unpadded: text.replace(/=+$/, ''),
      folded: text.replace(/(.{64})/g, '$1\n'),
      spoiled: `${text.slice(0, 40)}!!${text.slice(40)}`,
      empty: '',
      nothing: 'AAAA',
      'one letter': 'A',
    })) {
      add(`signature ${what}`, { ...rsa, img_signature: signature })
    }
    add('no such certificate', { ...rsa, img_signature_certificate_uuid: '00000000-0000-4000-8000-999999999999' })
    for (const missing of Object.keys(rsa)) {
      add(`no ${missing}`, Object.fromEntries(Object.entries(rsa).filter(([name]) => name !== missing)))
    }
    const theirs = await askCursive(certificates, cases)
    expect(theirs.filter((answer) => answer === 'good').length).toBeGreaterThan(30)
    const hashes = new HashThreads()
    for (const [index, { title, properties, data: bytes }] of cases.entries()) {
      expect.soft(`${title}: ${await verdict(hashes, properties, bytes)}`).toBe(`${title}: ${theirs[index]}`)
    }
    await hashes.close()
  })

  it('by a certificate that is not good yet, or not any more, is refused', () => {
    const { rsa } = signers
    const properties = signatureProperties('AAAA', rsa, 'SHA-256', 'RSA-PSS')
    const read = readSigned(new Map(Object.entries(properties)))
    if (read === undefined) throw new Error('it is signed')
    const certificate = new X509Certificate(readFileSync(join(certificates, `${rsa.id}.pem`)))
    const day = 24 * 3600 * 1000
    for (const days of [-2, 40]) {
      expect(() => verificationOf(read, certificate, Date.now() + days * day)).toThrow('outside its valid date range')
    }
    expect(verificationOf(read, certificate)).toMatchObject({ hash: 'sha256', saltLength: 222 })
  })

  it('is looked up in files of the folder, and nowhere else', async () => {
    const own = folder.file('own')
    mkdirSync(own)
    const pem = readFileSync(join(certificates, `${signers.rsa.id}.pem`))
    writeFileSync(join(home, 'outside.pem'), pem)
    const der = new X509Certificate(pem).raw
    writeFileSync(join(own, 'plain'), pem)
    writeFileSync(join(own, 'binary.der'), der)
    writeFileSync(join(own, 'broken.crt'), 'nothing')
    mkdirSync(join(own, 'folder.pem'))
    symlinkSync('loop.pem', join(own, 'loop.pem'))
    const find = certificatesIn(own)
    for (const id of ['plain', 'binary']) expect((await find(id, undefined))?.raw.equals(der)).toBe(true)
    for (const id of ['absent', '../outside', '..', '', 'own/plain', 'plain\0', 'x'.repeat(65), '.', '-plain']) {
      expect([id, await find(id, undefined)]).toEqual([id, undefined])
    }
    for (const id of ['broken', 'folder', 'loop']) {
      await expect(find(id, undefined)).rejects.toThrow(`Unable to retrieve certificate with ID: ${id}`)
    }
    await expect(start({ signatureCertificates: join(home, 'nowhere') })).rejects.toThrow('is no folder')
  })

  const good = () =>
    signatureProperties(signed(data, signers.p384, 'SHA-384'), signers.p384, 'SHA-384', 'ECC_SECP384R1')
  const wrong = () =>
    signatureProperties(signed(data.subarray(1), signers.rsa, 'SHA-256'), signers.rsa, 'SHA-256', 'RSA-PSS')
  const uploads = () => readdirSync(join(subject.data, 'store', 'uploads'))
  const queued = { status: 'queued', size: null, checksum: null, os_hash_value: null }

  it('of an upload is verified before the image is active', async () => {
    const [fine, bad, lost] = await Promise.all([
      createImage(subject.url, good()),
      createImage(subject.url, wrong()),
      createImage(subject.url, { ...good(), img_signature_certificate_uuid: 'no-such' }),
    ])
    expect((await upload(subject.url, fine, data)).status).toBe(204)
    expect((await showImage(subject.url, fine)).status).toBe('active')
    for (const [id, reason] of [
      [bad, 'Signature verification failed'],
      [lost, 'Signature verification for the image failed: Certificate not found with ID: no-such.'],
    ] as const) {
      const answer = await upload(subject.url, id, data)
      expect([answer.status, answer.body.toString()]).toEqual([
        400,
        expect.stringContaining(`Signature verification failed for image ${id}: ${reason}`),
      ])
      expect(await showImage(subject.url, id)).toMatchObject(queued)
    }
    expect(uploads()).toEqual([])
    // With the right signature the same image takes the same data.
    const patch = Object.entries(good()).map(([name, value]) => ({ op: 'replace', path: `/${name}`, value }))
    const type = { 'content-type': 'application/openstack-images-v2.1-json-patch' }
    expect((await ask(`${subject.url}/v2/images/${bad}`, 'PATCH', JSON.stringify(patch), type)).status).toBe(200)
    expect((await upload(subject.url, bad, data)).status).toBe(204)
  })

  it('of an upload in parts is verified at the last one', async () => {
    for (const [properties, status] of [
      [good(), 204],
      [wrong(), 400],
    ] as const) {
      const id = await createImage(subject.url, properties)
      const tus = { 'tus-resumable': '1.0.0' }
      const url = `${subject.url}/v2/images/${id}/tus`
      await ask(url, 'POST', undefined, { ...tus, 'upload-length': String(data.length) })
      const part = (from: number, to: number) =>
        ask(url, 'PATCH', data.subarray(from, to), {
          ...{ ...tus, 'content-type': 'application/offset+octet-stream', 'upload-offset': String(from) },
        })
      expect((await part(0, 100_000)).status).toBe(204)
      expect((await part(100_000, data.length)).status).toBe(status)
      expect((await showImage(subject.url, id)).status).toBe(status === 204 ? 'active' : 'queued')
    }
    expect(uploads()).toEqual([])
  })

  it.each([
    ['what was staged', { name: 'glance-direct' }],
    ['a download', { name: 'web-download' }],
  ])('of an import is verified: %s', async (_what, method) => {
    for (const [properties, status] of [
      [good(), 'active'],
      [wrong(), 'queued'],
    ] as const) {
      const id = await createImage(subject.url, properties)
      const one = `${subject.url}/v2/images/${id}`
      if (method.name === 'glance-direct') await ask(`${one}/stage`, 'PUT', data, binary)
      const body = JSON.stringify({ method: { ...method, uri: `${mirror.url}/data` } })
      expect((await ask(`${one}/import`, 'POST', body)).status).toBe(202)
      const tasksOf = async () =>
        (await ask(`${one}/tasks`)).json<{ tasks: { status: string; message: string }[] }>().tasks
      await vi.waitUntil(async () => (await tasksOf()).every((task) => /success|failure/.test(task.status)), waiting)
      expect((await showImage(subject.url, id)).status).toBe(status)
      const tasks = await tasksOf()
      expect(tasks).toMatchObject([
        status === 'active'
          ? { status: 'success' }
          : {
              status: 'failure',
              message: `Signature verification failed for image ${id}: Signature verification failed`,
            },
      ])
    }
    expect(uploads()).toEqual([])
  })

  it('is verified with certificates of a Barbican, asked for in the name of who brings the data', async () => {
    const keystone = await keystones()
    keystone.tokens.set('ann', tokenOf('ann'))
    keystone.tokens.set('ben', tokenOf('ben'))
    const keys = await startMirror()
    const id = 'ca27e21c-2637-4ea4-8c2f-9f5f4a5b7d3c'
    const pem = readFileSync(join(certificates, `${signers.p384.id}.pem`))
    const guarded = (allowed: string, body: string | Buffer, accepted: string) => ({
      data: Buffer.alloc(0),
      answer: ({ headers }: IncomingMessage, response: ServerResponse) => {
        const isMine = headers['x-auth-token'] === allowed && headers.accept === accepted
        response.writeHead(isMine ? 200 : 403).end(isMine ? body : '')
      },
    })
    const facts = JSON.stringify({ secret_type: 'certificate', content_types: { default: 'text/plain' } })
    keys.files.set(`/v1/secrets/${id}`, guarded('ann', facts, 'application/json'))
    keys.files.set(`/v1/secrets/${id}/payload`, guarded('ann', pem, 'text/plain'))
    const endpoint = (region: string, kind: string, url: string) => ({ interface: kind, region_id: region, url })
    keystone.catalog = [
      { type: 'image', endpoints: [endpoint('RegionOne', 'public', 'http://127.0.0.1:1')] },
      {
        type: 'key-manager',
        endpoints: [
          endpoint('RegionTwo', 'public', 'http://127.0.0.1:1'),
          endpoint('RegionOne', 'internal', 'http://127.0.0.1:1'),
          endpoint('RegionOne', 'public', `${keys.url}/`),
        ],
      },
    ]
    const { url } = await start({
      ...{ auth: 'keystone', keystoneUrl: keystone.url, keystoneUser: 'glance', keystonePassword: 'x' },
      ...{ importAllowedHosts: '127.0.0.1', importPorts: '*', importRetries: 0 },
    })
    const as = (token: string, more = {}) => ({ 'x-auth-token': token, ...more })
    const make = async (properties: object) => {
      const body = JSON.stringify({ disk_format: 'raw', container_format: 'bare', ...properties })
      return (await ask(`${url}/v2/images`, 'POST', body, as('ann'))).json<{ id: string }>().id
    }
    const put = (image: string, token: string) => ask(`${url}/v2/images/${image}/file`, 'PUT', data, as(token, binary))
    const mine = { ...good(), img_signature_certificate_uuid: id }
    const [one, two, other] = [
      await make(mine),
      await make(mine),
      await make({ ...wrong(), img_signature_certificate_uuid: id }),
    ]
    const refused = await put(one, 'ben')
    expect([refused.status, refused.body.toString()]).toEqual([400, expect.stringContaining('Unable to retrieve')])
    expect((await put(one, 'ann')).status).toBe(204)
    expect((await put(other, 'ann')).body.toString()).toContain('Invalid public key type')
    const absent = await put(await make({ ...mine, img_signature_certificate_uuid: id.replace('c', 'd') }), 'ann')
    expect(absent.body.toString()).toContain('Certificate not found')
    // A task has no token: the certificate goes along with it, and nothing else.
    const asked = keys.requests.length
    const method = { name: 'web-download', uri: `${mirror.url}/data` }
    const body = JSON.stringify({ method })
    expect((await ask(`${url}/v2/images/${two}/import`, 'POST', body, as('ann'))).status).toBe(202)
    const status = async () =>
      (await ask(`${url}/v2/images/${two}`, 'GET', undefined, as('ann'))).json<{ status: string }>().status
    await vi.waitUntil(async () => (await status()) === 'active', waiting)
    expect(keys.requests.length - asked).toBe(2)
    const { tasks } = (await ask(`${url}/v2/images/${two}/tasks`, 'GET', undefined, as('ann'))).json<{
      tasks: { input: { certificate: unknown } }[]
    }>()
    expect(tasks[0]?.input.certificate).toEqual({ id, pem: pem.toString() })
    expect(JSON.stringify(tasks)).not.toContain('"ann"')
    // A task that makes the image, too; a certificate that somebody brings along is not believed.
    const input = {
      ...{ import_from: method.uri, import_from_format: 'raw', image_properties: mine },
      certificate: { id, pem: readFileSync(join(certificates, `${signers.rsa.id}.pem`), 'utf8') },
    }
    for (const token of ['root', 'eve']) keystone.tokens.set(token, { ...tokenOf(token), roles: [{ name: 'admin' }] })
    keys.files.set(`/v1/secrets/${id}`, guarded('root', facts, 'application/json'))
    keys.files.set(`/v1/secrets/${id}/payload`, guarded('root', pem, 'text/plain'))
    for (const [token, end] of [
      ['root', 'success'],
      ['eve', 'failure'],
    ] as const) {
      const made = await ask(`${url}/v2/tasks`, 'POST', JSON.stringify({ type: 'import', input }), as(token))
      expect(made.status).toBe(201)
      const task = async () =>
        (await ask(made.headers.location ?? '', 'GET', undefined, as(token))).json<{ status: string }>().status
      await expect.poll(task, waiting).toBe(end)
    }
  })

  it('is not looked at where it is not whole, nor where the operator does not want it', async () => {
    const { img_signature: _, ...rest } = wrong()
    const id = await createImage(subject.url, rest)
    expect((await upload(subject.url, id, data)).status).toBe(204)
    const other = await start({ verifySignatures: false })
    expect((await upload(other.url, await createImage(other.url, wrong()), data)).status).toBe(204)
    const without = await start()
    const answer = await upload(without.url, await createImage(without.url, good()), data)
    expect([answer.status, answer.body.toString()]).toEqual([400, expect.stringContaining('Certificate not found')])
  })
})
