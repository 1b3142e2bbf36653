/** Brings data into one store for a task: all of it and known to the catalog, or nothing. */
import type { Image, Location } from '../catalog/image.ts'
import type { Service } from '../service.ts'
import { StoreError, type StoreUpload } from '../store/store.ts'
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
  /** Fills the upload. */
  fill(upload: StoreUpload, onBytes: (length: number) => Promise<void> | undefined): Promise<Facts>
  /** The image with the data. May throw to forbid it. */
  apply(image: Image, location: Location, facts: Facts): Image
}

/** @throws ImportLost when the image is gone; what `fill` and `apply` throw. */
export async function putData<Facts>(put: Put<Facts>): Promise<Image> {
  const { service, imageId, store, expected } = put
  const { catalog, stores, worker, quotas } = service
  const key = newKey(imageId)
  let upload: StoreUpload | undefined
  await catalog.work.openUpload({ key, store, imageId, workerId: worker.id, kind: 'import' })
  try {
    if (stores.get(store)?.readOnly) throw new StoreError('read-only', `store ${store} is read-only`)
    const image = await catalog.get(imageId)
    const reservation = put.counts ? await quotas.reserve(key, image?.owner ?? null) : undefined
    await reservation?.expect(expected ?? 0)
    upload = await stores.dataOf(store).begin(key, expected)
    const facts = await put.fill(upload, (length) => reservation?.take(length))
    await upload.commit()
    const location: Location = { store, key, status: 'active', metadata: {} }
    const after = await catalog.update(imageId, (image) => put.apply(image, location, facts), { closes: key })
    if (after === undefined) throw new ImportLost('the image was deleted')
    return after
  } catch (error) {
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
