/** A Kysely dialect over `node:sqlite` in two threads: one that writes, and one that reads what is committed. */
import {
  CompiledQuery,
  type DatabaseConnection,
  type Driver,
  type QueryResult,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely'
import type { BatchingDialect, BatchStep } from '../batch.ts'
import { DatabaseThread } from './thread.ts'

/** @param path The database's file; it is made when it is not there. */
export function sqliteDialect(path: string): BatchingDialect {
  const driver = new ThreadsDriver(path)
  return {
    createAdapter: () => new Adapter(),
    createDriver: () => driver,
    createIntrospector: (database) => new SqliteIntrospector(database),
    createQueryCompiler: () => new SqliteQueryCompiler(),
    batch: (steps) => driver.batch(steps),
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
  #threads: { writer: DatabaseThread; reader: DatabaseThread } | undefined
  /** The transaction that holds the writer, and those that wait for it. */
  #turn: Promise<void> | undefined

  constructor(path: string) {
    this.#path = path
  }

  async init(): Promise<void> {
    // In this order: the writer makes the file, and the log in which readers see what is committed.
    const writer = await DatabaseThread.start(this.#path, false)
    try {
      this.#threads = { writer, reader: await DatabaseThread.start(this.#path, true) }
    } catch (error) {
      await writer.close()
      throw error
    }
  }

  async acquireConnection(): Promise<DatabaseConnection> {
    return new Connection(this)
  }

  get threads(): { writer: DatabaseThread; reader: DatabaseThread } {
    if (this.#threads === undefined) throw new Error('the database is not open')
    return this.#threads
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
      await this.threads.writer.query(CompiledQuery.raw('begin immediate'))
      connection.endTransaction = release
    } catch (error) {
      release()
      throw error
    }
  }

  async commitTransaction(connection: Connection): Promise<void> {
    await this.threads.writer.query(CompiledQuery.raw('commit'))
    connection.leave()
  }

  async rollbackTransaction(connection: Connection): Promise<void> {
    try {
      await this.threads.writer.query(CompiledQuery.raw('rollback'))
    } finally {
      connection.leave()
    }
  }

  /** Writes outside of a transaction. The writer's thread takes messages in order: what is sent while no transaction is open is done before the next begins. */
  async batch(steps: readonly BatchStep[]): Promise<QueryResult<unknown>[]> {
    while (this.#turn !== undefined) await this.#turn
    return this.threads.writer.batch(steps)
  }

  async releaseConnection(): Promise<void> {}

  async destroy(): Promise<void> {
    const threads = this.#threads
    await threads?.reader.close()
    await threads?.writer.close()
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
    const { writer, reader } = this.#driver.threads
    if (this.endTransaction !== undefined) return writer.query(query)
    if (query.query.kind === 'SelectQueryNode') return reader.query(query)
    const [result] = await this.#driver.batch([{ query }])
    return result as QueryResult<Row>
  }

  async *streamQuery<Row>(query: CompiledQuery): AsyncIterableIterator<QueryResult<Row>> {
    yield await this.executeQuery<Row>(query)
  }
}
