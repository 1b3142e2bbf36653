/** What the service knows about an image, and which way its status may go. */

/** Where an image is in its life. `uploading`, `importing` and `pending_delete` belong to parts that are not there yet. */
export type ImageStatus = 'queued' | 'saving' | 'active' | 'deactivated'

export type Visibility = 'public' | 'community' | 'shared' | 'private'

/** One image as the catalog keeps it. Times are seconds since 1970, sizes bytes. */
export interface Image {
  readonly id: string
  name: string | null
  status: ImageStatus
  visibility: Visibility
  owner: string | null
  diskFormat: string | null
  containerFormat: string | null
  /** Bytes of the image data; null until it is there. */
  size: number | null
  /** Bytes of the disk inside; null when unknown. */
  virtualSize: number | null
  /** MD5 of the image data, hexadecimal. */
  checksum: string | null
  hashAlgorithm: string | null
  hashValue: string | null
  protected: boolean
  hidden: boolean
  /** MiB. */
  minRam: number
  /** GiB. */
  minDisk: number
  readonly createdAt: number
  updatedAt: number
  /** Additional properties by name. */
  properties: ReadonlyMap<string, string>
  tags: readonly string[]
  /** The name of the image data in the store; null until it is there. */
  dataKey: string | null
}

/** What a caller says about a new image; the catalog adds status and times. */
export type NewImage = Pick<Image, 'id'> &
  Partial<
    Pick<
      Image,
      | 'name'
      | 'visibility'
      | 'owner'
      | 'diskFormat'
      | 'containerFormat'
      | 'protected'
      | 'hidden'
      | 'minRam'
      | 'minDisk'
      | 'properties'
      | 'tags'
    >
  >

/** A new image as it begins its life. */
export function queuedImage(given: NewImage, now: number): Image {
  return {
    name: null,
    visibility: 'shared',
    owner: null,
    diskFormat: null,
    containerFormat: null,
    protected: false,
    hidden: false,
    minRam: 0,
    minDisk: 0,
    properties: new Map(),
    tags: [],
    ...given,
    status: 'queued',
    size: null,
    virtualSize: null,
    checksum: null,
    hashAlgorithm: null,
    hashValue: null,
    createdAt: now,
    updatedAt: now,
    dataKey: null,
  }
}

const ways: Readonly<Record<ImageStatus, readonly ImageStatus[]>> = {
  queued: ['saving'],
  saving: ['active', 'queued'],
  active: ['deactivated'],
  deactivated: ['active'],
}

/** Whether an image may go from one status to another. */
export function canBecome(from: ImageStatus, to: ImageStatus): boolean {
  return ways[from].includes(to)
}

/** The same image without data, waiting for an upload. */
export function emptied(image: Image): Image {
  return {
    ...image,
    status: 'queued',
    size: null,
    virtualSize: null,
    checksum: null,
    hashAlgorithm: null,
    hashValue: null,
    dataKey: null,
  }
}
