/** Brings data into one store for a task: all of it and known to the catalog, or nothing; or, where a task goes on later, as much as came. */
import type { Image, Location } from '../catalog/image.ts'
import type { Service } from '../service.ts'
import { StoreError, type StoreUpload } from '../store/store.ts'
import type { FileVersion } from '../web/download.ts'
import { Keeper } from './keeper.ts'
import { ImportLost } from './lock.ts'
import { newKey } from './new-key.ts'

export interface Put<Facts> {
  service: Service
  imageId: string
  store: string
  /** Bytes that will come, where that is known. */
  expected: number | undefined
  /** Whether the data counts for quotas: what is staged on the way does not. */
  counts: boolean
  /** The task that goes on with what is there when it runs again. */
  keeps?: { taskId: string; isStopped(): boolean } | undefined
  /** Fills the upload. @param keeper Where the task goes on with it: what was stored by an earlier run, and who is told of the rest. */
  fill(
    upload: StoreUpload,
    onBytes: (length: number) => Promise<void> | undefined,
    keeper: Keeper | undefined,
  ): Promise<Facts>
  /** The image with the data. May throw to forbid it. */
  apply(image: Image, location: Location, facts: Facts): Image
}

/** @throws ImportLost when the image is gone; what `fill` and `apply` throw. */
export async function putData<Facts>(put: Put<Facts>): Promise<Image> {
  const { service, imageId, store, expected, keeps } = put
  const { catalog, stores, worker, quotas } = service
  const key = newKey(imageId)
  const kept = keeps && (await takeKept(put, keeps.taskId, key))
  let upload: StoreUpload | undefined = kept?.upload
  if (kept === undefined) {
    const opened = { key, store, imageId, workerId: worker.id, kind: 'import' as const, taskId: keeps?.taskId }
    await catalog.work.openUpload(opened)
  }
  let keeper: Keeper | undefined
  try {
    if (stores.get(store)?.readOnly) throw new StoreError('read-only', `store ${store} is read-only`)
    const image = await catalog.get(imageId)
    const reservation = put.counts ? await quotas.reserve(key, image?.owner ?? null) : undefined
    await reservation?.expect(expected ?? 0)
    const target = upload ?? (await stores.dataOf(store).begin(key, expected))
    upload = target
    if (keeps !== undefined && target.suspend !== undefined) {
      keeper = new Keeper(catalog.work, key, target, kept?.from)
    }
    const facts = await put.fill(target, (length) => reservation?.take(length), keeper)
    await target.commit()
    const location: Location = { store, key, status: 'active', metadata: {} }
    const after = await catalog.update(imageId, (image) => put.apply(image, location, facts), { closes: key })
    if (after === undefined) throw new ImportLost('the image was deleted')
    return after
  } catch (error) {
    if (keeps?.isStopped() && (await keeper?.suspend().catch(() => false))) throw error
    // What cannot be taken back now is swept away later.
    await upload?.abort().catch(() => {})
    await catalog.work.closeUpload(key)
    if (!(await catalog.work.knownData(store, [key])).has(key)) {
      await stores
        .dataOf(store)
        .remove(key)
        .catch(() => {})
    }
    throw error
  }
}

interface Kept {
  upload: StoreUpload
  from: { at: number; version: FileVersion }
}

/** What an earlier run of the task has left in the store. What is left elsewhere, or cannot be read any more, is dropped. @param key The upload's from now on. */
async function takeKept(
  { service: { catalog, stores, worker }, store, imageId }: Pick<Put<unknown>, 'service' | 'store' | 'imageId'>,
  taskId: string,
  key: string,
): Promise<Kept | undefined> {
  const kept = await catalog.work.takeKept(taskId, worker.id, key)
  if (kept === undefined) return undefined
  const { received: at, version } = kept
  try {
    const data = stores.dataOf(kept.store)
    if (kept.store === store && kept.imageId === imageId && at > 0) {
      const upload = await data.resume?.(kept.key, at, key)
      if (upload !== undefined) return { upload, from: { at, version: version as FileVersion } }
    }
    await data.remove(kept.key)
  } catch {
    // Without its row nobody counts on it: it is swept away later.
  }
  await catalog.work.closeUpload(key)
  return undefined
}

/** Drops what earlier runs of a task have left. */
export async function dropKept({ catalog, stores, worker }: Service, taskId: string, imageId: string): Promise<void> {
  const key = newKey(imageId)
  const kept = await catalog.work.takeKept(taskId, worker.id, key)
  if (kept === undefined) return
  await catalog.work.closeUpload(key)
  await stores.remove([kept], () => {})
}
