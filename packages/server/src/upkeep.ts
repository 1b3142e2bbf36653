/** What an operator does with a data folder besides serving it. */
import { randomBytes } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { MoraineError } from '@moraine/engine'
import { openCatalog } from './catalog/open.ts'
import type { Upload } from './catalog/work.ts'
import { type ConfigInput, readConfig } from './config.ts'
import { restoreFirstAccount } from './identity/first-account.ts'
import { hashPassword, longestPassword } from './identity/passwords.ts'
import { readGlanceConfig } from './migrate/glance-config.ts'
import { isDatabaseFile, openGlance } from './migrate/glance-database.ts'
import { type MigrateOptions, migrate as migrateAll, type Step } from './migrate/migrate.ts'
import { type DoctorOptions, examine, type Finding } from './operate/doctor.ts'
import { listTasks, type TaskFacts } from './operate/tasks.ts'
import { backUpCatalog, forgetRestored, restoreCatalog } from './operate/upkeep.ts'
import { httpStore } from './store/http.ts'
import { openStores } from './store/open-stores.ts'
import { type SyncOptions, syncOnce } from './sync/once.ts'
import type { SyncResult } from './sync/sync.ts'
import { Worker } from './task/worker.ts'
import { WebClient } from './web/client.ts'
import { WebGate } from './web/gate.ts'

export { type DataMode, dataModes, type Step } from './migrate/migrate.ts'
export type { DoctorOptions, Finding } from './operate/doctor.ts'
export type { TaskFacts } from './operate/tasks.ts'
export type { SyncOptions } from './sync/once.ts'
export type { SyncResult } from './sync/sync.ts'

/** Writes a copy of the catalog as it is at one moment, with permissions for its owner alone. The service may run. Settings are read as by `serve`.
 *  @throws MoraineError `invalid` when there is a file at `to` already, `missing` when there is no catalog, `corrupt` when it is not sound. */
export function backUp(settings: ConfigInput, to: string): void {
  backUpCatalog(readConfig(settings, process.env), to)
}

/** Puts a backup in the place of the catalog. The service must not run. Data in the stores that the backup does not know is kept until `doctor` has removed it.
 *  @returns Where the catalog is now that was there before; undefined when there was none.
 *  @throws MoraineError `missing` or `corrupt` for a backup that cannot be used, `unsupported` for one of a newer version, `locked` while the service runs. */
export async function restore(settings: ConfigInput, from: string): Promise<string | undefined> {
  const config = readConfig(settings, process.env)
  await mkdir(config.data, { recursive: true, mode: 0o700 })
  return restoreCatalog(config, from)
}

/** Looks whether the catalog and the stores tell the same story. The service may run.
 *  @throws MoraineError `locked`, `unsupported`, `invalid`. */
export async function* doctor(settings: ConfigInput, options: DoctorOptions): AsyncGenerator<Finding> {
  const config = readConfig(settings, process.env)
  const catalog = await openCatalog(config.data)
  const web = new WebClient(new WebGate(config), config)
  try {
    const stores = await openStores(config.data, config.stores, config.storeSeconds, () =>
      httpStore(web, config.importIdleSeconds),
    )
    yield* examine(catalog, stores, options)
    if (options.repair) forgetRestored(config)
  } finally {
    await web.close()
    await catalog.close()
  }
}

/** Gives an account of the service another password and enables it; its tokens end. `admin` gets its roles back, too, and is made again when it is gone. The service may run.
 *  @param password Empty: one is made up. @returns The password.
 *  @throws MoraineError `missing` when there is no such account, `invalid` for a password that is too long. */
export async function setPassword(settings: ConfigInput, user: string, password: string): Promise<string> {
  if (password.length > longestPassword) {
    throw new MoraineError('invalid', `the password is longer than ${longestPassword} characters`)
  }
  const config = readConfig({ ...settings, auth: 'local' }, process.env)
  const catalog = await openCatalog(config.data)
  try {
    const { accounts } = catalog
    const isUsed = (await accounts.roles({})).length > 0
    const id = isUsed && user === 'admin' ? await restoreFirstAccount(accounts) : (await accounts.userByName(user))?.id
    if (id === undefined) throw new MoraineError('missing', `there is no account ${user} in ${config.data}`)
    const chosen = password === '' ? randomBytes(18).toString('base64url') : password
    await accounts.changeUser(id, { passwordHash: await hashPassword(chosen), enabled: true })
    return chosen
  } finally {
    await catalog.close()
  }
}

export interface MigrateSettings extends Pick<MigrateOptions, 'data' | 'dryRun' | 'signal'> {
  /** A glance-api.conf, a database of SQLite, or the address of a database. */
  from: string
  /** More folders in which files of image data are looked for. */
  files: readonly string[]
}

/** Takes over what a Glance keeps, which is only read. The service may run; Glance should not.
 *  @throws MoraineError `missing`, `unsupported`, `invalid`. */
export async function* migrate(
  settings: ConfigInput,
  { from, files, ...options }: MigrateSettings,
): AsyncGenerator<Step> {
  const config = readConfig(settings, process.env)
  const isAddress = /^[a-z][\w+.-]*:\/\//i.test(from)
  const glance = isAddress || isDatabaseFile(from) ? { connection: from, folders: new Map() } : readGlanceConfig(from)
  const folders = new Map([...glance.folders, ...(files.length === 0 ? [] : [['files given', files] as const])])
  const db = await openGlance(glance.connection)
  await mkdir(config.data, { recursive: true, mode: 0o700 })
  const catalog = await openCatalog(config.data)
  const web = new WebClient(new WebGate(config), config)
  try {
    const stores = await openStores(config.data, config.stores, config.storeSeconds, () =>
      httpStore(web, config.importIdleSeconds),
    )
    const clear = (uploads: readonly Upload[]) => stores.remove(uploads, () => {})
    const worker = new Worker(catalog.work, clear, () => {})
    if (!options.dryRun) await worker.start()
    try {
      yield* migrateAll(db, catalog, stores, { ...options, folders, workerId: worker.id })
    } finally {
      if (!options.dryRun) await worker.stop()
    }
  } finally {
    await web.close()
    await catalog.close()
    await db.destroy()
  }
}

/** Looks at the catalogues that the settings name, and brings the images here in step with them. The service may run.
 *  @throws MoraineError `missing` or `invalid` for settings that name none; `cancelled`. */
export async function* sync(settings: ConfigInput, options: SyncOptions): AsyncGenerator<SyncResult> {
  yield* syncOnce(readConfig(settings, process.env), options)
}

/** Long work that the service is at or will be; with `all`, also what is over and not yet forgotten. The newest first. The service may run.
 *  @throws MoraineError `locked`, `unsupported`. */
export async function* tasks(settings: ConfigInput, { all }: { all: boolean }): AsyncGenerator<TaskFacts> {
  const catalog = await openCatalog(readConfig(settings, process.env).data)
  try {
    yield* listTasks(catalog.work.tasks, all)
  } finally {
    await catalog.close()
  }
}

/** Asks for a task to end. The process of the service that runs it ends it within seconds and puts back what it worked on, as after a failure; when
 *  nobody does, the next one that takes it.
 *  @throws MoraineError `missing` when there is no such task, or it is over; `locked`, `unsupported`. */
export async function cancelTask(settings: ConfigInput, id: string): Promise<void> {
  const catalog = await openCatalog(readConfig(settings, process.env).data)
  try {
    if (await catalog.work.tasks.cancel(id, 'cancelled by an operator')) return
    const task = await catalog.work.tasks.get(id)
    throw new MoraineError(
      'missing',
      task === undefined ? `there is no task ${id}` : `task ${id} is over: ${task.status}`,
    )
  } finally {
    await catalog.close()
  }
}
