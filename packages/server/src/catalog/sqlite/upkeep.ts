/** Copies of the catalog's database, made while others use it, and put in its place while nobody does. */
import { closeSync, copyFileSync, existsSync, fsyncSync, openSync, renameSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { MoraineError } from '@moraine/engine'

const busyMilliseconds = 10_000

/** Writes a copy of a database as it is at one moment, whole and checked. Others may go on reading and writing.
 *  @throws MoraineError `invalid` when there is a file at `to`, `missing` when there is none at `from`, `corrupt` when the copy is not sound. */
export function copyDatabase(from: string, to: string): void {
  if (existsSync(to)) throw new MoraineError('invalid', `${to} is there already`, { path: to })
  mustExist(from)
  const part = `${to}.part`
  rmSync(part, { force: true })
  const database = new DatabaseSync(from, { timeout: busyMilliseconds })
  try {
    // Made before, so that nobody else can read it: passwords are in it, if only as hashes.
    closeSync(openSync(part, 'wx', 0o600))
    database.prepare('vacuum into ?').run(part)
    checkDatabase(part)
    sync(part)
    renameSync(part, to)
    sync(dirname(to))
  } catch (error) {
    rmSync(part, { force: true })
    throw error
  } finally {
    database.close()
  }
}

/** The names of the migrations that a database has seen, in their order. @throws MoraineError `corrupt` for a file that is no catalog. */
export function checkDatabase(path: string): string[] {
  mustExist(path)
  const damaged = (reason: string, cause?: unknown) =>
    new MoraineError('corrupt', `${path} is no sound catalog: ${reason}`, { path, cause })
  let database: DatabaseSync | undefined
  try {
    database = new DatabaseSync(path, { readOnly: true, timeout: busyMilliseconds })
    const found = database
      .prepare('pragma integrity_check')
      .all()
      .map(({ integrity_check }) => String(integrity_check))
    if (found.join() !== 'ok') throw damaged(found.slice(0, 3).join('; '))
    return database
      .prepare('select name from kysely_migration order by name')
      .all()
      .map(({ name }) => String(name))
  } catch (error) {
    if (error instanceof MoraineError) throw error
    throw damaged((error as Error).message, error)
  } finally {
    database?.close()
  }
}

/** Puts a copy in the place of a database, which is kept under another name. @returns That name; undefined when there was none.
 *  @throws MoraineError `locked` while somebody uses it. */
export function replaceDatabase(path: string, copy: string): string | undefined {
  const part = `${path}.part`
  rmSync(part, { force: true })
  copyFileSync(copy, part)
  sync(part)
  let aside: string | undefined
  if (existsSync(path)) {
    fold(path)
    aside = `${path}.replaced-${new Date().toISOString().replaceAll(':', '')}`
    renameSync(path, aside)
  }
  renameSync(part, path)
  sync(dirname(path))
  return aside
}

/** Brings everything from the write-ahead log into the file, which only the last user of a database can do. */
function fold(path: string): void {
  const database = new DatabaseSync(path, { timeout: 1000 })
  try {
    database.exec('pragma journal_mode = delete')
  } catch (error) {
    throw new MoraineError('locked', `${path} is in use: stop every process of the service first`, {
      path,
      cause: error,
    })
  } finally {
    database.close()
  }
}

function mustExist(path: string): void {
  if (!existsSync(path)) throw new MoraineError('missing', `there is no ${path}`, { path })
}

function sync(path: string): void {
  const file = openSync(path, 'r')
  try {
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}
