/** The client and the servers of others: qemu-nbd and nbdkit, with filters that make them difficult. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { isMoraineError, type MoraineError } from '@moraine/engine'
import { beforeAll, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith } from '../../engine/test/support/process.ts'
import { bytesSha, qemuImg, qemuIo } from '../../engine/test/support/qemu.ts'
import { budget, Random, seed, timeFor } from '../../engine/test/support/random.ts'
import { type NbdOptions, type NbdStatus, type NbdStore, openNbd, readClientCertificates } from '../src/index.ts'
import { makeCertificates } from './support/certificates.ts'
import { churn } from './support/churn.ts'
import { extentsOf } from './support/hostile.ts'
import { type ForeignServer, nbdkit, qemuNbd } from './support/servers.ts'

const folder = temporaryFolder()
const size = 9 << 20

/** Data, holes and zeros, the last sector not whole. */
function content(): Buffer {
  const bytes = Buffer.alloc(size)
  const random = new Random(1)
  bytes.set(random.bytes(700_000), 100_000)
  bytes.set(random.bytes(3 << 20), 4 << 20)
  return bytes
}

function freshRaw(): { file: string; bytes: Buffer } {
  const file = folder.fresh('.raw')
  const bytes = content()
  writeFileSync(file, bytes)
  return { file, bytes }
}

async function using<T>(server: ForeignServer, options: NbdOptions, work: (store: NbdStore) => Promise<T>): Promise<T> {
  try {
    const store = await openNbd(server.uri, options)
    try {
      return await work(store)
    } finally {
      await store.close()
    }
  } finally {
    await server.stop()
  }
}

async function wholeOf(store: NbdStore): Promise<Buffer> {
  const bytes = Buffer.alloc(store.size)
  await store.read(0, bytes)
  return bytes
}

/** Servers that want things done in their own way. */
const kinds: [name: string, start: (socket: string, file: string) => Promise<ForeignServer>, options?: NbdOptions][] = [
  ['qemu-nbd', (socket, file) => qemuNbd(socket, file, 'raw')],
  ['qemu-nbd, four connections', (socket, file) => qemuNbd(socket, file, 'raw'), { connections: 4 }],
  ['qemu-nbd, every write through', (socket, file) => qemuNbd(socket, file, 'raw'), { writeThrough: true }],
  ['nbdkit', (socket, file) => nbdkit(socket, 'file', file), { connections: 2 }],
  ['nbdkit without structured replies', (socket, file) => nbdkit(socket, '--no-sr', 'file', file)],
  [
    'nbdkit with blocks of 512',
    (socket, file) =>
      nbdkit(
        socket,
        '--filter=blocksize-policy',
        'file',
        file,
        'blocksize-minimum=512',
        'blocksize-error-policy=error',
      ),
  ],
  [
    'nbdkit with blocks of 64 KiB and little at once',
    (socket, file) =>
      nbdkit(
        socket,
        '--filter=blocksize-policy',
        'file',
        file,
        'blocksize-minimum=64K',
        'blocksize-preferred=64K',
        'blocksize-maximum=128K',
        'blocksize-error-policy=error',
      ),
  ],
  ['nbdkit without zeroing', (socket, file) => nbdkit(socket, '--filter=nozero', 'file', file)],
  ['nbdkit without extents', (socket, file) => nbdkit(socket, '--filter=noextents', 'file', file)],
  ['nbdkit with delays', (socket, file) => nbdkit(socket, '--filter=delay', 'file', file, 'rdelay=2ms', 'wdelay=3ms')],
  ['nbdkit, one request after the other', (socket, file) => nbdkit(socket, '--filter=noparallel', 'file', file)],
]

describeWith(['qemu-nbd', 'nbdkit'], 'exports of others', () => {
  it.each(kinds)('%s: what is written is read, by us and from the file', async (name, start, options = {}) => {
    const { file, bytes } = freshRaw()
    const random = new Random(seed(`nbd client, ${name}`))
    await using(await start(folder.fresh('.sock'), file), { mode: 'write', ...options }, async (store) => {
      expect(store.size).toBe(size)
      expect((await wholeOf(store)).equals(bytes), 'the whole export').toBe(true)
      for (let step = 0; step < 12; step++) await churn(store, bytes, random)
      await store.discard(size - 70_000, 70_000)
      bytes.fill(0, size - 70_000)
      await store.zero(size - 70_000, 70_000, 'unmap')
      await store.flush()
      expect((await wholeOf(store)).equals(bytes), 'the whole export').toBe(true)
      // What a context says must fit what is there.
      let at = 0
      for await (const batch of store.extents(0, size)) {
        for (const extent of batch) {
          expect(extent.offset).toBe(at)
          at += extent.length
          if (extent.zero) expect(bytes.subarray(extent.offset, at).every((byte) => byte === 0)).toBe(true)
        }
      }
      expect(at).toBe(size)
    })
    expect(bytesSha(readFileSync(file))).toBe(bytesSha(bytes))
    rmSync(file)
  })

  it('an old server: nbdkit promises more than it then does, to qemu-io too', async () => {
    const { file, bytes } = freshRaw()
    const server = await nbdkit(folder.fresh('.sock'), '-o', 'file', file)
    await using(server, { mode: 'write' }, async (store) => {
      expect(store.agreement.protocol).toBe('oldstyle')
      const written = new Random(2).bytes(100_000)
      await store.write(12_345, written)
      bytes.set(written, 12_345)
      expect((await wholeOf(store)).equals(bytes)).toBe(true)
      await expect(store.zero(0, 512, 'unmap')).rejects.toMatchObject({ kind: 'io', code: 'EINVAL' })
    })
    expect(bytesSha(readFileSync(file))).toBe(bytesSha(bytes))
  })

  it('a read-only export is not written', async () => {
    const { file } = freshRaw()
    const server = await qemuNbd(folder.fresh('.sock'), file, 'raw', '-r')
    const error = await openNbd(server.uri, { mode: 'write' }).catch((error: unknown) => error)
    expect(isMoraineError(error, 'denied')).toBe(true)
    await using(server, {}, async (store) => {
      await expect(store.write(0, new Uint8Array(1))).rejects.toThrow(/opened for reading/)
      await expect(store.read(size - 1, new Uint8Array(2))).rejects.toThrow(/passes the end/)
      await expect(store.resize(1)).rejects.toThrow('Cannot resize NBD nodes')
      await store.resize(size)
    })
  })

  it('a backing chain and a bitmap are told by contexts, as nbdinfo has them', async () => {
    const base = folder.fresh('.qcow2')
    const top = folder.fresh('.qcow2')
    await qemuImg('create', '-q', '-f', 'qcow2', base, '4M')
    await qemuIo(base, 'qcow2', 'write 0 1M')
    await qemuImg('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'qcow2', top)
    await qemuImg('bitmap', '--add', top, 'b0')
    await qemuIo(top, 'qcow2', 'write 512k 1M', 'write -z 3M 64k')
    const contexts = ['qemu:allocation-depth', 'qemu:dirty-bitmap:b0']
    const server = await qemuNbd(folder.fresh('.sock'), top, 'qcow2', '-r', '-A', '-B', 'b0')
    await using(server, { contexts }, async (store) => {
      const all = async (context: string) => {
        const found: NbdStatus[] = []
        for await (const batch of store.status(context, 0, store.size)) found.push(...batch)
        return found
      }
      expect(await all('qemu:allocation-depth')).toEqual([
        { offset: 0, length: 524_288, flags: 2 },
        { offset: 524_288, length: 1_048_576, flags: 1 },
        { offset: 1_572_864, length: 1_572_864, flags: 0 },
        { offset: 3_145_728, length: 65_536, flags: 1 },
        { offset: 3_211_264, length: 983_040, flags: 0 },
      ])
      expect(await all('qemu:dirty-bitmap:b0')).toEqual([
        { offset: 0, length: 524_288, flags: 0 },
        { offset: 524_288, length: 1_048_576, flags: 1 },
        { offset: 1_572_864, length: 1_572_864, flags: 0 },
        { offset: 3_145_728, length: 65_536, flags: 1 },
        { offset: 3_211_264, length: 983_040, flags: 0 },
      ])
      expect(await all('base:allocation')).toMatchObject([{ flags: 0 }, { offset: 1_572_864, flags: 3 }])
      expect(await all('other:thing')).toEqual([{ offset: 0, length: 4 << 20, flags: 0 }])
    })
  })
})

describeWith(['nbdkit'], 'a server that fails', () => {
  it('answers errors: they are told with their place, and the connection goes on', async () => {
    const { file, bytes } = freshRaw()
    const flag = folder.fresh('.flag')
    writeFileSync(flag, '')
    const server = await nbdkit(
      folder.fresh('.sock'),
      '--filter=error',
      'file',
      file,
      'error=ENOSPC',
      'error-rate=100%',
      `error-file=${flag}`,
    )
    await using(server, { mode: 'write' }, async (store) => {
      const failures = await Promise.all([
        store.read(4096, new Uint8Array(10)).catch((error: unknown) => error as MoraineError),
        store.write(8192, new Uint8Array(10)).catch((error: unknown) => error as MoraineError),
        store.zero(8192, 10_000, 'unmap').catch((error: unknown) => error as MoraineError),
      ])
      expect(failures.map((error) => error && [error.kind, error.code, error.reason, error.offset])).toEqual([
        ['io', 'ENOSPC', 'No space left on device', 4096],
        ['io', 'ENOSPC', 'No space left on device', 8192],
        ['io', 'ENOSPC', 'No space left on device', 8192],
      ])
      // Extents that cannot be told are data.
      expect(await extentsOf(store)).toMatchObject([{ length: size, data: true, zero: false }])
      rmSync(flag)
      expect((await wholeOf(store)).equals(bytes)).toBe(true)
    })
  })

  it('is killed: what is under way fails at once; a reader comes back to the next one', async () => {
    const { file, bytes } = freshRaw()
    const socket = folder.fresh('.sock')
    const first = await nbdkit(socket, '--filter=delay', 'file', file, 'rdelay=200ms', 'wdelay=200ms')
    const reader = await openNbd(first.uri, { retries: 6 })
    const writer = await openNbd(first.uri, { mode: 'write', retries: 6 })
    const writing = writer.write(0, new Uint8Array(5000)).catch((error: unknown) => error as MoraineError)
    const into = Buffer.alloc(100_000)
    const reading = reader.read(90_000, into)
    setTimeout(() => first.process.kill('SIGKILL'), 50)
    await new Promise((resolve) => first.process.once('exit', resolve))
    rmSync(socket, { force: true })
    const second = await nbdkit(socket, 'file', file)
    await reading
    expect(into.equals(bytes.subarray(90_000, 190_000))).toBe(true)
    // What was written may be lost, so the writer must hear of it, now and when it flushes.
    expect(await writing).toMatchObject({ kind: 'io', code: 'ECONNRESET' })
    await expect(writer.flush()).rejects.toMatchObject({ kind: 'io' })
    await expect(writer.write(0, new Uint8Array(1))).rejects.toMatchObject({ kind: 'io' })
    await writer.close()
    await using(second, {}, async () => {})
    await reader.close()
  })

  it('comes back with another export: nothing is mixed', async () => {
    const { file } = freshRaw()
    const socket = folder.fresh('.sock')
    const first = await nbdkit(socket, 'file', file)
    const reader = await openNbd(first.uri)
    await first.stop()
    rmSync(socket, { force: true })
    const second = await nbdkit(socket, 'memory', '1M')
    await expect(reader.read(0, new Uint8Array(10))).rejects.toMatchObject({ kind: 'io', code: 'ESTALE' })
    await second.stop()
    await reader.close()
  })

  it('is slow: a cancelled request ends at once, and its buffer is left alone', async () => {
    const { file, bytes } = freshRaw()
    const server = await nbdkit(folder.fresh('.sock'), '--filter=delay', 'file', file, 'rdelay=400ms', 'wdelay=400ms')
    await using(server, { mode: 'write' }, async (store) => {
      const stop = new AbortController()
      const into = Buffer.alloc(1 << 20)
      const started = performance.now()
      const cancelled = [store.read(100_000, into, stop.signal), store.write(0, Buffer.alloc(3 << 20, 9), stop.signal)]
      setTimeout(() => stop.abort(), 50)
      for (const result of await Promise.allSettled(cancelled)) {
        expect(result.status === 'rejected' && isMoraineError(result.reason, 'cancelled')).toBe(true)
      }
      expect(performance.now() - started).toBeLessThan(350)
      into.fill(0x55)
      // Its answer still comes, and belongs to nobody.
      const after = Buffer.alloc(700_000)
      await store.read(4 << 20, after)
      expect(after.equals(bytes.subarray(4 << 20, (4 << 20) + after.length))).toBe(true)
      expect(into.every((byte) => byte === 0x55)).toBe(true)
    })
  })
})

describeWith(['qemu-nbd', 'openssl'], 'TLS', () => {
  let pki: Awaited<ReturnType<typeof makeCertificates>>
  beforeAll(async () => {
    pki = await makeCertificates(folder.file('pki'))
  })

  async function secure(verify: boolean): Promise<{ server: ForeignServer; bytes: Buffer }> {
    const { file, bytes } = freshRaw()
    const creds = `tls-creds-x509,id=t,endpoint=server,dir=${pki.server},verify-peer=${verify ? 'on' : 'off'}`
    return { server: await qemuNbd(folder.fresh('.sock'), file, 'raw', '--object', creds, '--tls-creds', 't'), bytes }
  }

  it('with certificates on both sides', async () => {
    const { server, bytes } = await secure(true)
    const tls = readClientCertificates(pki.client)
    const named = `${server.uri.replace('nbd+', 'nbds+')}&tls-certificates=${pki.client}`
    const store = await openNbd(named)
    expect((await wholeOf(store)).equals(bytes)).toBe(true)
    await store.close()
    await using(server, { mode: 'write', tls, connections: 2 }, (store) =>
      churn(store, bytes, new Random(seed('nbd tls'))),
    )
  })

  it('a client without a certificate, in clear, or with another authority is refused, by whoever must', async () => {
    const { server } = await secure(true)
    const kind = (options: NbdOptions) =>
      openNbd(server.uri, { timeout: 5000, ...options }).then(
        () => 'opened',
        (error: unknown) => (isMoraineError(error) ? `${error.kind}: ${error.reason}` : String(error)),
      )
    expect(await kind({})).toMatch(/^denied: TLS negotiation required/)
    // TLS 1.3 lets a client finish before its certificate is looked at.
    expect(await kind({ tls: readClientCertificates(pki.anonymous) })).toMatch(/^io: /)
    expect(
      await kind({ tls: { ...readClientCertificates(pki.client), ...readClientCertificates(pki.stranger) } }),
    ).toBe("denied: The certificate hasn't got a known issuer")
    expect(await kind({ tls: { ...readClientCertificates(pki.client), hostname: 'elsewhere' } })).toBe(
      'denied: Certificate does not match the hostname elsewhere',
    )
    expect(await kind({ tls: { ...readClientCertificates(pki.client), nameless: true } })).toBe(
      'denied: No hostname for certificate validation',
    )
    expect(await kind({ tls: { ...readClientCertificates(pki.client), verifyPeer: false, hostname: 'x' } })).toBe(
      'opened',
    )
    await server.stop()
  })

  it('certificates that are not there are named', async () => {
    await expect(
      openNbd(`nbds+unix:///?socket=/nowhere&tls-certificates=${join(pki.server, 'x')}`),
    ).rejects.toMatchObject({
      kind: 'missing',
      reason: expect.stringContaining('ca-cert.pem'),
    })
  })

  it('with keys that both sides know', async () => {
    const { file, bytes } = freshRaw()
    const keys = folder.file('psk')
    const key = Buffer.alloc(32, 7)
    const { mkdirSync } = await import('node:fs')
    mkdirSync(keys, { recursive: true })
    writeFileSync(join(keys, 'keys.psk'), `qemu:${key.toString('hex')}\n`)
    const creds = `tls-creds-psk,id=t,endpoint=server,dir=${keys}`
    const server = await qemuNbd(folder.fresh('.sock'), file, 'raw', '--object', creds, '--tls-creds', 't')
    const wrong = openNbd(server.uri, { tls: { psk: { identity: 'qemu', key: Buffer.alloc(32, 8) } } })
    await expect(wrong).rejects.toThrow(/TLS handshake failed/)
    await using(server, { tls: { psk: { identity: 'qemu', key } } }, async (store) => {
      expect((await wholeOf(store)).equals(bytes)).toBe(true)
    })
  })
})

describeWith(['nbdkit'], 'many requests at once', () => {
  it(
    'are answered in any order, each with its own data',
    async () => {
      const { file, bytes } = freshRaw()
      const random = new Random(seed('nbd in flight'))
      const server = await nbdkit(folder.fresh('.sock'), '-t', '8', '--filter=delay', 'file', file, 'rdelay=1ms')
      await using(server, { connections: 3 }, async (store) => {
        const end = Date.now() + budget(1000)
        do {
          await Promise.all(
            Array.from({ length: 60 }, async () => {
              const at = random.int(0, size - 1)
              const into = Buffer.alloc(random.int(0, Math.min(200_000, size - at)))
              await store.read(at, into)
              expect(into.equals(bytes.subarray(at, at + into.length))).toBe(true)
            }),
          )
        } while (Date.now() < end)
      })
    },
    timeFor(1000),
  )
})

/** Passes the first connection on, and leaves all others without an answer. */
async function onlyFirst(behind: ForeignServer): Promise<ForeignServer> {
  const socket = folder.fresh('.sock')
  const waiting: Socket[] = []
  let isFirst = true
  const server = createServer((client) => {
    client.on('error', () => {})
    if (isFirst)
      client
        .pipe(connect(behind.socket))
        .on('error', () => {})
        .pipe(client)
    else waiting.push(client)
    isFirst = false
  })
  await new Promise<void>((resolve) => server.listen(socket, resolve))
  const stop = async () => {
    for (const client of waiting) client.destroy()
    server.close()
    await behind.stop()
    expect(waiting.length, 'connections that were left waiting').toBeGreaterThan(0)
  }
  return { ...behind, uri: `nbd+unix:///?socket=${socket}`, socket, stop }
}

describeWith(['qemu-nbd'], 'a server that says nothing to a second client', () => {
  it('holds up neither the reading nor the end', async () => {
    const { file, bytes } = freshRaw()
    const server = await onlyFirst(await qemuNbd(folder.fresh('.sock'), file, 'raw', '-r'))
    const began = performance.now()
    await using(server, { connections: 4, timeout: 60_000 }, async (store) => {
      const piece = 1 << 20
      const pieces = Array.from({ length: 9 }, () => Buffer.alloc(piece))
      await Promise.all(pieces.map((into, at) => store.read(at * piece, into)))
      expect(Buffer.concat(pieces).equals(bytes)).toBe(true)
    })
    expect(performance.now() - began).toBeLessThan(30_000)
  })
})
