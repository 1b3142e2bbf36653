/** The thread that holds the SQLite database: the only place where a commit may wait for the disk. */
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { parentPort, workerData } from 'node:worker_threads'
import type { QueryReply, QueryRequest } from './protocol.ts'

const cachedStatements = 200

const { path } = workerData as { path: string }
/** How long a statement waits for another process of the service, in milliseconds. */
const busyMilliseconds = 10_000

const database = new DatabaseSync(path, { enableForeignKeyConstraints: true, timeout: busyMilliseconds })
// Several processes may share the file: with a write-ahead log their readers never wait for a writer. `full`: a commit is on the disk when it is answered.
useLog()
database.exec('pragma synchronous = full')

/** The way into the log needs the file alone, and SQLite does not always wait for that by itself. */
function useLog(): void {
  for (const end = Date.now() + busyMilliseconds; ; ) {
    try {
      database.exec('pragma journal_mode = wal')
      return
    } catch (error) {
      if (Date.now() > end) throw error
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20)
    }
  }
}

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
