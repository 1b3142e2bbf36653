/** Progress of long operations, as events. */

/** How far an operation is; `done` never goes back and reaches `total` when it ends well. Units are bytes of guest content. */
export interface Progress {
  done: number
  total: number
}

/** What a long operation takes from its caller. */
export interface RunOptions {
  signal?: AbortSignal | undefined
  onProgress?: ((progress: Progress) => void) | undefined
}
