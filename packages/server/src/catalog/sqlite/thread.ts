/** A thread that holds the SQLite database, seen from the service. */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import type { CompiledQuery, QueryResult } from 'kysely'
import { workerUrl } from '../../worker-url.ts'
import { type BatchStep, EmptyStep } from '../batch.ts'
import { CatalogError } from '../catalog.ts'
import type { Answer, Failure, Reply, Request, SqlValue } from './protocol.ts'

const full = 13

/** An error of SQLite, with its extended result code. */
export class SqliteError extends Error {
  readonly sqliteCode: number | undefined

  constructor(message: string, sqliteCode: number | undefined) {
    super(message)
    this.name = 'SqliteError'
    this.sqliteCode = sqliteCode
  }
}

export class DatabaseThread {
  readonly #worker: Worker
  readonly #waiting = new Map<number, { resolve(reply: Reply): void; reject(error: Error): void }>()
  #next = 0
  #failure: Error | undefined

  /** @param reads Whether it only reads. */
  static async start(path: string, reads: boolean): Promise<DatabaseThread> {
    const worker = new Worker(workerUrl('catalog/sqlite/worker'), {
      workerData: { path, reads },
      resourceLimits: { maxYoungGenerationSizeMb: 4 },
    })
    await once(worker, 'message')
    return new DatabaseThread(worker)
  }

  private constructor(worker: Worker) {
    this.#worker = worker
    worker.on('message', (reply: Reply) => {
      this.#waiting.get(reply.id)?.resolve(reply)
      this.#waiting.delete(reply.id)
    })
    worker.on('error', (error) => this.#fail(error as Error))
    worker.on('exit', () => this.#fail(new Error('the database is closed')))
  }

  async query<Row>({ sql, parameters }: CompiledQuery): Promise<QueryResult<Row>> {
    const [first] = await this.#ask({ id: this.#next++, sql, parameters: parameters as SqlValue[] })
    if (first === undefined) throw new Error('the database gave no answer')
    return resultOf(first)
  }

  /** @throws EmptyStep, SqliteError, CatalogError `full`; nothing has happened then. */
  async batch(steps: readonly BatchStep[]): Promise<QueryResult<unknown>[]> {
    const batch = steps.map(({ query: { sql, parameters }, mustGive = false }) => ({
      ...{ sql, parameters: parameters as SqlValue[], mustGive },
    }))
    return (await this.#ask({ id: this.#next++, batch })).map(resultOf)
  }

  async close(): Promise<void> {
    if (this.#failure !== undefined) return
    const gone = once(this.#worker, 'exit')
    this.#worker.postMessage('close')
    await gone
  }

  async #ask(request: Request): Promise<Answer[]> {
    const reply = await new Promise<Reply>((resolve, reject) => {
      if (this.#failure !== undefined) return reject(this.#failure)
      this.#waiting.set(request.id, { resolve, reject })
      this.#worker.postMessage(request)
    })
    if ('error' in reply) throw errorOf(reply.error)
    if ('empty' in reply) throw new EmptyStep(reply.empty)
    return reply.answers
  }

  #fail(error: Error): void {
    this.#failure ??= error
    for (const { reject } of this.#waiting.values()) reject(error)
    this.#waiting.clear()
  }
}

function errorOf({ message, sqliteCode }: Failure): Error {
  if (sqliteCode === undefined || (sqliteCode & 0xff) !== full) return new SqliteError(message, sqliteCode)
  return new CatalogError('full', 'The catalog has no room left on its disk.')
}

/** An answer as Kysely has it. */
export function resultOf<Row>({ columns, rows, changes, lastRow }: Answer): QueryResult<Row> {
  const named = rows.map((values) => {
    const row: Record<string, SqlValue> = {}
    for (let at = 0; at < columns.length; at++) row[columns[at] as string] = values[at] as SqlValue
    return row as Row
  })
  return { rows: named, numAffectedRows: BigInt(changes), insertId: BigInt(lastRow) }
}
