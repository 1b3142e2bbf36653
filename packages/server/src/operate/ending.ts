/** How a request ended, as the log, the audit log and the measures tell it. */

export interface Ending {
  /** The answer did not leave as a whole: the client went away, or what was to be sent could not be read. */
  readonly isCut: boolean
  /** What the client was told, if it was told anything. */
  readonly status: number | undefined
  /** Bytes of the request and of its answer, with what HTTP puts around them. */
  readonly received: number
  readonly sent: number
}
