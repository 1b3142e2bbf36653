/** Opens the stores that the settings name. */
import { join } from 'node:path'
import { openFolderStore } from './folder.ts'
import { withPatience } from './patience.ts'
import { onlyStore, readStores } from './settings.ts'
import type { ImageStore } from './store.ts'
import { type Store, Stores } from './stores.ts'

/** As operators of Glance know the types. */
const names = { folder: 'file', http: 'http' } as const

/** @param folder The data folder. @param seconds How long a step of a folder may take; data on the web has its own clocks. @param openHttp Makes the store whose data is on the web.
 *  @throws MoraineError `invalid` for a setting that cannot be used. */
export async function openStores(
  folder: string,
  setting: string,
  seconds: number,
  openHttp: () => ImageStore,
): Promise<Stores> {
  const open = async (place: string) => withPatience(await openFolderStore(place), seconds)
  const settings = readStores(setting)
  const all: Store[] = []
  for (const one of settings ?? [onlyStore()]) {
    const data = one.type === 'http' ? openHttp() : await open(one.place || join(folder, 'store'))
    all.push({ ...one, type: names[one.type], data })
  }
  return new Stores(all, await open(join(folder, 'staging')), settings !== undefined)
}
