/** What the service asks of its database. SQLite is behind it today; another database is another value of this type. */
import type { Accounts } from './accounts.ts'
import type { CachedImages } from './cached-images.ts'
import type { Image, NewImage } from './image.ts'
import type { Logins } from './logins.ts'
import type { Member, MemberStatus, Members } from './members.ts'
import type { Metadefs } from './metadefs.ts'
import type { Resumable, Resumables } from './resumables.ts'
import type { Usages } from './usage.ts'
import type { NewTask, Upload, Work } from './work.ts'

/** Keys that images can be sorted by. */
export const sortKeys = [
  'name',
  'status',
  'container_format',
  'disk_format',
  'size',
  'id',
  'created_at',
  'updated_at',
] as const
export type SortKey = (typeof sortKeys)[number]

/** Columns of text that filters compare. */
export type TextColumn =
  | 'id'
  | 'name'
  | 'status'
  | 'visibility'
  | 'owner'
  | 'container_format'
  | 'disk_format'
  | 'checksum'
  | 'os_hash_algo'
  | 'os_hash_value'

/** Columns of numbers that filters compare; times are seconds since 1970. */
export type NumberColumn = 'size' | 'virtual_size' | 'min_ram' | 'min_disk' | 'created_at' | 'updated_at'

export type Comparison = 'eq' | 'neq' | 'gt' | 'gte' | 'lt' | 'lte'

/** One condition on the images of a list; all of them must hold. */
export type Filter =
  | { on: 'text'; column: TextColumn; values: readonly string[] }
  | { on: 'number'; column: NumberColumn; compare: Comparison; value: number }
  | { on: 'flag'; column: 'protected' | 'os_hidden'; value: boolean }
  | { on: 'tag'; value: string }
  | { on: 'property'; name: string; value: string }
  /** No images of the community but the owner's own. */
  | { on: 'uncommon'; owner: string | null }
  | { on: 'nothing' }

/** For whom a list is made. */
export interface Viewer {
  /** Null for none: then only images of all are seen. */
  projectId: string | null
  /** What the project has said to the images shared with it that are listed. */
  memberStatus: MemberStatus | 'all'
}

export interface ListQuery {
  /** Sees its own images, public ones, those of the community and those shared with it; undefined sees all. */
  viewer?: Viewer | undefined
  filters: readonly Filter[]
  /** Most significant first. `id` is always added as the last, so that the order is total. */
  sort: readonly { key: SortKey; descending: boolean }[]
  limit: number
  /** The image after which the page begins. */
  marker?: string | undefined
}

export interface Page {
  images: Image[]
  /** Whether more images follow. */
  more: boolean
}

/** Why the catalog refuses: the id or name is (or was) taken, there would be too many, the marker of a list is no image (`unknown-marker`), what is asked for is
 *  not there (`missing`), the upload was taken from this process, which was held for dead (`lost`), or the disk has no room (`full`); nothing is changed then. */
export class CatalogError extends Error {
  readonly kind: 'taken' | 'too-many' | 'unknown-marker' | 'missing' | 'lost' | 'full'

  constructor(kind: CatalogError['kind'], message: string) {
    super(message)
    this.name = 'CatalogError'
    this.kind = kind
  }
}

/** What is written in the same moment as a change of an image. */
export interface Along {
  /** An upload that begins with it. Only when the image changes. */
  opens?: Upload
  /** An upload that may go on later, which begins with it. */
  begins?: Resumable
  /** A task that begins with it. Only when the image changes. */
  starts?: NewTask
  /** The key of the upload that ends with it. */
  closes?: string
  /** Images of the same owner whose data may be on its way at once, this one among them. @throws CatalogError `too-many`. */
  uploadsAtMost?: number | undefined
}

export interface Catalog {
  /** Users, projects and roles of the service's own. */
  readonly accounts: Accounts
  /** Tokens, application credentials and wrong passwords of those users. */
  readonly logins: Logins
  /** Of which images there are copies in the caches. */
  readonly cached: CachedImages
  /** With whom images are shared. */
  readonly members: Members
  /** The metadata definitions. */
  readonly metadefs: Metadefs
  /** Processes, uploads and tasks. */
  readonly work: Work
  /** Uploads that may go on later. */
  readonly resumables: Resumables
  /** What projects use. */
  readonly usages: Usages
  /** @param imagesAtMost Images that its owner may have, this one among them.
   *  @throws CatalogError `taken`, also for the id of a deleted image; `too-many`. */
  create(image: NewImage, imagesAtMost?: number): Promise<Image>
  /** Takes an image over as another service had it, with times, data and members. @param deletedAt For one that is deleted: only its id is kept.
   *  @throws CatalogError `taken`. */
  adopt(image: Image, members: readonly Member[], deletedAt?: number): Promise<void>
  /** Whether there is, or was, an image with this id. */
  isTaken(id: string): Promise<boolean>
  get(id: string): Promise<Image | undefined>
  /** @throws CatalogError `unknown-marker`. */
  list(query: ListQuery): Promise<Page>
  /** Reads an image, changes it and writes it, with nobody in between. What `change` throws leaves everything as it was and reaches the caller;
   *  `undefined` from it means that there is nothing to write. Resolves to the image as it is then; undefined when there is none.
   *  @throws CatalogError `lost` when the upload that it closes is not there any more; nothing is changed then. */
  update(id: string, change: (image: Image) => Image | undefined, along?: Along): Promise<Image | undefined>
  /** Takes an image out of every list; its id stays taken. `allowed` may throw to forbid it. Resolves to the image as it was. */
  remove(id: string, allowed: (image: Image) => void): Promise<Image | undefined>
  close(): Promise<void>
}
