/** What a server does with its clients: those that wait, those that are left behind, and those that lie. */
import { existsSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { MemoryStore, openDisk, raw } from '@moraine/engine'
import { describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { run } from '../../engine/test/support/process.ts'
import { type NbdStore, openNbd, serveNbd } from '../src/index.ts'
import { content, memoryDisk, served, size } from './support/served.ts'

const folder = temporaryFolder()

describe('a server', () => {
  it('lets clients wait for their turn, and those that are too many go', async () => {
    const { uri, counts, close } = await served(folder, await memoryDisk(content(size)), { clients: 1 })
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
    const { uri, close } = await served(folder, disk)
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
    const first = await served(folder, disk)
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
    const { uri, close } = await served(folder, disk, { listen: { path } })
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
    const { uri, close } = await served(folder, await memoryDisk(content(size)), { clients: 2, timeout: 300 })
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
    const { uri, close } = await served(folder, await memoryDisk(content(size)), { timeout: 300 })
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
    const { uri, close } = await served(folder, await memoryDisk(content(size)))
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
