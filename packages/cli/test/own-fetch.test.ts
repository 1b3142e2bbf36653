/** The client behind images at addresses, where servers answer as none should. */
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { afterEach, expect, it } from 'vitest'
import { ownFetch } from '../src/blockdev/own-fetch.ts'

let server: Server
afterEach(() => server.close())

/** The address of a server that says this to everybody. */
async function saying(...texts: string[]): Promise<string> {
  server = createServer((socket) => socket.on('error', () => {}).once('data', () => socket.end(texts.shift() ?? '')))
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/image`
}

it.each([600, 999])('says so when the status is %i', async (status) => {
  const url = await saying(`HTTP/1.1 ${status} Odd\r\ncontent-length: 4\r\n\r\nbody`)
  await expect(ownFetch()(url)).rejects.toMatchObject({
    message: 'fetch failed',
    cause: { message: `the server answered with the status ${status}` },
  })
})

it('gives up after twenty redirects', async () => {
  const again = 'HTTP/1.1 302 Found\r\nlocation: /image\r\nconnection: close\r\ncontent-length: 0\r\n\r\n'
  const url = await saying(...Array.from({ length: 30 }, () => again))
  await expect(ownFetch()(url)).rejects.toMatchObject({ cause: { message: 'too many redirects' } })
})
