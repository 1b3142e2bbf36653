/** Opens the stores that the settings name. */
import { join } from 'node:path'
import { openFolderStore } from './folder.ts'
import { onlyStore, readStores } from './settings.ts'
import { type Store, Stores } from './stores.ts'

/** @param folder The data folder. @throws MoraineError `invalid` for a setting that cannot be used. */
export async function openStores(folder: string, setting: string): Promise<Stores> {
  const settings = readStores(setting)
  const all: Store[] = []
  for (const one of settings ?? [onlyStore()]) {
    const data = await openFolderStore(one.place === '' ? join(folder, 'store') : one.place)
    all.push({ ...one, type: 'file', data })
  }
  return new Stores(all, await openFolderStore(join(folder, 'staging')), settings !== undefined)
}
