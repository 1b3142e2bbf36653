/** What is said of images that are odd. */
import type { ImageWarning } from '@moraine/engine'
import type { Context } from './verb.ts'

/** Passes warnings of the engine on. Of an image that is read as any other QEMU says nothing, and scripts may take every line for a failure. */
export function imageWarnings({ persona, warn, err }: Context): ImageWarning {
  return (message, more) => {
    if (more === 'advice' && !persona.details) return
    if (typeof more !== 'object') return warn(message)
    if (persona.details) return warn(`${message}. ${more.hint}`)
    warn(message)
    // QEMU forgets the newline.
    err.write(more.hint)
  }
}
