/** What passes between the service and the threads that hold the SQLite database. */

export type SqlValue = null | number | bigint | string | Uint8Array

export interface Statement {
  sql: string
  parameters: readonly SqlValue[]
}

export interface QueryRequest extends Statement {
  id: number
}

/** Statements that happen together or not at all, outside of any other transaction. */
export interface BatchRequest {
  id: number
  /** With `mustGive`, one that changes and finds no row takes back them all. */
  batch: readonly (Statement & { mustGive: boolean })[]
}

export type Request = QueryRequest | BatchRequest

export interface Answer {
  /** Names of the columns, and the rows as lists of values: objects would take three times as long to pass. */
  columns: readonly string[]
  rows: readonly (readonly SqlValue[])[]
  changes: number
  lastRow: number | bigint
}

export interface Failure {
  message: string
  code: string | undefined
  sqliteCode: number | undefined
}

/** `empty`: which statement of a batch changed and found nothing, and must not. */
export type Reply = { id: number } & ({ answers: Answer[] } | { error: Failure } | { empty: number })
