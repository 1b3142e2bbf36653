/** What the service knows about an image, and which way its status may go. */
import type { JsonObject } from './json.ts'

/** Where an image is in its life. */
export type ImageStatus = 'queued' | 'saving' | 'uploading' | 'importing' | 'active' | 'deactivated'

export type Visibility = 'public' | 'community' | 'shared' | 'private'

/** The name of the store of a service that has only one. */
export const singleStore = 'default'

/** A copy of an image's data. */
export interface Location {
  /** The name of a store in the settings. */
  readonly store: string
  /** What the store calls it: a name that the service gave, or the address of data that is kept elsewhere. */
  readonly key: string
  /** `staged` data waits to be imported and is shown to nobody. */
  readonly status: 'active' | 'staged'
  /** What clients said about it. */
  readonly metadata: JsonObject
}

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
  /** The copies of its data. */
  locations: readonly Location[]
}

/** What a client may say about an image, custom properties aside. */
export type Attributes = Pick<
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
  | 'tags'
>

/** What a caller says about a new image; the catalog adds status and times. */
export type NewImage = Pick<Image, 'id'> & Partial<Attributes & Pick<Image, 'properties'>>

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
    locations: [],
  }
}

const ways: Readonly<Record<ImageStatus, readonly ImageStatus[]>> = {
  queued: ['saving', 'uploading', 'importing', 'active'],
  saving: ['active', 'queued'],
  uploading: ['importing', 'queued'],
  importing: ['active', 'queued'],
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
    locations: [],
  }
}

/** The copies that can be read. */
export function readableLocations({ locations }: Image): Location[] {
  return locations.filter(({ status }) => status === 'active')
}
