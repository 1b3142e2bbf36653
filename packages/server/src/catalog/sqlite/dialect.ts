/** A Kysely dialect over `node:sqlite` in two threads: one that writes, and one that reads what is committed. What is found by its key is read where it is asked for. */
import {
  CompiledQuery,
  type DatabaseConnection,
  type Driver,
  type QueryResult,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely'
import type { BatchStep, ShortDialect } from '../batch.ts'
import { Lookups } from './lookups.ts'
import { DatabaseThread } from './thread.ts'

/** @param path The database's file; it is made when it is not there. */
export function sqliteDialect(path: string): ShortDialect {
  const driver = new ThreadsDriver(path)
  return {
    createAdapter: () => new Adapter(),
    createDriver: () => driver,
    createIntrospector: (database) => new SqliteIntrospector(database),
    createQueryCompiler: () => new SqliteQueryCompiler(),
    batch: (steps) => driver.batch(steps),
    look: (query) => driver.look(query),
  }
}

/** SQLite changes tables in transactions, and each of ours takes the write lock when it begins: of two processes that start at once, one migrates, and the other one
 *  finds it done. Who writes after whom is the driver's to say, so that nobody who reads has to wait. */
class Adapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true
  }

  override get supportsMultipleConnections(): boolean {
    return true
  }
}

class ThreadsDriver implements Driver {
  readonly #path: string
  readonly #lookups: Lookups
  #writer: DatabaseThread | undefined
  #reader: Promise<DatabaseThread> | undefined
  /** The transaction that holds the writer, and those that wait for it. */
  #turn: Promise<void> | undefined

  constructor(path: string) {
    this.#path = path
    this.#lookups = new Lookups(path)
  }

  /** The writer comes first: it makes the file, and the log in which readers see what is committed. */
  async init(): Promise<void> {
    this.#writer = await DatabaseThread.start(this.#path, false)
  }

  get writer(): DatabaseThread {
    if (this.#writer === undefined) throw new Error('the database is not open')
    return this.#writer
  }

  /** Started when it is first needed. */
  get reader(): Promise<DatabaseThread> {
    this.#reader ??= DatabaseThread.start(this.#path, true)
    return this.#reader
  }

  async look<Row>(query: CompiledQuery<Row>): Promise<QueryResult<Row>> {
    return this.#lookups.ask<Row>(query) ?? (await this.reader).query<Row>(query)
  }

  async acquireConnection(): Promise<DatabaseConnection> {
    return new Connection(this)
  }

  async beginTransaction(connection: Connection): Promise<void> {
    while (this.#turn !== undefined) await this.#turn
    let release = () => {}
    this.#turn = new Promise((resolve) => {
      release = () => {
        this.#turn = undefined
        resolve()
      }
    })
    try {
      // `immediate`: the write lock is taken now, not in the middle.
      await this.writer.query(CompiledQuery.raw('begin immediate'))
      connection.endTransaction = release
    } catch (error) {
      release()
      throw error
    }
  }

  async commitTransaction(connection: Connection): Promise<void> {
    await this.writer.query(CompiledQuery.raw('commit'))
    connection.leave()
  }

  async rollbackTransaction(connection: Connection): Promise<void> {
    try {
      await this.writer.query(CompiledQuery.raw('rollback'))
    } catch (error) {
      // A commit that fails for want of room has taken all back by itself, and its own error is what counts.
      if (!String(error).includes('no transaction is active')) throw error
    } finally {
      connection.leave()
    }
  }

  /** Writes outside of a transaction. The writer's thread takes messages in order: what is sent while no transaction is open is done before the next begins. */
  async batch(steps: readonly BatchStep[]): Promise<QueryResult<unknown>[]> {
    while (this.#turn !== undefined) await this.#turn
    return this.writer.batch(steps)
  }

  async releaseConnection(): Promise<void> {}

  async destroy(): Promise<void> {
    this.#lookups.close()
    await (await this.#reader?.catch(() => undefined))?.close()
    await this.#writer?.close()
  }
}

class Connection implements DatabaseConnection {
  readonly #driver: ThreadsDriver
  /** Lets the next transaction begin; only there while this one is open. */
  endTransaction: (() => void) | undefined

  constructor(driver: ThreadsDriver) {
    this.#driver = driver
  }

  leave(): void {
    this.endTransaction?.()
    this.endTransaction = undefined
  }

  async executeQuery<Row>(query: CompiledQuery): Promise<QueryResult<Row>> {
    if (this.endTransaction !== undefined) return this.#driver.writer.query(query)
    if (query.query.kind === 'SelectQueryNode') return (await this.#driver.reader).query(query)
    const [result] = await this.#driver.batch([{ query }])
    return result as QueryResult<Row>
  }

  async *streamQuery<Row>(query: CompiledQuery): AsyncIterableIterator<QueryResult<Row>> {
    yield await this.executeQuery<Row>(query)
  }
}
