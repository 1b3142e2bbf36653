/** The server and the clients of others: nbdinfo, nbdcopy, qemu-img, qemu-io; and our own, both ends at once. */
import { writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { faultySource, MemoryStore, openDisk, raw } from '@moraine/engine'
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
import { openNbd, readClientCertificates, readServerCertificates, serveNbd } from '../src/index.ts'
import { makeCertificates } from './support/certificates.ts'
import { churn } from './support/churn.ts'
import { extentsOf } from './support/hostile.ts'
import { content, memoryDisk, served, size } from './support/served.ts'

const folder = temporaryFolder()

describeWith(['nbdinfo', 'nbdcopy', 'qemu-img', 'qemu-io'], 'clients of others', () => {
  it('see the export as it is', async () => {
    const { uri, warnings, close } = await served(folder, await memoryDisk(content(size)), {
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
    const { uri, close } = await served(folder, await openWritable(file, 'qcow2'), { allocationDepth: true })
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
      const { uri, close } = await served(folder, await openWritable(file, format))
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
    const { uri, close } = await served(folder, await memoryDisk(new Uint8Array(size * 2)))
    await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', source, uri)
    expect((await tryQemuImg(['check', '-f', 'qcow2', uri])).code).toBe(0)
    const back = folder.fresh('.raw')
    await qemuImg('convert', '-f', 'qcow2', '-O', 'raw', uri, back)
    expect(await fileSha(back)).toBe(await fileSha(source))
    await close()
  })

  it('may not write what is read-only', async () => {
    const { uri, close } = await served(folder, await memoryDisk(content(size)), { readOnly: true })
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
    const { uri, close } = await served(folder, await memoryDisk(bytes), {
      tls,
      listen: { host: '127.0.0.1', port: 0 },
    })
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
    const { uri, close } = await served(folder, await memoryDisk(content(size)), { tls: { ...tls, mode: 'allow' } })
    await (await openNbd(uri.replace('nbds', 'nbd'))).close()
    await (await openNbd(uri, { tls: readClientCertificates(pki.anonymous) })).close()
    await close()
  })
})

describe('both ends', () => {
  it(
    'keep what is written, over one connection or several, whatever the format',
    async () => {
      const random = new Random(seed('nbd both ends'))
      const end = Date.now() + budget(2500)
      for (let round = 0; round < 3 || Date.now() < end; round++) {
        const format = random.pick(['raw', 'qcow2', 'vhdx'])
        const file = folder.fresh(`.${format}`)
        await qemuImg('create', '-q', '-f', format, file, String(size))
        const { uri, close } = await served(folder, await openWritable(file, format))
        const store = await openNbd(uri, { mode: 'write', connections: random.int(1, 4) })
        const model = Buffer.alloc(size)
        for (let i = 0; i < 6; i++) {
          await churn(store, model, random)
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
    const { uri, close } = await served(folder, disk)
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
