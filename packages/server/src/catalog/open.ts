/** Opens the catalog of a data folder. */
import { closeSync, existsSync, openSync } from 'node:fs'
import { join } from 'node:path'
import { MoraineError } from '@moraine/engine'
import type { Catalog } from './catalog.ts'
import { openSqlCatalog } from './sql-catalog.ts'
import { sqliteDialect } from './sqlite/dialect.ts'
import { SqliteError } from './sqlite/thread.ts'
import { copyDatabase } from './sqlite/upkeep.ts'

const sqliteBusy = 5

/** The file of a data folder's catalog. */
export function catalogPath(folder: string): string {
  return join(folder, 'catalog.sqlite')
}

/** Opens the catalog, which is made when it is not there. One of an older version is brought up to date, after a copy of it was put beside it.
 *  @param folder The data folder, which must be there.
 *  @throws MoraineError `locked` when another process holds it, `unsupported` when a newer version has changed it. */
export async function openCatalog(folder: string): Promise<Catalog> {
  const path = catalogPath(folder)
  // Hashes of passwords are in it. What SQLite puts beside it gets the same permissions.
  closeSync(openSync(path, 'a', 0o600))
  const backUp = (migration: string) => {
    const copy = `${path}.before-${migration}`
    // Of two processes that start at once, or of one that was killed, the first copy counts.
    if (!existsSync(copy)) copyDatabase(path, copy)
  }
  try {
    return await openSqlCatalog(sqliteDialect(path), { path, beforeMigration: backUp })
  } catch (error) {
    const code = error instanceof SqliteError ? error.sqliteCode : (error as { errcode?: number }).errcode
    if (code !== undefined && (code & 0xff) === sqliteBusy) {
      throw new MoraineError('locked', `the data folder ${folder} is in use by another process of the service`, {
        cause: error,
      })
    }
    throw error
  }
}
