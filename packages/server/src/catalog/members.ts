/** With which other projects a shared image is shared, and what they say to it. */

export const memberStatuses = ['pending', 'accepted', 'rejected'] as const

/** `accepted` images stand in the member's list; the others are there for who knows their id. */
export type MemberStatus = (typeof memberStatuses)[number]

/** One project that an image is shared with. Times are seconds since 1970. */
export interface Member {
  readonly imageId: string
  /** The project. */
  readonly memberId: string
  status: MemberStatus
  readonly createdAt: number
  updatedAt: number
}

export interface Members {
  /** In the order of their project ids. */
  list(imageId: string): Promise<Member[]>
  get(imageId: string, memberId: string): Promise<Member | undefined>
  /** @param most Members that one image may have.
   *  @throws CatalogError `taken` for a project that is a member already, `too-many` past `most`, `missing` when there is no such image. */
  add(imageId: string, memberId: string, most: number): Promise<Member>
  /** Resolves to undefined when there is no such member. */
  setStatus(imageId: string, memberId: string, status: MemberStatus): Promise<Member | undefined>
  /** Resolves to whether there was one. */
  remove(imageId: string, memberId: string): Promise<boolean>
}
