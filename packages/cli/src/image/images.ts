/** Images as the Image API v2 shows and changes them. Source: Image API v2 reference; measured against Glance 25.1. */
import { Failure } from '../failure.ts'
import { isMapping, type Mapping } from './clouds.ts'
import { plainText } from './error-text.ts'
import { bodyJson, discard, HttpFailure } from './http.ts'
import type { Session } from './session.ts'

/** An image as the API shows it: what every image has, and its own properties beside. */
export interface ImageDocument {
  readonly id: string
  readonly name: string | null
  readonly status: string
  readonly size: number | null
  readonly disk_format: string | null
  readonly visibility: string
  readonly checksum?: string | null
  readonly os_hash_algo?: string | null
  readonly os_hash_value?: string | null
  readonly tags: readonly string[]
  readonly [name: string]: unknown
}

/** One step of a JSON patch, version 2.1 of OpenStack's media type. */
export interface PatchStep {
  op: 'add' | 'replace' | 'remove'
  path: string
  value?: unknown
}

const patchType = 'application/openstack-images-v2.1-json-patch'
/** The most that Glance gives at once. */
const pageSize = 1000

/** What all images have; everything else in a document is a property of that image alone. */
export const baseAttributes: ReadonlySet<string> = new Set(
  (
    'id name status size virtual_size disk_format container_format visibility owner protected min_disk min_ram os_hidden checksum os_hash_algo ' +
    'os_hash_value tags created_at updated_at file self schema direct_url locations stores'
  ).split(' '),
)

/** @throws Failure when the answer is no image. */
function asImage(value: unknown): ImageDocument {
  if (isMapping(value) && typeof value.id === 'string' && typeof value.status === 'string') {
    return { ...value, tags: Array.isArray(value.tags) ? value.tags : [] } as unknown as ImageDocument
  }
  throw new Failure('the service does not answer with an image: is that an image service?')
}

/** The path of an image, or of something of it. */
export function imagePath(id: string, more = ''): string {
  return `/v2/images/${encodeURIComponent(id)}${more}`
}

/** Images in the service's order, page after page, at most `most`. */
export async function* listImages(
  session: Session,
  filters: readonly (readonly [name: string, value: string])[],
  most = Number.POSITIVE_INFINITY,
): AsyncIterable<ImageDocument> {
  const query = new URLSearchParams(filters.map(([name, value]): [string, string] => [name, value]))
  query.set('limit', String(Math.min(pageSize, most)))
  let path = `/v2/images?${query}`
  const seen = new Set<string>()
  for (let left = most; left > 0; ) {
    const page = await session.get(path)
    const images = isMapping(page) ? page.images : undefined
    if (!Array.isArray(images))
      throw new Failure('the service does not answer with a list of images: is that an image service?')
    for (const image of images.slice(0, left)) yield asImage(image)
    left -= images.length
    const next = isMapping(page) && typeof page.next === 'string' ? page.next : undefined
    // A service that leads in a circle must not hold us.
    if (next === undefined || images.length === 0 || seen.has(next)) return
    seen.add(next)
    path = next.slice(Math.max(0, next.indexOf('/v2/')))
  }
}

/** The image of an id or a name. Names are looked for among the visible, the hidden and the community's images, in this order.
 *  @throws Failure when there is none, or several of this name. */
export async function findImage(session: Session, name: string): Promise<ImageDocument> {
  if (/^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i.test(name)) {
    try {
      return asImage(await session.get(imagePath(name)))
    } catch (error) {
      if (!(error instanceof HttpFailure) || error.status !== 404) throw error
    }
  }
  const places = [
    [],
    [['os_hidden', 'true']],
    [['visibility', 'community']],
    [
      ['visibility', 'shared'],
      ['member_status', 'all'],
    ],
  ]
  for (const place of places as [string, string][][]) {
    const found: ImageDocument[] = []
    for await (const image of listImages(session, [['name', nameFilter(name)], ...place], 20)) found.push(image)
    const [first] = found
    if (first === undefined) continue
    if (found.length === 1) return first
    const lines = found.map((image) => `  ${image.id}  ${image.status}, ${image.visibility}, made ${image.created_at}`)
    throw new Failure(`several images are called '${plainText(name)}'`, {
      hint: `Say which by its id:\n${lines.join('\n')}`,
    })
  }
  throw new Failure(`no image has the id or name '${plainText(name)}'`)
}

/** The service reads `in:` as the beginning of a list. */
function nameFilter(name: string): string {
  return name.startsWith('in:') ? `in:"${name.replaceAll('"', '\\"')}"` : name
}

/** The id of an image that is given by id or name. */
export async function findImageId(session: Session, name: string): Promise<string> {
  return (await findImage(session, name)).id
}

/** One image by its id. */
export async function getImage(session: Session, id: string): Promise<ImageDocument> {
  return asImage(await session.get(imagePath(id)))
}

/** A new image without data. */
export async function createImage(session: Session, attributes: Mapping): Promise<ImageDocument> {
  const answer = await session.call('POST', '/v2/images', attributes)
  return asImage(await bodyJson(answer))
}

/** Changes an image, all at once or not at all. */
export async function patchImage(session: Session, id: string, steps: readonly PatchStep[]): Promise<ImageDocument> {
  const answer = await session.call('PATCH', imagePath(id), steps, patchType)
  return asImage(await bodyJson(answer))
}

/** Deletes an image. */
export async function deleteImage(session: Session, id: string): Promise<void> {
  await done(session, 'DELETE', imagePath(id))
}

/** A call whose answer has nothing in it. */
export async function done(
  session: Session,
  method: 'POST' | 'PUT' | 'DELETE',
  path: string,
  body?: unknown,
): Promise<void> {
  const answer = await session.call(method, path, body)
  await discard(answer)
}

/** A list within a document, as in `{"members": […]}`. */
export async function getList(session: Session, path: string, name: string): Promise<Mapping[]> {
  const document = await session.get(path)
  const list = isMapping(document) ? document[name] : undefined
  if (!Array.isArray(list)) throw new Failure(`the service answers without '${name}': is that an image service?`)
  return list.filter(isMapping)
}

/** `name` as one step of a JSON pointer. */
export function pointer(name: string): string {
  return `/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`
}
