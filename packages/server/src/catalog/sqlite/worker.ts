/** A thread that holds the SQLite database. One writes, and is the only place where a commit waits for the disk; another one reads, and never waits for it. */
import { DatabaseSync } from 'node:sqlite'
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import type { Answer, BatchRequest, Failure, Reply, Request, Statement } from './protocol.ts'
import { Statements } from './statements.ts'

/** Batches that share a commit at most. */
const mostTogether = 64

const { path, reads } = workerData as { path: string; reads: boolean }
/** How long a statement waits for another process of the service, in milliseconds. */
const busyMilliseconds = 10_000

const database = new DatabaseSync(path, { enableForeignKeyConstraints: true, timeout: busyMilliseconds })
if (reads) database.exec('pragma query_only = on')
else {
  // Several processes may share the file: with a write-ahead log their readers never wait for a writer. `full`: a commit is on the disk when it is answered.
  useLog()
  database.exec('pragma synchronous = full')
}

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

const statements = new Statements(database)
const run = (statement: Statement): Answer => statements.run(statement)

function failureOf(error: unknown): Failure {
  const { message, code, errcode } = error as Error & { code?: string; errcode?: number }
  return { message, code, sqliteCode: errcode }
}

const plain = (sql: string) => run({ sql, parameters: [] })

/** One batch within a transaction that others may share. */
function runBatch({ id, batch }: BatchRequest): Reply {
  plain('savepoint one')
  const takeBack = () => {
    plain('rollback to one')
    plain('release one')
  }
  try {
    const answers: Answer[] = []
    for (const [at, { mustGive, ...statement }] of batch.entries()) {
      const answer = run(statement)
      if (mustGive && answer.changes === 0 && answer.rows.length === 0) {
        takeBack()
        return { id, empty: at }
      }
      answers.push(answer)
    }
    plain('release one')
    return { id, answers }
  } catch (error) {
    // Some errors have ended the whole transaction already.
    if (database.isTransaction) takeBack()
    return { id, error: failureOf(error) }
  }
}

/** A statement that failed, and ended the transaction of all. */
function givenUp(reply: Reply): Error {
  const errcode = 'error' in reply ? reply.error.sqliteCode : undefined
  return Object.assign(new Error('the transaction was given up'), { errcode })
}

/** Runs a batch, and all that wait behind it, with one commit: the disk is asked once for all of them. Nobody is answered before.
 *  @returns A request of another kind that was met. */
function runTogether(first: BatchRequest): Message | undefined {
  const replies: Reply[] = []
  let next: Message | undefined = first
  try {
    plain('begin immediate')
    while (isBatch(next)) {
      const reply = runBatch(next)
      next = undefined
      replies.push(reply)
      if (!database.isTransaction) throw givenUp(reply)
      if (replies.length < mostTogether && parentPort !== null) next = receiveMessageOnPort(parentPort)?.message
    }
    plain('commit')
  } catch (error) {
    if (database.isTransaction) plain('rollback')
    const failed = replies.length === 0 ? [first] : replies
    replies.splice(0, replies.length, ...failed.map(({ id }) => ({ id, error: failureOf(error) })))
  }
  for (const reply of replies) parentPort?.postMessage(reply)
  return next === first ? undefined : next
}

type Message = Request | 'close'

const isBatch = (message: Message | undefined): message is BatchRequest =>
  message !== undefined && message !== 'close' && 'batch' in message

function answer(message: Message): Message | undefined {
  if (isBatch(message)) return runTogether(message)
  if (message === 'close') {
    statements.clear()
    database.close()
    parentPort?.close()
    return undefined
  }
  const { id } = message
  let reply: Reply
  try {
    reply = { id, answers: [run(message)] }
  } catch (error) {
    reply = { id, error: failureOf(error) }
  }
  parentPort?.postMessage(reply)
  return undefined
}

parentPort?.on('message', (message: Message) => {
  for (let next: Message | undefined = message; next !== undefined; ) next = answer(next)
})
parentPort?.postMessage('ready')
