/** Keeps what a task has fetched, so that it can go on with it when the process that fetched it is gone. */
import type { JsonObject } from '../catalog/json.ts'
import type { Work } from '../catalog/work.ts'
import type { StoreUpload } from '../store/store.ts'
import { canGoOn, type FileVersion } from '../web/download.ts'

/** What is on the disk is noted so often: a process that is killed loses no more than was fetched meanwhile. */
const noteMilliseconds = 2000

export class Keeper {
  /** What an earlier process has fetched: stored already. */
  readonly from: { at: number; version: FileVersion } | undefined
  readonly #work: Work
  readonly #key: string
  readonly #upload: StoreUpload
  #version: FileVersion | undefined
  #noted = performance.now()
  #noting: Promise<void> | undefined

  /** @param upload Of a store that can `resume`. */
  constructor(work: Work, key: string, upload: StoreUpload, from: Keeper['from']) {
    this.#work = work
    this.#key = key
    this.#upload = upload
    this.from = from
    this.#version = from?.version
  }

  /** What the server says about the file, at its first byte. */
  saw(version: FileVersion): void {
    if (canGoOn(version)) this.#version = version
  }

  /** Something came. */
  tick(): void {
    const version = this.#version
    const { flush } = this.#upload
    if (version === undefined || flush === undefined || this.#noting !== undefined) return
    if (performance.now() - this.#noted < noteMilliseconds) return
    // What cannot be flushed fails the next write; what cannot be noted is noted next time.
    this.#noting = flush
      .call(this.#upload)
      .then((received) => this.#note(received, version))
      .catch(() => {})
      .finally(() => {
        this.#noted = performance.now()
        this.#noting = undefined
      })
  }

  /** Stops here; whoever runs the task next goes on. Resolves to whether anything is kept. */
  async suspend(): Promise<boolean> {
    await this.#noting
    if (this.#version === undefined) return false
    const received = (await this.#upload.suspend?.()) ?? 0
    if (received === 0) return false
    await this.#note(received, this.#version)
    // Whoever takes the task next must not find it in the hands of a process that is still ending.
    await this.#work.releaseKept(this.#key)
    return true
  }

  #note(received: number, version: FileVersion): Promise<void> {
    return this.#work.keepUpload(this.#key, received, version as JsonObject)
  }
}
