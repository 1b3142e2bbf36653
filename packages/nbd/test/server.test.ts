/** The server and the clients of others: nbdinfo, nbdcopy, qemu-img, qemu-io; and our own, both ends at once. */
import { existsSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Disk, faultySource, isWritable, MemoryStore, openDisk, raw, type WritableDisk } from '@moraine/engine'
import { beforeAll, describe, expect, it } from 'vitest'
import { openWritable, withImage } from '../../engine/test/support/disk.ts'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, run, runOk } from '../../engine/test/support/process.ts'
import {
  bytesSha,
  expectClean,
  fileSha,
  guestSha,
  qemuImg,
  qemuIo,
  tryQemuImg,
} from '../../engine/test/support/qemu.ts'
import { budget, Random, seed, timeFor } from '../../engine/test/support/random.ts'
import {
  type NbdStore,
  openNbd,
  readClientCertificates,
  readServerCertificates,
  type ServeNbdOptions,
  serveNbd,
} from '../src/index.ts'
import { makeCertificates } from './support/certificates.ts'
import { extentsOf } from './support/hostile.ts'

const folder = temporaryFolder()

interface Served {
  uri: string
  disk: Disk
  warnings: string[]
  counts: [number, string][]
  close(patience?: number): Promise<void>
}

async function served(disk: Disk, options: Partial<ServeNbdOptions> = {}): Promise<Served> {
  const warnings: string[] = []
  const counts: [number, string][] = []
  const server = await serveNbd(disk, {
    listen: { path: folder.fresh('.sock') },
    clients: 8,
    warn: (message) => warnings.push(message),
    onClients: (count, event) => counts.push([count, event]),
    ...options,
  })
  return {
    uri: server.uri,
    disk,
    warnings,
    counts,
    async close(patience) {
      await server.close(patience)
      await disk.close()
    },
  }
}

async function memoryDisk(bytes: Uint8Array): Promise<WritableDisk> {
  const disk = await openDisk(MemoryStore.from(bytes), { formats: [raw], format: 'raw', mode: 'write' })
  if (!isWritable(disk)) throw new Error('it cannot be written')
  return disk
}

/** Data, holes, and zeros. */
function content(size: number, n = 1): Buffer {
  const bytes = Buffer.alloc(size)
  const random = new Random(n)
  bytes.set(random.bytes(500_000), 70_000)
  bytes.set(random.bytes(2_000_000), size - 2_500_000)
  return bytes
}

const size = 8 << 20

describeWith(['nbdinfo', 'nbdcopy', 'qemu-img', 'qemu-io'], 'clients of others', () => {
  it('see the export as it is', async () => {
    const { uri, warnings, close } = await served(await memoryDisk(content(size)), {
      exportName: 'a/b c',
      description: 'what it is',
      allocationDepth: true,
    })
    const info = JSON.parse(await runOk('nbdinfo', ['--json', uri])) as { exports: Record<string, unknown>[] }
    expect(info.exports[0]).toMatchObject({
      'export-name': 'a/b c',
      description: 'what it is',
      'export-size': size,
      contexts: ['base:allocation', 'qemu:allocation-depth'],
      is_read_only: false,
      can_df: true,
      can_fua: true,
      can_flush: true,
      can_multi_conn: true,
      can_trim: true,
      can_zero: true,
      block_size_minimum: 1,
      block_size_preferred: 4096,
      block_size_maximum: 33554432,
    })
    const list = JSON.parse(await runOk('nbdinfo', ['--list', '--json', uri])) as { exports: Record<string, unknown>[] }
    expect(list.exports.map((one) => one['export-name'])).toEqual(['a/b c'])
    const wrong = await run('nbdinfo', [uri.replace('a/b', 'a/x')])
    expect([wrong.code, wrong.stderr]).toEqual([
      1,
      expect.stringContaining('No such file or directory for export: a/x c'),
    ])
    await sleep(20)
    expect(warnings).toEqual([])
    await close()
  })

  it('see the same extents as of the file', async () => {
    const file = folder.fresh('.qcow2')
    await qemuImg('create', '-q', '-f', 'qcow2', file, '64M')
    await qemuIo(file, 'qcow2', 'write 1M 3M', 'write -z 8M 2M', 'write 60M 100k')
    const theirs = await qemuImg('map', '--output=json', '-f', 'qcow2', file)
    const { uri, close } = await served(await openWritable(file, 'qcow2'), { allocationDepth: true })
    const map = JSON.parse(await runOk('nbdinfo', ['--map', '--json', uri])) as {
      offset: number
      length: number
      type: number
    }[]
    const wanted = (JSON.parse(theirs) as { start: number; length: number; zero: boolean; data: boolean }[]).map(
      ({ start, length, zero, data }) => ({ offset: start, length, type: (data ? 0 : 1) | (zero ? 2 : 0) }),
    )
    expect(melt(map)).toEqual(melt(wanted))
    const depth = JSON.parse(await runOk('nbdinfo', ['--map=qemu:allocation-depth', '--json', uri])) as {
      type: number
    }[]
    expect(depth.map(({ type }) => type)).toEqual([0, 1, 0, 1, 0, 1, 0])
    await close()
  })

  it('write an image of each kind; it is sound and holds what they wrote', async () => {
    for (const format of ['raw', 'qcow2', 'vdi', 'vpc']) {
      const file = folder.fresh(`.${format}`)
      const source = folder.fresh('.raw')
      writeFileSync(source, content(size))
      await qemuImg(
        'create',
        '-q',
        '-f',
        format,
        ...(format === 'vpc' ? ['-o', 'force_size=on'] : []),
        file,
        String(size),
      )
      const { uri, close } = await served(await openWritable(file, format))
      await runOk('nbdcopy', ['--flush', source, uri])
      expect((await tryQemuImg(['compare', '-f', 'raw', '-F', 'raw', source, uri])).code, format).toBe(0)
      await qemuIo(
        uri,
        'raw',
        'write -P 9 1000 70000',
        'read -P 9 1000 70000',
        'write -z 2000 300000',
        'read -P 0 2000 60000',
        'discard 1M 2M',
        'flush',
        'write -f -P 3 5M 1M',
        'read -P 3 5M 1M',
        'write -z -u 6M 1M',
      )
      const copy = folder.fresh('.raw')
      await runOk('nbdcopy', [uri, copy])
      await close()
      expect(await guestSha(file, format), format).toBe(await fileSha(copy))
      if (format === 'qcow2' || format === 'vdi') await expectClean(file, format)
    }
  })

  it('convert onto it and from it, through qcow2 inside of the export', async () => {
    const source = folder.fresh('.raw')
    writeFileSync(source, content(size))
    const { uri, close } = await served(await memoryDisk(new Uint8Array(size * 2)))
    await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', source, uri)
    expect((await tryQemuImg(['check', '-f', 'qcow2', uri])).code).toBe(0)
    const back = folder.fresh('.raw')
    await qemuImg('convert', '-f', 'qcow2', '-O', 'raw', uri, back)
    expect(await fileSha(back)).toBe(await fileSha(source))
    await close()
  })

  it('may not write what is read-only', async () => {
    const { uri, close } = await served(await memoryDisk(content(size)), { readOnly: true })
    const info = JSON.parse(await runOk('nbdinfo', ['--json', uri])) as { exports: { is_read_only: boolean }[] }
    expect(info.exports[0]?.is_read_only).toBe(true)
    expect((await run('qemu-io', ['-f', 'raw', '-c', 'write 0 512', uri])).code).not.toBe(0)
    await close()
  })

  it('read a bitmap', async () => {
    const file = folder.fresh('.qcow2')
    await qemuImg('create', '-q', '-f', 'qcow2', file, '64M')
    await qemuImg('bitmap', '--add', file, 'b0')
    await qemuIo(file, 'qcow2', 'write 1M 3M', 'write 60M 4M')
    await withImage(file, 'qcow2', async (disk) => {
      const server = await serveNbd(disk, { listen: { path: folder.fresh('.sock') }, bitmaps: ['b0'] })
      const map = await runOk('nbdinfo', ['--map=qemu:dirty-bitmap:b0', '--json', server.uri])
      expect(
        (JSON.parse(map) as { offset: number; length: number; type: number }[]).map(({ offset, length, type }) => [
          offset,
          length,
          type,
        ]),
      ).toEqual([
        [0, 1 << 20, 0],
        [1 << 20, 3 << 20, 1],
        [4 << 20, 56 << 20, 0],
        [60 << 20, 4 << 20, 1],
      ])
      await server.close()
      await expect(serveNbd(disk, { listen: { path: folder.fresh('.sock') }, bitmaps: ['b1'] })).rejects.toMatchObject({
        kind: 'missing',
      })
    })
  })
})

function melt(list: { offset: number; length: number; type: number }[]): [number, number, number][] {
  const melted: [number, number, number][] = []
  for (const { offset, length, type } of list) {
    const last = melted.at(-1)
    if (last !== undefined && last[2] === type) last[1] += length
    else melted.push([offset, length, type])
  }
  return melted
}

describeWith(['openssl', 'nbdinfo', 'qemu-io'], 'TLS', () => {
  let pki: Awaited<ReturnType<typeof makeCertificates>>
  beforeAll(async () => {
    pki = await makeCertificates(folder.file('pki'))
  })

  it('is required, of both sides, by ours and by theirs', async () => {
    const bytes = content(size)
    const tls = readServerCertificates(pki.server, { verifyPeer: true })
    const { uri, close } = await served(await memoryDisk(bytes), { tls, listen: { host: '127.0.0.1', port: 0 } })
    expect(uri).toMatch(/^nbds:\/\/127\.0\.0\.1:\d+\/$/)
    const info = JSON.parse(await runOk('nbdinfo', ['--json', `${uri}?tls-certificates=${pki.client}`])) as {
      TLS: boolean
      exports: { 'export-size': number }[]
    }
    expect([info.TLS, info.exports[0]?.['export-size']]).toEqual([true, size])
    // A certificate of another authority, none, and no TLS at all.
    expect((await run('nbdinfo', [`${uri}?tls-certificates=${pki.anonymous}`])).code).not.toBe(0)
    expect((await run('nbdinfo', [uri.replace('nbds', 'nbd')])).stderr).toMatch(/not supported/)
    const store = await openNbd(uri, { tls: readClientCertificates(pki.client), mode: 'write' })
    const into = Buffer.alloc(size)
    await store.read(0, into)
    expect(into.equals(bytes)).toBe(true)
    await store.write(5, Buffer.alloc(3_000_000, 5))
    await store.read(0, into)
    expect(into.equals(bytes.fill(5, 5, 3_000_005))).toBe(true)
    await store.close()
    for (const options of [{ tls: readClientCertificates(pki.anonymous) }, {}]) {
      await expect(openNbd(uri.replace('nbds', 'nbd'), { ...options, retries: 0 })).rejects.toMatchObject({
        name: 'MoraineError',
      })
    }
    await expect(openNbd(uri, { tls: readClientCertificates(pki.stranger) })).rejects.toMatchObject({ kind: 'denied' })
    await close()
  })

  it('is offered: clients in clear come in, too', async () => {
    const tls = readServerCertificates(pki.server, { verifyPeer: false })
    const { uri, close } = await served(await memoryDisk(content(size)), { tls: { ...tls, mode: 'allow' } })
    await (await openNbd(uri.replace('nbds', 'nbd'))).close()
    await (await openNbd(uri, { tls: readClientCertificates(pki.anonymous) })).close()
    await close()
  })
})

describe('both ends', () => {
  async function churn(store: NbdStore, model: Buffer, random: Random): Promise<void> {
    await Promise.all(
      Array.from({ length: random.int(1, 6) }, async () => {
        const at = random.int(0, model.length - 1)
        const length = random.int(0, Math.min(random.bool(0.1) ? 4_000_000 : 20_000, model.length - at))
        const kind = random.int(0, 4)
        if (kind <= 1) {
          const bytes = random.bytes(length)
          model.set(bytes, at)
          await store.write(at, bytes)
        } else if (kind === 2) {
          model.fill(0, at, at + length)
          await store.zero(at, length, random.bool() ? 'unmap' : 'allocate')
        } else if (kind === 3) await store.flush()
        else await store.read(at, new Uint8Array(length))
      }),
    )
  }

  it(
    'keep what is written, over one connection or several, whatever the format',
    async () => {
      const random = new Random(seed('nbd both ends'))
      const end = Date.now() + budget(2500)
      for (let round = 0; round < 3 || Date.now() < end; round++) {
        const format = random.pick(['raw', 'qcow2', 'vhdx'])
        const file = folder.fresh(`.${format}`)
        await qemuImg('create', '-q', '-f', format, file, String(size))
        const { uri, close } = await served(await openWritable(file, format))
        const store = await openNbd(uri, { mode: 'write', connections: random.int(1, 4) })
        const model = Buffer.alloc(size)
        for (let i = 0; i < 6; i++) {
          await churn(store, model, random)
          const at = random.int(0, size - 1)
          const into = Buffer.alloc(random.int(0, size - at))
          await store.read(at, into)
          expect(into.equals(model.subarray(at, at + into.length))).toBe(true)
          for (const extent of await extentsOf(store)) {
            if (!extent.zero) continue
            expect(model.subarray(extent.offset, extent.offset + extent.length).every((byte) => byte === 0)).toBe(true)
          }
        }
        await store.close()
        await close()
        expect(await guestSha(file, format), format).toBe(bytesSha(model))
      }
    },
    timeFor(2500),
  )

  it('errors of the disk are told with their code and words', async () => {
    const { source } = faultySource(MemoryStore.from(content(size)), { fault: 'ENOSPC', calls: ['write'], at: 1 })
    const disk = await openDisk(source, { formats: [raw], format: 'raw', mode: 'write' })
    const { uri, close } = await served(disk)
    const store = await openNbd(uri, { mode: 'write' })
    const results = await Promise.allSettled([store.write(0, new Uint8Array(100)), store.write(0, new Uint8Array(100))])
    expect(results.filter(({ status }) => status === 'rejected').length).toBe(1)
    const failure = results.find((result) => result.status === 'rejected')
    expect(failure?.reason).toMatchObject({
      kind: 'io',
      code: 'ENOSPC',
      hint: 'server reported: No space left on device',
    })
    await store.read(0, new Uint8Array(10))
    await store.close()
    await close()
  })
})

describe('a server', () => {
  it('lets clients wait for their turn, and those that are too many go', async () => {
    const { uri, counts, close } = await served(await memoryDisk(content(size)), { clients: 1 })
    const first = await openNbd(uri)
    let second: NbdStore | undefined
    const waiting = openNbd(uri).then((store) => {
      second = store
    })
    await sleep(100)
    expect(second).toBeUndefined()
    await first.close()
    await waiting
    await second?.close()
    await sleep(50)
    expect(counts).toEqual([
      [1, 'came'],
      [0, 'left'],
      [1, 'came'],
      [0, 'left'],
    ])
    await close()
  })

  it('answers what is under way when it is closed, flushes, and removes its socket', async () => {
    const { source, report } = slow(MemoryStore.from(content(size)), 150)
    const disk = await openDisk(source, { formats: [raw], format: 'raw', mode: 'write' })
    const { uri, close } = await served(disk)
    const store = await openNbd(uri, { mode: 'write', retries: 0 })
    const writing = store.write(100, Buffer.alloc(1000, 7))
    await sleep(50)
    const closing = close()
    await writing
    await closing
    expect(report()).toEqual({ written: 1, flushed: 1 })
    await expect(store.read(0, new Uint8Array(1))).rejects.toMatchObject({ kind: 'io' })
    await store.close()
    expect(existsSync(uri.slice(uri.indexOf('=') + 1))).toBe(false)
  })

  it('does not end a socket that another program listens on', async () => {
    const disk = await memoryDisk(content(size))
    const first = await served(disk)
    const path = first.uri.slice(first.uri.indexOf('=') + 1)
    await expect(serveNbd(disk, { listen: { path } })).rejects.toMatchObject({
      kind: 'denied',
      reason: expect.stringContaining('in use'),
    })
    await (await openNbd(first.uri)).close()
    await first.close()
  })

  it('takes the place of one that was killed, and names a folder that is not there', async () => {
    const path = folder.fresh('.sock')
    const script = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`
    await run(process.execPath, ['-e', script])
    expect(existsSync(path)).toBe(true)
    const disk = await memoryDisk(content(size))
    const { uri, close } = await served(disk, { listen: { path } })
    await (await openNbd(uri)).close()
    await close()
    const nowhere = serveNbd(disk, { listen: { path: join(path, 'x') } })
    await expect(nowhere).rejects.toMatchObject({ kind: 'missing', reason: expect.stringContaining('No such file') })
    const file = folder.fresh()
    writeFileSync(file, 'precious')
    await expect(serveNbd(disk, { listen: { path: file } })).rejects.toMatchObject({ kind: 'denied' })
    expect(existsSync(file)).toBe(true)
  })

  const bad: [name: string, said: Buffer][] = [
    ['nothing', Buffer.alloc(0)],
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['unknown flags', Buffer.from([0, 0, 0, 255])],
    ['no newstyle', Buffer.from([0, 0, 0, 2])],
    [
      'an option of 4 GiB',
      Buffer.concat([
        Buffer.from([0, 0, 0, 3]),
        Buffer.from('IHAVEOPT'),
        Buffer.from([0, 0, 0, 7, 255, 255, 255, 255]),
      ]),
    ],
    [
      'lengths that do not add up',
      Buffer.concat([
        Buffer.from([0, 0, 0, 3]),
        Buffer.from('IHAVEOPT'),
        Buffer.from([0, 0, 0, 7, 0, 0, 0, 4, 255, 255, 255, 255]),
      ]),
    ],
    [
      'a million options',
      Buffer.concat([
        Buffer.from([0, 0, 0, 3]),
        ...Array.from({ length: 100_000 }, () =>
          Buffer.concat([Buffer.from('IHAVEOPT'), Buffer.from([0, 0, 0, 77, 0, 0, 0, 0])]),
        ),
      ]),
    ],
  ]

  it.each(bad)('survives a client that says %s', async (_name, said) => {
    const { uri, close } = await served(await memoryDisk(content(size)), { clients: 2, timeout: 300 })
    const socket = connect(uri.slice(uri.indexOf('=') + 1))
    socket.on('error', () => {})
    socket.write(said)
    socket.resume()
    const closed = new Promise((resolve) => socket.once('close', resolve))
    const other = await openNbd(uri)
    await other.read(0, new Uint8Array(100))
    await other.close()
    await closed
    await close()
  })

  it('cuts off a client that asks and never reads', async () => {
    const { uri, close } = await served(await memoryDisk(content(size)), { timeout: 300 })
    const socket = connect(uri.slice(uri.indexOf('=') + 1))
    socket.on('error', () => {})
    const name = Buffer.from([0, 0, 0, 3, ...Buffer.from('IHAVEOPT'), 0, 0, 0, 1, 0, 0, 0, 0])
    socket.write(name)
    const request = Buffer.alloc(28)
    request.writeUInt32BE(0x25609513)
    request.writeUInt32BE(size, 24)
    for (let i = 0; i < 200; i++) socket.write(request)
    const before = process.memoryUsage().rss
    await sleep(1200)
    expect(process.memoryUsage().rss - before).toBeLessThan(192 << 20)
    await close(100)
    socket.destroy()
  })

  it('refuses what passes the end, and goes on', async () => {
    const { uri, close } = await served(await memoryDisk(content(size)))
    const peer = connect(uri.slice(uri.indexOf('=') + 1))
    const got: Buffer[] = []
    peer.on('data', (data: Buffer) => got.push(data))
    peer.write(Buffer.from([0, 0, 0, 3, ...Buffer.from('IHAVEOPT'), 0, 0, 0, 1, 0, 0, 0, 0]))
    const ask = (type: number, flags: number, offset: number, length: number, payload = 0): void => {
      const request = Buffer.alloc(28 + payload)
      request.writeUInt32BE(0x25609513)
      request.writeUInt16BE(flags, 4)
      request.writeUInt16BE(type, 6)
      request.writeUInt32BE(got.length, 12)
      request.writeBigUInt64BE(BigInt(offset), 16)
      request.writeUInt32BE(length, 24)
      peer.write(request)
    }
    const answer = async (...request: Parameters<typeof ask>): Promise<number> => {
      const from = Buffer.concat(got).length
      ask(...request)
      while (Buffer.concat(got).length < from + 16) await sleep(5)
      return Buffer.concat(got).readUInt32BE(from + 4)
    }
    await sleep(50)
    expect(await answer(0, 0, size, 1)).toBe(22)
    expect(await answer(0, 0, 2 ** 52, 1)).toBe(22)
    expect(await answer(1, 0, size - 1, 2, 2)).toBe(28)
    expect(await answer(6, 0, size - 1, 2)).toBe(28)
    expect(await answer(4, 0, size - 1, 2)).toBe(22)
    expect(await answer(0, 0, 0, 33 << 20)).toBe(22)
    expect(await answer(0, 1 << 9, 0, 1)).toBe(22)
    expect(await answer(6, 16, 0, 1)).toBe(22)
    expect(await answer(7, 0, 0, 512)).toBe(22)
    expect(await answer(5, 0, 0, 512)).toBe(22)
    expect(await answer(99, 0, 0, 512)).toBe(22)
    expect(await answer(3, 0, 0, 0)).toBe(0)
    peer.destroy()
    await close()
  })
})

/** A store whose writes take their time. */
function slow(
  store: MemoryStore,
  delay: number,
): { source: MemoryStore; report(): { written: number; flushed: number } } {
  const counts = { written: 0, flushed: 0 }
  const write = store.write.bind(store)
  const flush = store.flush.bind(store)
  store.write = async (...args) => {
    await sleep(delay)
    await write(...args)
    counts.written++
  }
  store.flush = async () => {
    await flush()
    counts.flushed++
  }
  return { source: store, report: () => ({ ...counts }) }
}
