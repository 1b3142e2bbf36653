/** Opens the catalog of a data folder. */
import { join } from 'node:path'
import { MoraineError } from '@moraine/engine'
import type { Catalog } from './catalog.ts'
import { openSqlCatalog } from './sql-catalog.ts'
import { SqliteError, sqliteDialect } from './sqlite/dialect.ts'

const sqliteBusy = 5

/** @param folder The data folder, which must be there. @throws MoraineError `locked` when another process holds it. */
export async function openCatalog(folder: string): Promise<Catalog> {
  try {
    return await openSqlCatalog(sqliteDialect(join(folder, 'catalog.sqlite')))
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
