/** What a worker of the pool runs: one task after another, each from beginning to end. */
import { parentPort } from 'node:worker_threads'
import { MoraineError } from '../../core/index.ts'
import type { PackInput, UnpackInput } from '../worker-pool.ts'
import { packUnits } from './worker-pack.ts'
import type { TaskReply, TaskRequest } from './worker-protocol.ts'
import { unpackUnits } from './worker-unpack.ts'

parentPort?.on('message', ({ id, name, input }: TaskRequest) => {
  try {
    const output = name === 'unpack' ? unpackUnits(input as UnpackInput) : packUnits(input as PackInput)
    const reply: TaskReply = { id, output }
    parentPort?.postMessage(reply, output.buffer === undefined ? [] : [output.buffer])
  } catch (error) {
    parentPort?.postMessage({ id, error: plainError(error) } satisfies TaskReply)
  }
})

function plainError(error: unknown): Extract<TaskReply, { error: unknown }>['error'] {
  if (!(error instanceof MoraineError)) {
    const reason = error instanceof Error ? (error.stack ?? error.message) : String(error)
    return { kind: 'io', reason: `a worker failed: ${reason}`, place: {} }
  }
  const { kind, reason, path, format, field, offset, value, rule, code, hint } = error
  return { kind, reason, place: { path, format, field, offset, value, rule, code, hint } }
}
