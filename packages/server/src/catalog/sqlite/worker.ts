/** The thread that holds the SQLite database: the only place where a commit may wait for the disk. */
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { parentPort, workerData } from 'node:worker_threads'
import type { QueryReply, QueryRequest } from './protocol.ts'

const cachedStatements = 200

const { path } = workerData as { path: string }
const database = new DatabaseSync(path, { enableForeignKeyConstraints: true, timeout: 2000 })
// The exclusive lock makes a second process on the same folder fail at once, instead of clearing away the uploads of the first. The kernel drops it
// with the process. `full`: a commit is on the disk when it is answered.
database.exec('pragma locking_mode = exclusive; pragma journal_mode = wal; pragma synchronous = full')
database.exec('begin immediate; commit')

const statements = new Map<string, StatementSync>()

function prepare(sql: string): StatementSync {
  const known = statements.get(sql)
  if (known !== undefined) return known
  if (statements.size >= cachedStatements) {
    const oldest = statements.keys().next()
    if (!oldest.done) statements.delete(oldest.value)
  }
  const statement = database.prepare(sql)
  statements.set(sql, statement)
  return statement
}

function answer({ id, sql, parameters }: QueryRequest): QueryReply {
  try {
    const statement = prepare(sql)
    if (statement.columns().length > 0) {
      return { id, rows: statement.all(...parameters) as never, changes: 0, lastRow: 0 }
    }
    const { changes, lastInsertRowid } = statement.run(...parameters)
    return { id, rows: [], changes: Number(changes), lastRow: lastInsertRowid }
  } catch (error) {
    const { message, code, errcode } = error as Error & { code?: string; errcode?: number }
    return { id, error: { message, code, sqliteCode: errcode } }
  }
}

parentPort?.on('message', (request: QueryRequest | 'close') => {
  if (request === 'close') {
    statements.clear()
    database.close()
    parentPort?.close()
  } else {
    parentPort?.postMessage(answer(request))
  }
})
parentPort?.postMessage('ready')
