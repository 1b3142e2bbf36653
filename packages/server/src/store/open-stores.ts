/** Opens the stores that the settings name. */
import { join } from 'node:path'
import { openFolderStore } from './folder.ts'
import { onlyStore, readStores } from './settings.ts'
import type { ImageStore } from './store.ts'
import { type Store, Stores } from './stores.ts'

/** As operators of Glance know the types. */
const names = { folder: 'file', http: 'http' } as const

/** @param folder The data folder. @param openHttp Makes the store whose data is on the web. @throws MoraineError `invalid` for a setting that cannot be used. */
export async function openStores(folder: string, setting: string, openHttp: () => ImageStore): Promise<Stores> {
  const settings = readStores(setting)
  const all: Store[] = []
  for (const one of settings ?? [onlyStore()]) {
    const data = one.type === 'http' ? openHttp() : await openFolderStore(one.place || join(folder, 'store'))
    all.push({ ...one, type: names[one.type], data })
  }
  return new Stores(all, await openFolderStore(join(folder, 'staging')), settings !== undefined)
}
