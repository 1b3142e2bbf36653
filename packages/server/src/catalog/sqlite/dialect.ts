/** A Kysely dialect over `node:sqlite` in a thread of its own. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import {
  CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type QueryResult,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from 'kysely'
import { workerUrl } from '../../worker-url.ts'
import type { QueryReply, QueryRequest, SqlValue } from './protocol.ts'

/** An error of SQLite, with its extended result code. */
export class SqliteError extends Error {
  readonly sqliteCode: number | undefined

  constructor(message: string, sqliteCode: number | undefined) {
    super(message)
    this.name = 'SqliteError'
    this.sqliteCode = sqliteCode
  }
}

/** @param path The database's file; it is made when it is not there. */
export function sqliteDialect(path: string): Dialect {
  return {
    createAdapter: () => new TransactionalAdapter(),
    createDriver: () => new ThreadDriver(path),
    createIntrospector: (database) => new SqliteIntrospector(database),
    createQueryCompiler: () => new SqliteQueryCompiler(),
  }
}

/** SQLite changes tables in transactions, and each of ours takes the write lock when it begins: of two processes that start at once, one migrates, and the other one
 *  finds it done. */
class TransactionalAdapter extends SqliteAdapter {
  override get supportsTransactionalDdl(): boolean {
    return true
  }
}

class ThreadDriver implements Driver {
  readonly path: string
  #connection: ThreadConnection | undefined

  constructor(path: string) {
    this.path = path
  }

  async init(): Promise<void> {
    const worker = new Worker(workerUrl('catalog/sqlite/worker'), { workerData: { path: this.path } })
    await once(worker, 'message')
    this.#connection = new ThreadConnection(worker)
  }

  acquireConnection(): Promise<DatabaseConnection> {
    if (this.#connection === undefined) throw new Error('the database is not open')
    return Promise.resolve(this.#connection)
  }

  // `immediate`: the write lock is taken now, not in the middle.
  async beginTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('begin immediate'))
  }

  async commitTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('commit'))
  }

  async rollbackTransaction(connection: DatabaseConnection): Promise<void> {
    await connection.executeQuery(CompiledQuery.raw('rollback'))
  }

  // Kysely hands the one connection to one user at a time by itself, as the adapter says that there is no second.
  async releaseConnection(): Promise<void> {}

  async destroy(): Promise<void> {
    await this.#connection?.close()
  }
}

class ThreadConnection implements DatabaseConnection {
  readonly #worker: Worker
  readonly #waiting = new Map<number, { resolve(reply: QueryReply): void; reject(error: Error): void }>()
  #next = 0
  #failure: Error | undefined

  constructor(worker: Worker) {
    this.#worker = worker
    worker.on('message', (reply: QueryReply) => {
      this.#waiting.get(reply.id)?.resolve(reply)
      this.#waiting.delete(reply.id)
    })
    worker.on('error', (error) => this.#fail(error as Error))
    worker.on('exit', () => this.#fail(new Error('the database is closed')))
  }

  async executeQuery<Row>({ sql, parameters }: CompiledQuery): Promise<QueryResult<Row>> {
    const reply = await this.#ask({ id: this.#next++, sql, parameters: parameters as SqlValue[] })
    if ('error' in reply) throw new SqliteError(reply.error.message, reply.error.sqliteCode)
    return {
      rows: reply.rows as Row[],
      numAffectedRows: BigInt(reply.changes),
      insertId: BigInt(reply.lastRow),
    }
  }

  async *streamQuery<Row>(query: CompiledQuery): AsyncIterableIterator<QueryResult<Row>> {
    yield await this.executeQuery<Row>(query)
  }

  async close(): Promise<void> {
    if (this.#failure !== undefined) return
    const gone = once(this.#worker, 'exit')
    this.#worker.postMessage('close')
    await gone
  }

  #ask(request: QueryRequest): Promise<QueryReply> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) return reject(this.#failure)
      this.#waiting.set(request.id, { resolve, reject })
      this.#worker.postMessage(request)
    })
  }

  #fail(error: Error): void {
    this.#failure ??= error
    for (const { reject } of this.#waiting.values()) reject(error)
    this.#waiting.clear()
  }
}
