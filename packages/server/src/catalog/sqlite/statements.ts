/** Statements of one SQLite database, prepared once each. */
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import type { Answer, SqlValue, Statement } from './protocol.ts'

const cachedStatements = 200

interface Prepared {
  statement: StatementSync
  columns: readonly string[]
}

export class Statements {
  readonly #database: DatabaseSync
  readonly #prepared = new Map<string, Prepared>()

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  /** @throws Error of SQLite, with its extended result code as `errcode`. */
  run({ sql, parameters }: Statement): Answer {
    const known = this.#prepare(sql)
    if (known.columns.length === 0) {
      const { changes, lastInsertRowid } = known.statement.run(...parameters)
      return { columns: [], rows: [], changes: Number(changes), lastRow: lastInsertRowid }
    }
    const rows = known.statement.all(...parameters) as unknown as SqlValue[][]
    // The tables may have got another column since.
    if (rows[0] !== undefined && rows[0].length !== known.columns.length) known.columns = namesOf(known.statement)
    return { columns: known.columns, rows, changes: 0, lastRow: 0 }
  }

  /** Forgets them all, so that the database can be closed. */
  clear(): void {
    this.#prepared.clear()
  }

  #prepare(sql: string): Prepared {
    const known = this.#prepared.get(sql)
    if (known !== undefined) return known
    if (this.#prepared.size >= cachedStatements) {
      const oldest = this.#prepared.keys().next()
      if (!oldest.done) this.#prepared.delete(oldest.value)
    }
    const statement = this.#database.prepare(sql)
    statement.setReturnArrays(true)
    const made = { statement, columns: namesOf(statement) }
    this.#prepared.set(sql, made)
    return made
  }
}

function namesOf(statement: StatementSync): string[] {
  return statement.columns().map(({ name }) => name)
}
