/** How the image client reaches a service: certificates and proxies. */
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, type RequestListener, request } from 'node:http'
import { createServer as createSecureServer, type Server } from 'node:https'
import { type AddressInfo, connect } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { temporaryFolder } from '../../../engine/test/support/folder.ts'
import { describeWith, runOk } from '../../../engine/test/support/process.ts'
import { imageCommand } from './support/command.ts'

const folder = temporaryFolder()
const answer: RequestListener = (_request, response) => {
  response.setHeader('content-type', 'application/json').end('{"images": []}')
}

describeWith(['openssl'], 'a service', () => {
  let cert: string
  let key: string
  let server: Server
  let url: string
  /** Names of those who showed a certificate. */
  const shown: string[] = []
  /** What the proxy was asked for. */
  const asked: string[] = []
  const proxy = createServer((given, response) => {
    asked.push(`${given.method} ${given.url}`)
    given.pipe(
      request(given.url ?? '', { method: given.method, headers: given.headers }, (from) =>
        from.pipe(response.writeHead(from.statusCode ?? 0, from.headers)),
      ),
    )
  })
  proxy.on('connect', (given, socket) => {
    asked.push(`CONNECT ${given.url}`)
    const [host = '', port = ''] = (given.url ?? '').split(':')
    const onward = connect(Number(port), host, () => {
      socket.write('HTTP/1.1 200 Connected\r\n\r\n')
      socket.pipe(onward).pipe(socket)
    })
    socket.on('error', () => onward.destroy())
    onward.on('error', () => socket.destroy())
  })
  const plain = createServer(answer)
  const listen = async (one: { listen(port: number, host: string, done: () => void): unknown; address(): unknown }) => {
    await new Promise<void>((resolve) => one.listen(0, '127.0.0.1', resolve))
    return `127.0.0.1:${(one.address() as AddressInfo).port}`
  }
  beforeAll(async () => {
    cert = folder.file('cert.pem')
    key = folder.file('key.pem')
    const names = ['-subj', '/CN=caller', '-addext', 'subjectAltName=IP:127.0.0.1', '-days', '2', '-nodes']
    await runOk('openssl', [
      'req',
      '-x509',
      ...names,
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-keyout',
      key,
      '-out',
      cert,
    ])
    const [own, secret] = [readFileSync(cert), readFileSync(key)]
    server = createSecureServer(
      { cert: own, key: secret, ca: own, requestCert: true, rejectUnauthorized: false },
      (given, response) => {
        shown.push(String((given.socket as TLSSocket).getPeerCertificate().subject?.CN))
        answer(given, response)
      },
    )
    url = `https://${await listen(server)}`
  })
  afterAll(() => {
    for (const one of [server, proxy, plain]) one?.close().closeAllConnections()
  })
  const list = (...args: string[]) => imageCommand(folder).run('list', '--output=json', ...args)

  it('is believed by its certificate only, unless told otherwise', async () => {
    const stranger = await list('--os-endpoint', url)
    expect([stranger.code, stranger.stderr]).toEqual([
      1,
      expect.stringMatching(
        /connection to https:.* failed: .*\nThe right certificates can be given with --os-cacert FILE\.\n$/,
      ),
    ])
    expect((await list('--os-endpoint', url, '--os-cacert', cert)).stdout).toBe('[]\n')
    expect((await list('--os-endpoint', url, '--insecure')).stdout).toBe('[]\n')
    const command = imageCommand(folder)
    writeFileSync(
      `${command.cwd}/clouds.yaml`,
      `clouds: {home: {auth_type: none, auth: {endpoint: "${url}"}, verify: false}}`,
    )
    expect(await command.json('list')).toEqual([])
    const absent = await list('--os-endpoint', url, '--os-cacert', '/nowhere.pem')
    expect(absent.stderr).toBe('moraine: cacert: /nowhere.pem cannot be read: ENOENT\n')
  })

  it("is shown the caller's certificate", async () => {
    shown.length = 0
    await list('--os-endpoint', url, '--os-cacert', cert, '--os-cert', cert, '--os-key', key)
    expect(shown).toEqual(['caller'])
  })

  it('is reached by the proxy that the environment names', async () => {
    const [through, at] = [await listen(proxy), await listen(plain)]
    const command = imageCommand(folder, { http_proxy: `http://${through}`, https_proxy: `http://${through}` })
    expect(await command.json('list', '--os-endpoint', `http://${at}`)).toEqual([])
    expect(asked).toEqual([`GET http://${at}/v2/images?limit=1000`])
    expect(await command.json('list', '--os-endpoint', url, '--os-cacert', cert)).toEqual([])
    expect(asked[1]).toBe(`CONNECT ${new URL(url).host}`)
    command.env.no_proxy = '127.0.0.1'
    expect(await command.json('list', '--os-endpoint', `http://${at}`)).toEqual([])
    expect(asked).toHaveLength(2)
  })
})
