/** Clients that are slow, stall or go away: their time is bounded, and nothing of them stays. */
import { readdirSync } from 'node:fs'
import { connect } from 'node:net'
import { describe, expect, it } from 'vitest'
import { ask, createImage, services, showImage, upload } from './support/service.ts'

const start = services()

/** Sends the beginning of a request and then nothing; the milliseconds until the service ends the connection, and what it said. */
function stall(url: string, text: string, reads = true): Promise<{ milliseconds: number; said: string }> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(url)
    const begun = performance.now()
    const socket = connect(Number(port), hostname, () => socket.write(text))
    let said = ''
    if (reads) socket.on('data', (part) => (said += part.toString('latin1')))
    else socket.pause()
    const end = () => resolve({ milliseconds: performance.now() - begun, said })
    socket.on('close', end).on('end', end).on('error', end)
    setTimeout(() => {
      socket.destroy()
      reject(new Error('the service waits on'))
    }, 15_000).unref()
  })
}

const openFiles = () => readdirSync('/proc/self/fd').length

describe.skipIf(process.platform !== 'linux')('a client that', () => {
  it('sends half a document is not waited for', async () => {
    const { url } = await start({ requestSeconds: 1 })
    const { milliseconds } = await stall(
      url,
      'POST /v2/images HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{"name":',
    )
    expect(milliseconds).toBeGreaterThan(900)
    expect((await ask(`${url}/v2/images`)).json<{ images: unknown[] }>().images).toEqual([])
  })

  it('takes nothing of a download is given up, and its file is closed', async () => {
    const { url } = await start({ downloadIdleSeconds: 1 })
    const id = await createImage(url)
    await upload(url, id, Buffer.alloc(48 * 1024 * 1024, 7))
    const before = openFiles()
    const stalled = [1, 2, 3].map(() =>
      stall(url, `GET /v2/images/${id}/file HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`, false),
    )
    // Their ends see nothing, as they do not read; what the service holds for them is what counts.
    await expect.poll(openFiles, { timeout: 3000 }).toBeGreaterThan(before + 3)
    for (const one of stalled) one.catch(() => {})
    await expect.poll(openFiles, { timeout: 10_000 }).toBeLessThanOrEqual(before + 3)
    expect((await ask(`${url}/v2/images/${id}/file`, 'GET', undefined, { range: 'bytes=0-9' })).status).toBe(206)
  })

  it('stops in the middle of an upload is given up, and leaves nothing', async () => {
    const subject = await start({ uploadIdleSeconds: 1 })
    const id = await createImage(subject.url)
    const head = `PUT /v2/images/${id}/file HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/octet-stream\r\nContent-Length: 1000000\r\n\r\n`
    await stall(subject.url, `${head}some data`)
    await expect.poll(async () => (await showImage(subject.url, id)).status).toBe('queued')
    expect(readdirSync(`${subject.data}/store/uploads`)).toEqual([])
    expect((await upload(subject.url, id, Buffer.from('again'))).status).toBe(204)
  })
})
