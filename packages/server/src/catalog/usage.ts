/** How much of the service each project uses. All of it stands in the catalog, data that is still on its way too, so that a bound holds however many processes there are. */

/** What a project uses. */
export interface Usage {
  /** Bytes of image data: each copy counts, and what running uploads have been promised. */
  readonly bytes: number
  /** Bytes of data that waits to be imported, and what is promised to it. */
  readonly stagedBytes: number
  readonly images: number
  /** Images whose data is on its way. */
  readonly uploading: number
}

/** A bound on bytes. */
export interface Bound {
  /** A project, null for images without an owner, or everybody. */
  readonly of: { owner: string | null } | 'everybody'
  readonly kind: 'bytes' | 'stagedBytes'
  /** Bytes. */
  readonly limit: number
}

export interface Usages {
  of(owner: string | null): Promise<Usage>
  /** Promises a running upload so many bytes in all, unless that would pass a bound. Resolves to the bound that is in the way, and to what it leaves for this
   *  upload; undefined when it is promised. */
  promise(
    uploadKey: string,
    bytes: number,
    bounds: readonly Bound[],
  ): Promise<{ bound: Bound; left: number } | undefined>
}
