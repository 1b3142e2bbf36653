/** What an operator does with a catalog besides serving it: back it up, restore it, and look whether it and the stores tell the same story. */
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { catalogPath } from '../catalog/open.ts'
import { checkDatabase, copyDatabase, replaceDatabase } from '../catalog/sqlite/upkeep.ts'
import { refuseNewer } from '../catalog/tables.ts'
import type { Config } from '../config.ts'

/** While this file is in the data folder, data that no image owns is kept: the catalog may be older than the data. */
const restoredMark = 'restored'

/** Writes a copy of the catalog, while the service runs or not. @throws MoraineError `invalid`, `missing`, `corrupt`. */
export function backUpCatalog({ data }: Pick<Config, 'data'>, to: string): void {
  copyDatabase(catalogPath(data), to)
}

/** Puts a backup in the place of the catalog. The service must not run. @returns Where the catalog is now that was there; undefined when there was none.
 *  @throws MoraineError `missing`, `corrupt`, `unsupported` for a backup of a newer version, `locked`. */
export function restoreCatalog({ data }: Pick<Config, 'data'>, from: string): string | undefined {
  refuseNewer(from, checkDatabase(from))
  const aside = replaceDatabase(catalogPath(data), from)
  writeFileSync(join(data, restoredMark), `${new Date().toISOString()}\n`, { mode: 0o600 })
  return aside
}

/** Whether the catalog was restored, and nobody has looked through the stores since. */
export function wasRestored({ data }: Pick<Config, 'data'>): boolean {
  return existsSync(join(data, restoredMark))
}

export function forgetRestored({ data }: Pick<Config, 'data'>): void {
  rmSync(join(data, restoredMark), { force: true })
}
