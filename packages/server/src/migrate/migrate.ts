/** Takes over what a Glance keeps: images with all that belongs to them, their data, and the metadata definitions. It may be broken off and begun again: what is there already stays. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Kysely } from 'kysely'
import type { Catalog } from '../catalog/catalog.ts'
import { emptied, type Image, type ImageStatus, type Location } from '../catalog/image.ts'
import { newKey } from '../import/new-key.ts'
import type { Store, Stores } from '../store/stores.ts'
import type { GlanceTables } from './glance-database.ts'
import { countTasks, type GlanceImage, readImages } from './glance-images.ts'
import { readNamespaces } from './glance-metadefs.ts'

/** `link`: a second name for the same file where that can be, else a copy; `copy`: always a copy, whose digest is compared; `none`: images only. */
export const dataModes = ['link', 'copy', 'none'] as const
export type DataMode = (typeof dataModes)[number]

export interface MigrateOptions {
  data: DataMode
  /** Changes nothing. */
  dryRun: boolean
  /** Folders of image data, by the store's name. */
  folders: ReadonlyMap<string, readonly string[]>
  /** This process among those that share the catalog. */
  workerId: string
  signal?: AbortSignal | undefined
}

/** What happens to one thing, or would. */
export interface Step {
  readonly kind: 'image' | 'deleted-image' | 'namespace' | 'tasks'
  readonly id: string
  readonly action: 'taken' | 'completed' | 'kept' | 'left'
  /** What happened to its data. */
  readonly data?: 'linked' | 'copied' | 'web' | 'none' | undefined
  readonly bytes?: number | undefined
  /** What is lost or different, for people. */
  readonly notes: readonly string[]
}

/** @throws MoraineError, and what the database and the stores throw. */
export async function* migrate(
  glance: Kysely<GlanceTables>,
  catalog: Catalog,
  stores: Stores,
  options: MigrateOptions,
): AsyncGenerator<Step> {
  for await (const { facts, parts } of readNamespaces(glance)) {
    options.signal?.throwIfAborted()
    const isThere = (await catalog.metadefs.get(facts.name)) !== undefined
    if (!isThere && !options.dryRun) await catalog.metadefs.create(facts, parts)
    const notes = isThere ? ['there is one of that name already, which stays as it is'] : []
    yield { kind: 'namespace', id: facts.name, action: isThere ? 'kept' : 'taken', notes }
  }
  for await (const image of readImages(glance)) {
    options.signal?.throwIfAborted()
    const isGone = image.deletedAt !== null || ['deleted', 'pending_delete', 'killed'].includes(image.status)
    yield isGone ? await bury(catalog, image, options) : await takeImage(catalog, stores, image, options)
  }
  const tasks = await countTasks(glance)
  const notes = ['tasks are not taken: what they did is done, and what they wait for is left to their owners']
  if (tasks > 0) yield { kind: 'tasks', id: String(tasks), action: 'left', notes }
}

/** The id of a deleted image is never given again. */
async function bury(catalog: Catalog, image: GlanceImage, { dryRun }: MigrateOptions): Promise<Step> {
  const isKnown = await catalog.isTaken(image.id)
  if (!isKnown && !dryRun) await catalog.adopt(ofGlance(image), [], image.deletedAt ?? image.updatedAt)
  return { kind: 'deleted-image', id: image.id, action: isKnown ? 'kept' : 'taken', notes: [] }
}

async function takeImage(catalog: Catalog, stores: Stores, image: GlanceImage, options: MigrateOptions): Promise<Step> {
  const known = await catalog.get(image.id)
  const isWhole = image.status === 'active' || image.status === 'deactivated'
  const kind = 'image'
  // One that waits for its data gets it, now that it can be had: it was taken before without.
  const waits = known !== undefined && known.status === 'queued' && isWhole && options.data !== 'none'
  if ((known !== undefined && !waits) || (known === undefined && (await catalog.isTaken(image.id)))) {
    return { kind, id: image.id, action: 'kept', notes: [] }
  }
  const notes: string[] = []
  if (!isWhole && image.status !== 'queued')
    notes.push(`it was ${image.status}: it is queued now, and waits for its data`)
  const found = isWhole && options.data !== 'none' ? await findData(stores, image, options, notes) : undefined
  if (isWhole && found === undefined) {
    notes.push(
      options.data === 'none' ? 'without its data, it is queued' : 'none of its data can be taken: it is queued',
    )
  }
  const brought = found === undefined ? undefined : await bring(catalog, image, found, options, notes)
  if (found !== undefined && brought === undefined) notes.push('it is queued')
  const whole = ofGlance(image)
  const after: Image =
    brought === undefined
      ? emptied(whole)
      : { ...whole, status: image.status as ImageStatus, locations: [brought.location] }
  if (waits && brought === undefined) return { kind, id: image.id, action: 'kept', notes }
  if (!options.dryRun) {
    if (waits) {
      const { status, size, virtualSize, checksum, hashAlgorithm, hashValue, locations } = after
      const data = { status, size, virtualSize, checksum, hashAlgorithm, hashValue, locations }
      await catalog.update(image.id, (now) => (now.status === 'queued' ? { ...now, ...data } : undefined))
    } else await catalog.adopt(after, image.members)
    if (brought?.upload !== undefined) await catalog.work.closeUpload(brought.upload)
  }
  return {
    ...{ kind, id: image.id, action: waits ? 'completed' : 'taken', notes },
    ...{ data: brought?.how ?? 'none', bytes: brought === undefined ? 0 : (image.size ?? 0) },
  }
}

type Found = { store: Store } & ({ path: string; isLinkable: boolean } | { url: string })

/** The first location whose data can be had; the others are told of. */
async function findData(
  stores: Stores,
  image: GlanceImage,
  { data, folders }: MigrateOptions,
  notes: string[],
): Promise<Found | undefined> {
  let found: Found | undefined
  for (const { url, store } of image.locations) {
    const scheme = URL.parse(url)?.protocol.replace(/:$/, '') ?? '?'
    // Addresses of other stores may have a login in them.
    const shown = scheme === 'file' || scheme.startsWith('http') ? url : `${scheme}:…`
    if (found !== undefined) {
      notes.push(`another copy is left behind: ${shown}`)
    } else if (scheme === 'file') {
      const path = await readablePath(url, folders.get(store) ?? [...folders.values()].flat(), image.size)
      if (path === undefined) notes.push(`no whole data at ${url}`)
      else found = { store: stores.default, path, isLinkable: data === 'link' }
    } else if (scheme === 'http' || scheme === 'https') {
      const web = stores.all.find(({ type }) => type === 'http')
      if (web === undefined) notes.push(`its data is on the web, and the settings name no store of type http: ${url}`)
      else found = { store: web, url }
    } else {
      notes.push(`its data is in a store of another kind, which is not read here: ${shown}`)
    }
  }
  return found
}

/** Where the file is: as it was written down, or under the same name in one of the store's folders. */
async function readablePath(url: string, folders: readonly string[], size: number | null): Promise<string | undefined> {
  let path: string
  try {
    path = fileURLToPath(url)
  } catch {
    return undefined
  }
  for (const candidate of [path, ...folders.map((folder) => join(folder, basename(path)))]) {
    const facts = await stat(candidate).catch(() => undefined)
    if (facts?.isFile() && facts.size === size) return candidate
  }
  return undefined
}

interface Brought {
  location: Location
  how: 'linked' | 'copied' | 'web'
  /** The upload that stands for it until the image does. */
  upload?: string
}

async function bring(
  catalog: Catalog,
  image: GlanceImage,
  found: Found,
  { dryRun, workerId, signal }: MigrateOptions,
  notes: string[],
): Promise<Brought | undefined> {
  const { store } = found
  const at = (key: string): Location => ({ store: store.id, key, status: 'active', metadata: {} })
  if ('url' in found) return { location: at(found.url), how: 'web' }
  const key = newKey(image.id)
  const { path, isLinkable } = found
  if (dryRun) return { location: at(key), how: isLinkable ? 'linked' : 'copied' }
  // Written down before there is any data: when this process ends, another one clears it away.
  await catalog.work.openUpload({ key, store: store.id, imageId: image.id, workerId, kind: 'import' })
  if (isLinkable && (await store.data.link?.(key, path))) {
    return { location: at(key), how: 'linked', upload: key }
  }
  const upload = await store.data.begin(key, image.size ?? 0)
  try {
    const algorithm = image.hashAlgorithm ?? 'md5'
    const hash = createHash(algorithm)
    for await (const bytes of createReadStream(path, { highWaterMark: 2 ** 20, signal }) as AsyncIterable<Buffer>) {
      hash.update(bytes)
      await upload.write(bytes)
    }
    const digest = hash.digest('hex')
    const expected = image.hashAlgorithm === null ? image.checksum : image.hashValue
    if (expected !== null && digest !== expected) {
      notes.push(`${path} is damaged: its ${algorithm} digest is ${digest}, and not ${expected}`)
      await upload.abort()
      await catalog.work.closeUpload(key)
      return undefined
    }
    await upload.commit()
  } catch (error) {
    await upload.abort()
    await catalog.work.closeUpload(key)
    throw error
  }
  return { location: at(key), how: 'copied', upload: key }
}

/** The image as ours, with the facts of its data and without the data. What Glance notes in properties while an import runs stays behind. */
function ofGlance({ members: _, deletedAt: __, ...image }: GlanceImage): Image {
  const properties = new Map([...image.properties].filter(([name]) => !name.startsWith('os_glance_')))
  return { ...image, status: 'queued', properties, locations: [] }
}
