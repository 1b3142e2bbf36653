/** Kernels, ramdisks and what boots with them: data that must be what it is called, and ids that must lead somewhere. */
import { gzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { newPatch } from './support/glance-request.ts'
import { ask, createImage, type Subject, services, upload } from './support/service.ts'

const start = services()

/** The least that a boot loader takes for a kernel of x86. */
function kernel(): Buffer {
  const data = Buffer.alloc(4096)
  data.writeUInt8(1, 0x1f1)
  data.writeUInt16LE(0xaa55, 0x1fe)
  data.write('HdrS', 0x202)
  data.writeUInt16LE(0x020f, 0x206)
  return data
}

/** An archive of one program. */
function ramdisk(): Buffer {
  const member = (name: string, data: string, mode: number): Buffer => {
    const fields = [1, mode, 0, 0, 1, 0, data.length, 0, 0, 0, 0, name.length + 1, 0].map((value) =>
      value.toString(16).padStart(8, '0'),
    )
    const pad = (text: string): string => text + '\0'.repeat(-text.length & 3)
    return Buffer.from(pad(`070701${fields.join('')}${name}\0`) + pad(data), 'latin1')
  }
  return Buffer.concat([member('init', '#!/bin/sh\n', 0o100_755), member('TRAILER!!!', '', 0)])
}

function ext(): Buffer {
  const data = Buffer.alloc(64 * 1024)
  data.writeUInt32LE(64, 1024 + 4)
  data.writeUInt16LE(0xef53, 1024 + 56)
  return data
}

function qcow2(): Buffer {
  const data = Buffer.alloc(512)
  data.write('QFI\xfb', 'latin1')
  data.writeUInt32BE(3, 4)
  return data
}

async function offer(subject: Subject, format: string, data: Buffer): Promise<[status: number, said: string]> {
  const id = await createImage(subject.url, { disk_format: format, container_format: format })
  const { status, body } = await upload(subject.url, id, data)
  const { json } = await ask(`${subject.url}/v2/images/${id}`)
  expect(json().status).toBe(status === 204 ? 'active' : 'queued')
  return [status, status === 204 ? '' : body.toString()]
}

describe('data of kernels and ramdisks', () => {
  let shared: Subject | undefined
  const random = Buffer.from(Array.from({ length: 5000 }, (_, index) => (index * 37 + 11) & 127))

  it('that boots is taken', async () => {
    const subject = await start()
    for (const data of [
      kernel(),
      gzipSync(kernel()),
      gzipSync(random),
      Buffer.from(`\x7fELF\x02\x01\x01${'\0'.repeat(100)}`, 'latin1'),
    ]) {
      expect(await offer(subject, 'aki', data)).toEqual([204, ''])
    }
    for (const data of [ramdisk(), gzipSync(ramdisk()), ext()])
      expect(await offer(subject, 'ari', data)).toEqual([204, ''])
    for (const data of [ext(), random]) expect(await offer(subject, 'ami', data)).toEqual([204, ''])
  })

  it.each([
    ['aki', 'a ramdisk', ramdisk(), 'the image data is a ramdisk, but disk_format says aki: a kernel is expected'],
    ['aki', 'a file system', ext(), 'the image data is a file system, but disk_format says aki'],
    ['aki', 'a qcow2', qcow2(), 'the image data is nothing that boots, but disk_format says aki'],
    ['aki', 'anything', random, 'nothing that boots'],
    ['aki', 'nothing', Buffer.alloc(0), 'nothing that boots'],
    ['ari', 'a kernel', kernel(), 'the image data is a kernel, but disk_format says ari: a ramdisk is expected'],
    ['ari', 'anything', random, 'nothing that boots'],
  ])('as %s, that is %s, is refused', async (format, _what, data, message) => {
    shared ??= await start()
    expect(await offer(shared, format, data)).toEqual([415, expect.stringContaining(message)])
  })

  it('is not looked at where the operator says so', async () => {
    for (const lenient of [{ requireFormatMatch: false }, { requireFormatAgreement: false }]) {
      expect(await offer(await start(lenient), 'aki', random)).toEqual([204, ''])
    }
  })
})

describe('kernel_id and ramdisk_id', () => {
  const make = (subject: Subject, document: object, who: Record<string, string> = {}) =>
    ask(`${subject.url}/v2/images`, 'POST', JSON.stringify(document), { ...who, 'content-type': 'application/json' })
  const patch = (subject: Subject, id: string, changes: object[]) =>
    ask(`${subject.url}/v2/images/${id}`, 'PATCH', JSON.stringify(changes), { 'content-type': newPatch })
  const amazon = (format: string, more: object = {}) => ({ disk_format: format, container_format: format, ...more })
  const other = '01234567-89ab-cdef-0123-456789abcdef'

  it('name a kernel and a ramdisk', async () => {
    const subject = await start()
    const aki = await createImage(subject.url, amazon('aki'))
    const ari = await createImage(subject.url, amazon('ari'))
    const made = await make(
      subject,
      amazon('ami', { kernel_id: aki, ramdisk_id: ari, os_command_line: 'root=/dev/vda' }),
    )
    expect([made.status, made.json()]).toEqual([201, expect.objectContaining({ kernel_id: aki, ramdisk_id: ari })])
    for (const [name, value, said] of [
      [
        'kernel_id',
        other,
        `kernel_id of an image of disk_format ami must name an image of disk_format aki; there is none with the id \\"${other}\\"`,
      ],
      ['kernel_id', 'vmlinuz', 'there is none with the id \\"vmlinuz\\"'],
      ['kernel_id', ari, `${ari} is ari`],
      [
        'ramdisk_id',
        aki,
        `ramdisk_id of an image of disk_format ami must name an image of disk_format ari; ${aki} is aki`,
      ],
    ]) {
      const refused = await make(subject, amazon('ami', { [name as string]: value }))
      expect([
        refused.status,
        JSON.stringify(refused.body.toString().replaceAll('&#34;', '"').replaceAll('&quot;', '"')),
      ]).toEqual([400, expect.stringContaining(said as string)])
      const { id } = made.json<{ id: string }>()
      expect((await patch(subject, id, [{ op: 'replace', path: `/${name}`, value }])).status).toBe(400)
    }
    for (const value of ['', 'nokernel'])
      expect((await make(subject, amazon('ami', { kernel_id: value }))).status).toBe(201)
    // An image of another kind may say what it likes.
    expect((await make(subject, { disk_format: 'raw', container_format: 'bare', kernel_id: other })).status).toBe(201)
  })

  it('are not looked for again when they were there before', async () => {
    const subject = await start()
    const aki = await createImage(subject.url, amazon('aki'))
    const ami = await createImage(subject.url, amazon('ami', { kernel_id: aki }))
    expect((await ask(`${subject.url}/v2/images/${aki}`, 'DELETE')).status).toBe(204)
    expect((await patch(subject, ami, [{ op: 'replace', path: '/name', value: 'still here' }])).status).toBe(200)
    expect((await patch(subject, ami, [{ op: 'replace', path: '/kernel_id', value: aki }])).status).toBe(200)
    expect((await patch(subject, ami, [{ op: 'add', path: '/ramdisk_id', value: aki }])).status).toBe(400)
    // What becomes an ami is looked at as a new one.
    const raw = await createImage(subject.url, { disk_format: 'raw', container_format: 'bare', kernel_id: aki })
    const change = (name: string) => ({ op: 'replace', path: `/${name}_format`, value: 'ami' })
    expect((await patch(subject, raw, [change('disk'), change('container')])).status).toBe(400)
  })

  it('may say anything where the operator says so', async () => {
    const subject = await start({ requireBootImages: false })
    expect((await make(subject, amazon('ami', { kernel_id: other }))).status).toBe(201)
  })
})
