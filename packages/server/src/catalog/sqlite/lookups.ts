/** Reads in the thread that asks. What is found by its key takes a tenth of the time that it takes to wake another thread and to be woken by it. */
import { DatabaseSync } from 'node:sqlite'
import type { CompiledQuery, QueryResult } from 'kysely'
import type { SqlValue } from './protocol.ts'
import { Statements } from './statements.ts'
import { resultOf, SqliteError } from './thread.ts'

const busy = 5

export class Lookups {
  readonly #path: string
  #open: { database: DatabaseSync; statements: Statements } | undefined

  /** @param path A database that a writer has open. */
  constructor(path: string) {
    this.#path = path
  }

  /** What is committed. Undefined when that cannot be told at once: nobody waits here.
   *  @throws SqliteError */
  ask<Row>({ sql, parameters }: CompiledQuery): QueryResult<Row> | undefined {
    try {
      this.#open ??= this.#start()
      return resultOf(this.#open.statements.run({ sql, parameters: parameters as SqlValue[] }))
    } catch (error) {
      const { message, errcode } = error as Error & { errcode?: number }
      if (errcode !== undefined && (errcode & 0xff) === busy) return undefined
      throw new SqliteError(message, errcode)
    }
  }

  close(): void {
    this.#open?.statements.clear()
    this.#open?.database.close()
    this.#open = undefined
  }

  #start(): { database: DatabaseSync; statements: Statements } {
    const database = new DatabaseSync(this.#path, { timeout: 0 })
    database.exec('pragma query_only = on')
    return { database, statements: new Statements(database) }
  }
}
