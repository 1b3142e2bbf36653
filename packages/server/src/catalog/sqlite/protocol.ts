/** What passes between the service and the one thread that holds the SQLite database. */

export type SqlValue = null | number | bigint | string | Uint8Array

export interface QueryRequest {
  id: number
  sql: string
  parameters: readonly SqlValue[]
}

export type QueryReply =
  | { id: number; rows: Record<string, SqlValue>[]; changes: number; lastRow: number | bigint }
  | { id: number; error: { message: string; code: string | undefined; sqliteCode: number | undefined } }
