/** The image service: speaks the OpenStack Image API v2. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { MoraineError } from '@moraine/engine'
import { destination, type Logger, pino } from 'pino'
import { createApp } from './app.ts'
import { openCatalog } from './catalog/open.ts'
import { type Config, type ConfigInput, readConfig } from './config.ts'
import { RunningWork } from './running-work.ts'
import type { Service } from './service.ts'
import { StorageBudget } from './store/budget.ts'
import { openFolderStore } from './store/folder.ts'
import { HashThreads } from './store/hashing.ts'

export { type Config, type ConfigInput, settings, variableOf } from './config.ts'

const listenErrors: Readonly<Record<string, string>> = {
  EADDRINUSE: 'something else listens there already',
  EACCES: 'permission denied',
  EADDRNOTAVAIL: 'the address is not of this machine',
}

/** A running service. */
export interface RunningService {
  /** Where it listens, as in `http://127.0.0.1:9292`. */
  readonly url: string
  /** The data folder. */
  readonly data: string
  /** Stops taking requests, gives running ones `shutdownSeconds`, then cuts them off; uploads cut off go back to `queued`. Resolves when nothing is
   *  left; calling it twice is one stop. */
  close(): Promise<void>
}

/** Starts the service. What `options` leaves open comes from the environment (`MORAINE_HOST` and so on), then from the table of settings.
 *  @throws MoraineError `invalid` for a setting that cannot be used, `denied` for an address other than loopback without `allowRemote`, `locked` when
 *  another process holds the data folder, `io` when the address cannot be listened on. */
export async function serve(options: ConfigInput = {}): Promise<RunningService> {
  const config = readConfig(options, process.env)
  // Standard error: standard output is for the one line that says where the service is.
  const log = pino({ level: config.logLevel }, destination({ dest: 2, sync: true }))
  const service = await openService(config, log)
  const app = createApp(service, log)
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
  let stopped: Promise<void> | undefined
  const stop = async () => {
    const cut = setTimeout(() => app.server.closeAllConnections(), config.shutdownSeconds * 1000)
    await app.close()
    clearTimeout(cut)
    await closeService(service)
  }
  return {
    url: `http://${host}:${port}`,
    data: config.data,
    close() {
      stopped ??= stop()
      return stopped
    },
  }
}

/** Opens what is behind the routes, and clears away what an earlier process left unfinished. */
async function openService(config: Config, log: Logger): Promise<Service> {
  await mkdir(config.data, { recursive: true, mode: 0o700 })
  const catalog = await openCatalog(config.data)
  try {
    const store = await openFolderStore(join(config.data, 'store'))
    const images = await catalog.resetInterrupted()
    const files = await store.sweep((keys) => catalog.knownData(keys))
    if (images > 0 || files.length > 0) log.warn({ images, files }, 'cleared away uploads that were cut off')
    const budget = new StorageBudget(config.storageQuota, await catalog.totalSize())
    return { config, catalog, store, hashes: new HashThreads(), budget, uploads: new RunningWork() }
  } catch (error) {
    await catalog.close()
    throw error
  }
}

async function closeService({ uploads, hashes, catalog }: Service): Promise<void> {
  await uploads.settled()
  await hashes.close()
  await catalog.close()
}
