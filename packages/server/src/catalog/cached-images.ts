/** What the cache of image data is asked for, and how often. The files themselves are the cache's. */

/** How an image is used that a machine keeps a copy of. Times are seconds since 1970, with fractions. */
export interface CacheUse {
  readonly imageId: string
  readonly hits: number
  readonly lastAccessed: number
}

export interface CachedImages {
  /** @param node The machine. */
  uses(node: string): Promise<CacheUse[]>
  hit(node: string, imageId: string): Promise<void>
  forget(node: string, imageIds: readonly string[]): Promise<void>
  /** The images that a copy is to be made of, in the order in which they were asked for. */
  queued(node: string): Promise<string[]>
  queue(node: string, imageId: string): Promise<void>
  /** Resolves to whether it was queued. */
  unqueue(node: string, imageId: string): Promise<boolean>
  /** Resolves to how many there were. */
  clearQueue(node: string): Promise<number>
}
