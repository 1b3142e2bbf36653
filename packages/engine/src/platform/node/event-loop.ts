/** Work in the calling thread that leaves the event loop its turns, so that signals are seen and timers run. */

/* Longest time between two turns, but for the last piece of work. */
const turnMs = 5

let busySince: number | undefined

/** Whether work may block this thread now: it has not for 5 ms since the event loop last had its turn. Work that may not is done asynchronously, which gives the
 *  loop its turn. */
export function mayBlock(): boolean {
  const now = performance.now()
  if (busySince === undefined) {
    busySince = now
    setImmediate(() => {
      busySince = undefined
    })
  }
  return now - busySince < turnMs
}
