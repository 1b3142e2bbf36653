/** Stored images in another format, compared by qemu-img. */
import { randomBytes } from 'node:crypto'
import { closeSync, openSync, readFileSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { beforeAll, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith } from '../../engine/test/support/process.ts'
import { qemuImg } from '../../engine/test/support/qemu.ts'
import { ask, createImage, dataFile, type Subject, services, upload } from './support/service.ts'

const start = services()
const folder = temporaryFolder()
const MiB = 1024 * 1024

describeWith(['qemu-img'], 'export', () => {
  let subject: Subject
  const raw = folder.file('disk.raw')

  beforeAll(async () => {
    subject = await start()
    writeFileSync(raw, '')
    truncateSync(raw, 24 * MiB)
    const file = openSync(raw, 'r+')
    writeSync(file, randomBytes(2 * MiB), 0, 2 * MiB, 0)
    writeSync(file, Buffer.alloc(3 * MiB, 7), 0, 3 * MiB, 10 * MiB)
    writeSync(file, randomBytes(512), 0, 512, 24 * MiB - 512)
    closeSync(file)
  })

  async function store(path: string, disk_format: string, name?: string): Promise<string> {
    const id = await createImage(subject.url, { disk_format, ...(name === undefined ? {} : { name }) })
    const answer = await upload(subject.url, id, readFileSync(path))
    expect(answer.status).toBe(204)
    return id
  }

  async function take(id: string, query: string): Promise<{ path: string; headers: Record<string, unknown> }> {
    const answer = await ask(`${subject.url}/v2/images/${id}/export?${query}`)
    expect([query, answer.status, answer.status === 200 ? '' : answer.body.toString()]).toEqual([query, 200, ''])
    const length = answer.headers['content-length']
    // Nobody knows how far something shrinks.
    if (!/compress=true|streamOptimized/.test(query)) expect(Number(length)).toBe(answer.body.length)
    else expect(length).toBeUndefined()
    const path = folder.fresh('.out')
    writeFileSync(path, answer.body)
    return { path, headers: answer.headers }
  }

  it.each([
    ['raw', 'raw', []],
    ['raw', 'qcow2', []],
    ['qcow2', 'raw', []],
    ['qcow2', 'qcow2', []],
    ['qcow2', 'raw', ['-c']],
    ['qcow2', 'raw', ['-c', '-o', 'compression_type=zstd']],
    ['qcow2', 'qcow2', ['-o', 'cluster_size=512,compat=0.10']],
    ['qcow2', 'raw', ['-o', 'extended_l2=on']],
  ])('%s as %s, made with %s', async (from, to, options) => {
    const path = folder.fresh(`.${from}`)
    await qemuImg('convert', '-f', 'raw', '-O', from, ...options, raw, path)
    const id = await store(path, from)
    const { path: out, headers } = await take(id, `format=${to}`)
    expect(headers['content-type']).toBe('application/octet-stream')
    await qemuImg('compare', '-f', 'raw', '-F', to, raw, out)
    if (to === 'qcow2') await qemuImg('check', '-q', '-f', 'qcow2', out)
  })

  it.each([
    ['qcow2', 'format=qcow2&compress=true'],
    ['qcow2', 'format=qcow2&compress=true&compression_type=zstd'],
    ['qcow', 'format=qcow'],
    ['qed', 'format=qed'],
    ['vmdk', 'format=vmdk'],
    ['vmdk', 'format=vmdk&subformat=streamOptimized'],
    ['vdi', 'format=vdi&static=on'],
    ['vpc', 'format=vhd&force_size=on'],
    ['vpc', 'format=vpc&subformat=fixed'],
    ['vhdx', 'format=vhdx'],
    ['parallels', 'format=parallels'],
  ])('writes what %s readers take: %s', async (qemu, query) => {
    const id = await store(raw, 'raw')
    await qemuImg('compare', '-f', 'raw', '-F', qemu, raw, (await take(id, query)).path)
  })

  it('takes the options of the format', async () => {
    const id = await store(raw, 'raw', 'My disk.img')
    const { path, headers } = await take(id, 'format=qcow2&cluster_size=128k&compat=0.10')
    expect(headers['content-disposition']).toBe('attachment; filename="My-disk.qcow2"')
    const info = JSON.parse(await qemuImg('info', '--output=json', path))
    expect([info['cluster-size'], info['format-specific'].data.compat]).toEqual([131072, '0.10'])
    await qemuImg('compare', '-f', 'raw', '-F', 'qcow2', raw, path)
  })

  it('names what is lost', async () => {
    const path = folder.fresh('.qcow2')
    await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', raw, path)
    await qemuImg('snapshot', '-c', 'before', path)
    const id = await store(path, 'qcow2')
    expect((await take(id, 'format=qcow2')).headers['x-moraine-losses']).toBe('snapshots')
  })

  it('of data that was cut in the store fails at once, and the service goes on', async () => {
    const path = folder.fresh('.qcow2')
    await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', raw, path)
    const id = await store(path, 'qcow2')
    truncateSync(dataFile(subject, id), 300_000)
    for (const way of ['export?format=raw', 'export?format=qcow2', 'file']) {
      expect((await ask(`${subject.url}/v2/images/${id}/${way}`)).status).toBe(500)
    }
    expect((await ask(`${subject.url}/v2/images/${id}`)).status).toBe(200)
  })

  it('of packed data that is damaged ends early, and the service goes on', async () => {
    const text = folder.fresh('.raw')
    writeFileSync(text, Array.from({ length: 500_000 }, (_, i) => `${i}\n`).join(''))
    const path = folder.fresh('.qcow2')
    await qemuImg('convert', '-c', '-f', 'raw', '-O', 'qcow2', text, path)
    const id = await store(path, 'qcow2')
    // Header, counts and tables lie before.
    const file = openSync(dataFile(subject, id), 'r+')
    writeSync(file, Buffer.alloc(300_000, 0xff), 0, 300_000, 5 * 65536 + 1000)
    closeSync(file)
    const answer = await ask(`${subject.url}/v2/images/${id}/export?format=raw`).then(
      ({ status }) => status,
      (error: NodeJS.ErrnoException) => error.code,
    )
    expect(answer).toBe('ECONNRESET')
    expect((await ask(`${subject.url}/v2/images/${id}`)).status).toBe(200)
  })

  it('refuses what cannot be, before the first byte', async () => {
    const id = await store(raw, 'raw')
    const refuse = async (target: string, query: string) => {
      const answer = await ask(`${subject.url}/v2/images/${target}/export${query}`, 'GET', undefined, {
        accept: 'application/json',
      })
      return [answer.status, answer.json<{ message: string }>().message.replace(/<br.*/s, '')]
    }
    const listed = expect.stringMatching(/^format must be one of the following: qcow2, .*raw$/)
    expect(await refuse(id, '')).toEqual([400, listed])
    expect(await refuse(id, '?format=floppy')).toEqual([400, listed])
    expect((await refuse(id, '?format=qcow2&cluster_size=3'))[0]).toBe(400)
    expect((await refuse(id, '?format=qcow2&preallocation=full'))[0]).toBe(400)
    expect((await refuse(id, '?format=qcow2&backing_file=/etc/passwd'))[0]).toBe(400)
    expect((await refuse(id, '?format=qcow2&nonsense=1'))[0]).toBe(400)
    expect((await refuse('00000000-0000-0000-0000-000000000000', '?format=raw'))[0]).toBe(404)
    expect((await refuse(await createImage(subject.url), '?format=raw'))[0]).toBe(409)
    const kernel = await createImage(subject.url, { disk_format: 'aki', container_format: 'aki' })
    expect((await upload(subject.url, kernel, gzipSync('kernel'))).status).toBe(204)
    expect((await refuse(kernel, '?format=raw'))[0]).toBe(400)
  })

  it('ends the conversion when the client goes away', async () => {
    const path = folder.fresh('.qcow2')
    await qemuImg('create', '-q', '-f', 'qcow2', path, '1T')
    const id = await store(path, 'qcow2')
    const socket = connect(Number(new URL(subject.url).port), '127.0.0.1')
    socket.write(`GET /v2/images/${id}/export?format=raw HTTP/1.1\r\nHost: localhost\r\n\r\n`)
    for await (const part of socket) {
      expect(String(part)).toContain('content-length: 1099511627776')
      break
    }
    socket.destroy()
    // A conversion would take the processor for minutes; what else there is to do now is little.
    let spent = Number.POSITIVE_INFINITY
    for (const end = Date.now() + 30_000; spent > 250_000 && Date.now() < end; ) {
      const before = process.cpuUsage()
      await sleep(500)
      spent = process.cpuUsage(before).user
    }
    expect(spent).toBeLessThan(250_000)
  })
})
