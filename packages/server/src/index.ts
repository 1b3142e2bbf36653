/** The image service: speaks the OpenStack Image API v2. */
import { MoraineError } from '@moraine/engine'
import { destination, pino } from 'pino'
import { createApp } from './app.ts'
import { type Config, type ConfigInput, readConfig } from './config.ts'
import { LocalIdentity } from './identity/local.ts'
import { closeService, openService } from './open-service.ts'
import { openAudit } from './operate/audit.ts'
import { type Certificate, readCertificate } from './operate/tls.ts'

export { type Config, type ConfigInput, settings, variableOf } from './config.ts'

const listenErrors: Readonly<Record<string, string>> = {
  EADDRINUSE: 'something else listens there already',
  EACCES: 'permission denied',
  EADDRNOTAVAIL: 'the address is not of this machine',
}

/** Addresses that stand for every one of the machine, and the one under which it reaches itself then. */
const everyAddress: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '[::]': '[::1]' }

/** A running service. */
export interface RunningService {
  /** Where it listens, as in `http://127.0.0.1:9292`. */
  readonly url: string
  /** The URL that clients on this machine are given: `publicUrl`, or where it listens, with loopback for "every address". */
  readonly endpoint: string
  /** The data folder. */
  readonly data: string
  /** Who says who is calling. */
  readonly auth: Config['auth']
  /** Where the password of the account admin was written, when this start made it up. */
  readonly adminPasswordFile: string | undefined
  /** Reads the certificate again; new connections get it. @throws MoraineError `missing` or `invalid`; the old one stays then. */
  reload(): void
  /** Stops taking requests, gives running ones `shutdownSeconds`, then cuts them off; uploads cut off go back to `queued`. Resolves when nothing is
   *  left; calling it twice is one stop. */
  close(): Promise<void>
}

/** Starts the service. What `options` leaves open comes from the environment (`MORAINE_HOST` and so on), then from the table of settings.
 *  @throws MoraineError `invalid` for a setting that cannot be used, `denied` for an address other than loopback without `allowRemote`, `locked` when
 *  another process holds the data folder, `io` when the address cannot be listened on. */
export async function serve(options: ConfigInput = {}): Promise<RunningService> {
  const config = readConfig(options, process.env)
  // Standard error: standard output is for what people read.
  const log = pino({ level: config.logLevel }, destination({ dest: 2, sync: true }))
  const certificate = readCertificate(config)
  const audit = openAudit(config)
  const service = await openService(config, log, audit)
  const readiness = { isStopping: false }
  const app = createApp(service, log, { certificate, audit, readiness })
  try {
    await app.listen({ host: config.host, port: config.port })
  } catch (error) {
    await closeService(service)
    const { code } = error as NodeJS.ErrnoException
    const reason = `cannot listen on ${config.host} port ${config.port}: ${listenErrors[code ?? ''] ?? (error as Error).message}`
    throw new MoraineError('io', reason, { code, cause: error })
  }
  const address = app.server.address()
  const port = typeof address === 'object' && address !== null ? address.port : config.port
  const host = config.host.includes(':') ? `[${config.host.replace(/^\[|\]$/g, '')}]` : config.host
  const scheme = certificate === undefined ? 'http' : 'https'
  let stopped: Promise<void> | undefined
  const stop = async () => {
    readiness.isStopping = true
    const cut = setTimeout(() => app.server.closeAllConnections(), config.shutdownSeconds * 1000)
    await app.close()
    clearTimeout(cut)
    await closeService(service)
  }
  return {
    url: `${scheme}://${host}:${port}`,
    endpoint: config.publicUrl === '' ? `${scheme}://${everyAddress[host] ?? host}:${port}` : config.publicUrl,
    data: config.data,
    auth: config.auth,
    adminPasswordFile: service.identity instanceof LocalIdentity ? service.identity.passwordFile : undefined,
    reload() {
      const renewed = readCertificate(config)
      if (renewed === undefined) return
      const server = app.server as unknown as { setSecureContext(options: Certificate): void }
      server.setSecureContext(renewed)
      log.info({ file: config.tlsCertificate }, 'the certificate was read again')
    },
    close() {
      stopped ??= stop()
      return stopped
    },
  }
}
