/** What is said of images that are odd. */
import type { ImageWarning } from '@moraine/engine'
import type { Context } from './verb.ts'

/** Passes warnings of the engine on. Of an image that is read as any other QEMU says nothing, and scripts may take every line for a failure. */
export function imageWarnings({ persona, warn }: Context): ImageWarning {
  return (message, kind) => {
    if (kind !== 'advice' || persona.details) warn(message)
  }
}
