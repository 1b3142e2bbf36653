/** Starts and ends what is behind the HTTP side. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { openCatalog } from './catalog/open.ts'
import type { Config } from './config.ts'
import { openIdentity } from './identity/open.ts'
import { readPolicy } from './policy/policy.ts'
import { RunningWork } from './running-work.ts'
import type { Service } from './service.ts'
import { StorageBudget } from './store/budget.ts'
import { openFolderStore } from './store/folder.ts'
import { HashThreads } from './store/hashing.ts'

/** Opens what is behind the routes, and clears away what an earlier process left unfinished. */
export async function openService(config: Config, log: Pick<Logger, 'warn'>): Promise<Service> {
  const policy = readPolicy(config.policyFile)
  await mkdir(config.data, { recursive: true, mode: 0o700 })
  const catalog = await openCatalog(config.data)
  try {
    const store = await openFolderStore(join(config.data, 'store'))
    const images = await catalog.resetInterrupted()
    const files = await store.sweep((keys) => catalog.knownData(keys))
    if (images > 0 || files.length > 0) log.warn({ images, files }, 'cleared away uploads that were cut off')
    const budget = new StorageBudget(config.storageQuota, await catalog.totalSize())
    const hashes = new HashThreads()
    return {
      config,
      identity: openIdentity(config),
      policy,
      catalog,
      store,
      hashes,
      budget,
      uploads: new RunningWork(),
    }
  } catch (error) {
    await catalog.close()
    throw error
  }
}

/** Waits for running uploads, then closes everything. */
export async function closeService({ uploads, hashes, identity, catalog }: Service): Promise<void> {
  await uploads.settled()
  await hashes.close()
  await identity.close()
  await catalog.close()
}
