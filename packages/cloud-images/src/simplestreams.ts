/** Simplestreams: an index names files of products, those name versions, and those items. What stands on a higher level holds for the lower ones unless they say otherwise.
 *  Source: Ubuntu's simplestreams, `doc/README` and its Python library, which the tests compare with. */
import { MoraineError } from '@moraine/engine'
import { architectureOf, type CloudImage, type SimplestreamsLayout } from './definition.ts'
import { Fields, parseJson } from './json.ts'
import { checkPath, digestOf } from './names.ts'
import { checkAge, type Reading, readBeside, readInside, type SignedText } from './read.ts'

/** Entries of an index, and images of all its files together. Ubuntu's daily catalogue lists some fifty thousand. */
const mostEntries = 1000
const mostImages = 500_000

/** All images of a catalogue of simplestreams.
 *  @throws MoraineError `denied`, `invalid`, `missing`, `limit`, `io` */
export async function readSimplestreams(reading: Reading, layout: SimplestreamsLayout): Promise<CloudImage[]> {
  const { root, entries: index } = await readIndex(reading, layout)
  const images: CloudImage[] = []
  for (const { contentId, path } of index) {
    const products = await readSigned(reading, root + path)
    if (products === undefined) {
      throw new MoraineError('missing', 'the index names a file that is not there', {
        path: reading.mirror.place(root + path),
      })
    }
    for (const image of imagesOf(reading, products, contentId, root)) {
      if (images.length >= mostImages) {
        throw new MoraineError('limit', `the catalogue lists more than ${mostImages} images`, { path: products.place })
      }
      images.push(image)
    }
  }
  return images
}

const indexNames = ['streams/v1/index.sjson', 'streams/v1/index.json'] as const

async function readIndex(
  reading: Reading,
  layout: SimplestreamsLayout,
): Promise<{ root: string; entries: { contentId: string; path: string }[] }> {
  // A mirror is a copy of everything, or of this stream alone.
  for (const root of new Set([layout.path, ''])) {
    for (const name of indexNames) {
      const read = await readSigned(reading, root + name)
      if (read !== undefined) return { root, entries: entriesOf(reading, read, root) }
    }
  }
  throw new MoraineError('missing', 'there is no catalogue of simplestreams', {
    path: reading.mirror.base,
    rule: `${layout.path}${indexNames.join(' or ')} below it`,
  })
}

function entriesOf(reading: Reading, read: SignedText, root: string): { contentId: string; path: string }[] {
  const index = documentOf(read, 'index:1.0')
  checkUpdated(reading, index, `${root}index`, read.place)
  const entries = index.objects('index')
  if (entries.length > mostEntries) {
    throw new MoraineError('limit', `the index has more than ${mostEntries} entries`, { path: read.place })
  }
  const wanted = entries.filter(([, entry]) => {
    const datatype = entry.optionalText('datatype')
    return entry.optionalText('format') === 'products:1.0' && (datatype === undefined || datatype === 'image-downloads')
  })
  return wanted.map(([contentId, entry]) => ({
    contentId,
    path: checkPath(entry.text('path'), read.place, `${entry.place}.path`),
  }))
}

/** A file in whichever way it is signed: `.sjson` around itself, `.json` with `.json.gpg` beside it. */
async function readSigned(reading: Reading, path: string): Promise<SignedText | undefined> {
  if (path.endsWith('.sjson')) return await readInside(reading, path)
  return await readBeside(reading, path, [`${path}.gpg`, `${path}.asc`])
}

function documentOf({ text, place }: SignedText, format: string): Fields {
  const document = new Fields(parseJson(text, place), place, '')
  return document.text('format') === format ? document : document.wrong('format', JSON.stringify(format))
}

function checkUpdated(reading: Reading, document: Fields, id: string, place: string): void {
  const written = document.optionalText('updated')
  if (written === undefined) {
    reading.warn(`${place} does not say when it was updated`)
    return
  }
  const updated = new Date(written)
  if (Number.isNaN(updated.getTime())) document.wrong('updated', 'a time, as in Tue, 23 Apr 2024 10:00:00 +0000')
  checkAge(reading, id, updated, place)
}

/** The images that a file of products lists.
 *  @throws MoraineError `invalid`, `denied`, `limit` */
export function* imagesOf(
  reading: Pick<Reading, 'definition' | 'stream' | 'mirror' | 'seen' | 'now' | 'warn'>,
  read: SignedText,
  contentId: string,
  root: string,
): Generator<CloudImage> {
  const document = documentOf(read, 'products:1.0')
  const own = document.optionalText('content_id')
  if (own !== undefined && own !== contentId)
    document.wrong('content_id', `${JSON.stringify(contentId)}, as in the index`)
  checkUpdated(reading as Reading, document, `${root}${contentId}`, read.place)
  let unusable = 0
  for (const [product, fields] of document.objects('products')) {
    for (const [serial, version] of fields.objects('versions')) {
      for (const [item, one] of version.objects('items')) {
        if (one.optionalText('path') === undefined) continue
        const image = imageOf([one, version, fields, document], { reading, contentId, root, product, serial, item })
        if (image === undefined) unusable++
        else yield image
      }
    }
  }
  if (unusable > 0)
    reading.warn(
      `${read.place} has ${unusable} files without a size or without a digest by SHA-256 or SHA-512; they are left out`,
    )
}

interface Place {
  reading: Pick<Reading, 'definition' | 'stream' | 'now'>
  contentId: string
  root: string
  product: string
  serial: string
  item: string
}

/** What several levels say of one item; undefined when nothing says which bytes it has. */
function imageOf(levels: readonly [Fields, ...Fields[]], place: Place): CloudImage | undefined {
  const [item] = levels
  const path = checkPath(item.text('path'), item.path, `${item.place}.path`)
  const size = sizeOf(item)
  const digest = digestIn(item)
  if (size === undefined || digest === undefined) return undefined
  const inherited = (name: string): string | undefined =>
    levels.map((level) => level.optionalText(name)).find((value) => value !== undefined)
  const { definition, stream, now } = place.reading
  const version = inherited('version') ?? place.product
  const release = inherited('release') ?? version
  const title = inherited('release_title') ?? version
  const eol = dayOf(inherited('support_eol'))
  const says = levels.map((level) => level.optionalFlag('supported')).find((value) => value !== undefined)
  return {
    distribution: definition.name,
    stream,
    release,
    version,
    title,
    lts: /\bLTS\b/.test(title),
    // A release whose support is bought for longer says so by its flag.
    supported: says ?? (eol === undefined || new Date(eol) > now),
    eol,
    aliases: (inherited('aliases') ?? '').split(',').filter((alias) => alias !== ''),
    architecture: architectureOf(inherited('arch') ?? 'all'),
    kind: inherited('ftype') ?? place.item,
    serial: place.serial,
    label: inherited('label') ?? '',
    name: path.slice(path.lastIndexOf('/') + 1),
    path: place.root + path,
    size,
    ...digest,
    signature: undefined,
    contentId: place.contentId,
    product: place.product,
    item: place.item,
  }
}

/** `support_eol` is a day. */
function dayOf(written: string | undefined): string | undefined {
  return written !== undefined && /^\d{4}-\d{2}-\d{2}$/.test(written) ? written : undefined
}

function sizeOf(item: Fields): number | undefined {
  const written = item.own('size')
  if (written === undefined) return undefined
  // Some writers make texts of numbers.
  const size = typeof written === 'string' && /^\d{1,15}$/.test(written) ? Number(written) : written
  if (typeof size === 'number' && Number.isSafeInteger(size) && size >= 0) return size
  return item.wrong('size', 'bytes, as a whole number')
}

/** MD5 alone proves nothing any more. */
function digestIn(item: Fields): Pick<CloudImage, 'algorithm' | 'digest'> | undefined {
  for (const algorithm of ['sha512', 'sha256'] as const) {
    const written = item.optionalText(algorithm)
    if (written === undefined) continue
    const digest = digestOf(algorithm, written)
    return digest === undefined ? item.wrong(algorithm, 'a digest in hexadecimal digits') : { algorithm, digest }
  }
  return undefined
}
