/** Ends with 0 when the service in the same container is ready. Whether it speaks TLS is its own affair, and its certificate is that of another name. */
import http from 'node:http'
import https from 'node:https'

const { MORAINE_PORT: port = '9292', MORAINE_TLS_CERTIFICATE: certificate = '' } = process.env
const ask = (module) =>
  new Promise((resolve) => {
    const options = { host: '127.0.0.1', port, path: '/readyz', timeout: 4000, rejectUnauthorized: false }
    module
      .get(options, (response) => resolve(response.resume().statusCode === 200))
      .on('error', () => resolve(false))
      .on('timeout', () => resolve(false))
  })
const ways = certificate === '' ? [http, https] : [https, http]
process.exit((await ask(ways[0])) || (await ask(ways[1])) ? 0 : 1)
