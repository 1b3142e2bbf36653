/** Work in the calling thread that leaves the event loop its turns, so that signals are seen and timers run. */

/** Longest time between two turns, in ms, but for the last piece of work. */
const turnMs = 5

let busySince: number | undefined

/** The same for a command whose few reads are all it waits for: nobody sees the difference, and on a busy machine 5 ms pass before the first. */
export const readingTurnMs = 50

/** Whether work may block this thread now: it has not for so many ms since the event loop last had its turn. Work that may not is done asynchronously, which gives
 *  the loop its turn. */
export function mayBlock(most: number = turnMs): boolean {
  const now = performance.now()
  if (busySince === undefined) {
    busySince = now
    setImmediate(() => {
      busySince = undefined
    })
  }
  return now - busySince < most
}
