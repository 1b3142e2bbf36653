/** `FILE#MEMBER`: what is inside a file that holds others. What looks into them is loaded only where there is something to look into. */
import type { ByteSource, Container, Gate } from '@moraine/engine'
import type { Context } from './verb.ts'
import { beginsAsContainer } from './wrappers.ts'

/** What is looked for. */
export interface ReachRequest {
  /** The path of a member; the disk that is meant without one. */
  member?: string | undefined
  writes: boolean
  gate: Gate
  /** Told of each container in which no member was named, before one is chosen. */
  onContainer?: ((container: Container) => void) | undefined
}

const headBytes = 512

/** What is inside a source that may hold others: a member by its path, or the disk that is meant where none is named. Only what begins as a container does is looked into then.
 *  `source` belongs to the result.
 *  @throws MoraineError as `openMember`; `unsupported` when it is to be written. */
export async function reach(context: Context, source: ByteSource, request: ReachRequest): Promise<ByteSource> {
  let looks: boolean
  try {
    const head = new Uint8Array(Math.min(headBytes, source.size))
    await source.read(0, head, context.signal)
    looks = request.member !== undefined || beginsAsContainer(head)
  } catch (error) {
    await source.close()
    throw error
  }
  if (!looks) return source
  const { reachInto } = await import('./containers.ts')
  return await reachInto(context, source, request)
}
