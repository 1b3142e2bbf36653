/** Uploads that may stop and go on. Such an upload belongs to no process: whoever takes its next part holds it meanwhile. */

/** The worker that uploads stand under which no process runs: those that clients go on with, and those that are kept for tasks. */
export const nobodysWorker = 'resumable'

/** An upload of an image. Times are seconds since 1970, sizes bytes. */
export interface Resumable {
  readonly imageId: string
  readonly store: string
  /** The name of its data in the store. */
  readonly key: string
  readonly length: number
  /** What is in the store for certain. All of it: the upload is over. */
  readonly received: number
  /** Who takes a part of it now. */
  readonly workerId: string | null
  /** When it is given up. */
  readonly expiresAt: number
}

export interface Resumables {
  get(imageId: string): Promise<Resumable | undefined>
  /** Gives it to a worker. Resolves to false when another one has it. */
  hold(imageId: string, workerId: string): Promise<boolean>
  /** Says how far it is. @param release Others may go on with it. */
  report(imageId: string, workerId: string, received: number, expiresAt: number, release: boolean): Promise<void>
  /** Forgets it. */
  remove(imageId: string): Promise<void>
  /** Those whose time has come, and whom nobody holds. */
  expired(): Promise<Resumable[]>
}
