/** Starts and ends what is behind the HTTP side. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { isMoraineError } from '@moraine/engine'
import type { Logger } from 'pino'
import { ImageSchemas } from './api/images/image-schemas.ts'
import { FileCache } from './cache/file-cache.ts'
import { ImageCache } from './cache/image-cache.ts'
import { openCatalog } from './catalog/open.ts'
import type { Upload } from './catalog/work.ts'
import type { Config } from './config.ts'
import { openIdentity } from './identity/open.ts'
import { CallerTokens } from './import/caller-tokens.ts'
import { explainFailure } from './import/explain.ts'
import { importHandler } from './import/import-image.ts'
import { legacyImportHandler } from './import/legacy.ts'
import { locationHandler } from './import/location.ts'
import { taskAuditLine } from './operate/audit.ts'
import { wasRestored } from './operate/upkeep.ts'
import { readPolicy } from './policy/policy.ts'
import { readProtections } from './policy/protections.ts'
import { Quotas } from './quota/quotas.ts'
import { RunningWork } from './running-work.ts'
import type { Service } from './service.ts'
import { openSignatures } from './signature/open.ts'
import { HashThreads } from './store/hashing.ts'
import { httpStore } from './store/http.ts'
import { openStores } from './store/open-stores.ts'
import { type Stores, stagingStore } from './store/stores.ts'
import { Schedule } from './sync/schedule.ts'
import { readSources } from './sync/sources.ts'
import { TaskRunner } from './task/runner.ts'
import { Worker } from './task/worker.ts'
import { WebClient } from './web/client.ts'
import { WebGate } from './web/gate.ts'

/** Opens what is behind the routes, and clears away what processes left unfinished that are not there any more.
 *  @param auditLog Absent: audit lines are part of the log. */
export async function openService(
  config: Config,
  log: Pick<Logger, 'info' | 'warn' | 'error'>,
  auditLog?: Pick<Logger, 'info'>,
): Promise<Service> {
  const policy = readPolicy(config.policyFile)
  const protections = readProtections(config.propertyProtectionFile, config.propertyProtectionFormat, policy)
  const schemas = new ImageSchemas(config)
  const sources = readSources(config)
  await mkdir(config.data, { recursive: true, mode: 0o700 })
  const catalog = await openCatalog(config.data)
  try {
    const identity = await openIdentity(config, catalog)
    const web = new WebClient(new WebGate(config), config)
    const stores = await openStores(config.data, config.stores, config.storeSeconds, () =>
      httpStore(web, config.importIdleSeconds),
    )
    const onUploads = async (uploads: readonly Upload[]) => {
      if (uploads.length === 0) return
      log.warn({ uploads: uploads.map(({ key }) => key) }, 'clearing away uploads that were cut off')
      await stores.remove(uploads, ({ store, key }, error) =>
        log.error({ err: error, store, key }, 'what is left of an upload cannot be removed'),
      )
    }
    const worker = new Worker(catalog.work, onUploads, (error) =>
      log.error({ err: error }, 'the catalog does not answer'),
    )
    await worker.start()
    const clearForgotten = async () => onUploads(await catalog.work.closeForgotten())
    await clearForgotten()
    const isRestored = wasRestored(config)
    if (isRestored)
      log.warn(
        'the catalog was restored: data that no image owns is kept until `moraine serve doctor --repair` has looked',
      )
    const removed = isRestored ? [] : await sweep(stores, catalog.work.knownData.bind(catalog.work))
    if (removed.length > 0) log.warn({ files: removed }, 'removed data that belongs to no image')
    const quotas = new Quotas(config, identity, catalog.usages)
    const hashes = new HashThreads()
    const signatures = openSignatures(config, identity, (error) =>
      log.error({ err: error }, 'a certificate cannot be asked for'),
    )
    const uploads = new RunningWork()
    const exports = await FileCache.open(join(config.data, 'exports'), config.exportCacheSize)
    const files = await FileCache.open(join(config.data, 'cache'), config.imageCacheSize)
    const imageCache = new ImageCache(files, catalog, stores, uploads, (image, error) =>
      log.error({ err: error, image }, 'no copy of the image could be made'),
    )
    const callerTokens = new CallerTokens()
    const { requestRate, requestBurst } = config
    const requestLimits =
      requestRate === 0
        ? undefined
        : new (await import('./operate/request-limits.ts')).RequestLimits(requestRate, requestBurst)
    const audit = (line: object) => (auditLog === undefined ? log.info(line, 'audit') : auditLog.info(line))
    const data = {
      stores,
      hashes,
      signatures,
      quotas,
      uploads,
      web,
      exports,
      imageCache,
      callerTokens,
      requestLimits,
      audit,
    }
    const parts = { config, identity, policy, protections, schemas, catalog, worker, ...data }
    const tasks = new TaskRunner({
      tasks: catalog.work.tasks,
      workerId: worker.id,
      handlers: {
        api_image_import: (run) => importHandler(service, log)(run),
        location_import: (run) => locationHandler(service, log)(run),
        import: (run) => legacyImportHandler(service, log)(run),
        catalogue_sync: async (run) => (await import('./sync/sync.ts')).syncHandler(service, log)(run),
      },
      limit: config.taskLimit,
      keepSeconds: config.taskHours * 3600,
      onLook: () => callerTokens.sweep(catalog.work.tasks),
      onEnd: async (task, end) => {
        callerTokens.drop(task.id)
        if (end !== undefined) audit(taskAuditLine(task, end))
        // It was kept for a task that goes on elsewhere; or that is over, as when its image was deleted.
        else await clearForgotten()
      },
      explain: (error, task) =>
        task.type === 'catalogue_sync' && isMoraineError(error) ? error.message : explainFailure(error),
      log,
    })
    const schedule = new Schedule({
      sources,
      tasks: catalog.work.tasks,
      kick: () => tasks.kick(),
      onError: (error) => log.error({ err: error }, 'catalogues cannot be looked after'),
    })
    const service: Service = { ...parts, tasks, schedule }
    tasks.start()
    schedule.start()
    imageCache.fill()
    return service
  } catch (error) {
    await catalog.close()
    throw error
  }
}

async function sweep(
  stores: Stores,
  known: (store: string, keys: readonly string[]) => Promise<Set<string>>,
): Promise<string[]> {
  const removed = await stores.staging.sweep((keys) => known(stagingStore, keys))
  for (const { id, data, readOnly } of stores.all) {
    if (!readOnly) removed.push(...(await data.sweep((keys) => known(id, keys))))
  }
  return removed
}

/** Waits for running uploads, gives back running tasks, then closes everything. */
export async function closeService(service: Service): Promise<void> {
  const { imageCache, uploads, tasks, schedule, worker, web, hashes, identity, catalog } = service
  imageCache.stop()
  await schedule.stop()
  await uploads.settled()
  try {
    await tasks.stop()
    await worker.stop()
  } finally {
    // What could not be written any more, for want of room, the next start sees to.
    await web.close()
    await hashes.close()
    await identity.close()
    await catalog.close()
  }
}
