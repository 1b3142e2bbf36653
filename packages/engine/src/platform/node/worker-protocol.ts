/** What passes between the pool and its workers. */
import type { ErrorKind, ErrorPlace } from '../../core/index.ts'
import type { Tasks } from '../worker-pool.ts'

/** What a worker is asked. */
export interface TaskRequest {
  id: number
  name: keyof Tasks
  input: unknown
}

/** What it answers: an output or an error, which does not keep its class on the way. */
export type TaskReply =
  | { id: number; output: unknown }
  | { id: number; error: { kind: ErrorKind; reason: string; place: ErrorPlace } }
