/** Which images of a catalogue are meant: by release, processor, kind and date. */
import { MoraineError } from '@moraine/engine'
import { readChecksums, type Wanted } from './checksums.ts'
import { architectureOf, type ChecksumsLayout, type CloudImage, type Definition, type Release } from './definition.ts'
import type { Reading } from './read.ts'
import { readSimplestreams } from './simplestreams.ts'

/** What is asked for; what is not said is not asked. */
export interface Query {
  /** A codename, a version, an alias of the publisher, `lts` or `latest`. */
  readonly release?: string | undefined
  /** In any usual spelling. */
  readonly architecture?: string | undefined
  /** As in `disk1.img`; undefined: disks of the most usual kind that there is. */
  readonly kind?: string | undefined
  /** A serial or the beginning of one, as in `20240423`; dashes do not count. */
  readonly date?: string | undefined
}

/** Which of the builds of the same image: the newest, or all. */
export type Builds = 'newest' | 'all'

/** Builds of one release that are looked at in catalogues that have a file of checksums for each. */
const mostSerials = 60

/** Reads a catalogue and gives the images that fit, the newest release first, of each the newest build first.
 *  @throws MoraineError `missing` when the catalogue has no such release; what reading throws */
export async function listImages(reading: Reading, query: Query, builds: Builds): Promise<CloudImage[]> {
  const layout = streamOf(reading.definition, reading.stream)
  const read =
    layout.layout === 'simplestreams'
      ? await readSimplestreams(reading, layout)
      : await readChecksums(reading, layout, wantedOf(reading.definition, layout, query, builds))
  return selectImages(reading.definition, read, query, builds)
}

/** The images of a list that fit.
 *  @throws MoraineError `missing` when there is no such release, with what there is in the hint */
export function selectImages(
  definition: Definition,
  images: readonly CloudImage[],
  { release, architecture, kind, date }: Query,
  builds: Builds,
): CloudImage[] {
  const arch = architecture === undefined ? undefined : architectureOf(architecture)
  const ofArch = images.filter((image) => arch === undefined || image.architecture === arch)
  const ofKind = ofArch.filter((image) => kind === undefined || image.kind === kind)
  const ofRelease = release === undefined ? ofKind : withRelease(ofKind, release)
  if (ofRelease.length === 0) throw nothing(definition, images, ofArch, { release, architecture: arch, kind })
  const usual = kind === undefined ? usualKinds(definition, ofRelease) : ofRelease
  const serial = date === undefined ? undefined : serialPrefix(date)
  const ofDate = usual.filter((image) => serial === undefined || image.serial.startsWith(serial))
  if (ofDate.length === 0) {
    const some = [...new Set(usual.map((image) => image.serial))].toSorted().toReversed().slice(0, 5)
    throw new MoraineError('missing', `there is no image of ${date}`, { hint: `The newest are of ${some.join(', ')}.` })
  }
  const sorted = ofDate.toSorted(byAge)
  return builds === 'all' ? sorted : newestOf(sorted)
}

/** The one image that fits best.
 *  @throws MoraineError `missing` */
export async function findImage(reading: Reading, query: Query & { release: string }): Promise<CloudImage> {
  const [first] = await listImages(reading, query, 'newest')
  // The list throws when it would be empty.
  return first as CloudImage
}

/** @throws MoraineError `invalid` */
function serialPrefix(date: string): string {
  const plain = /^\d{4}-\d{2}-\d{2}$/.test(date) ? date.replaceAll('-', '') : date
  if (/^[0-9A-Za-z.-]+$/.test(plain)) return plain
  throw new MoraineError('invalid', `'${date}' is no date and no serial`, {
    rule: 'as in 20240423, 2024-04-23 or 20240423.1',
  })
}

function withRelease(images: readonly CloudImage[], asked: string): CloudImage[] {
  const word = asked.toLowerCase()
  const named = images.filter((image) => namesOf(image).includes(word))
  // What the publisher calls `lts` is that; otherwise it is the newest that has it in its title.
  if (named.length > 0 || (word !== 'lts' && word !== 'latest')) return named
  const finished = images.filter((image) => !image.aliases.includes('devel'))
  const eligible = (finished.length > 0 ? finished : images).filter((image) => word !== 'lts' || image.lts)
  const supported = eligible.filter((image) => image.supported)
  const [newest] = (supported.length > 0 ? supported : eligible).toSorted(byAge)
  return eligible.filter((image) => image.version === newest?.version)
}

function namesOf({ release, version, title, aliases }: CloudImage): string[] {
  return [release, version, title, ...aliases].map((name) => name.toLowerCase())
}

/** Of each release and processor the first kind of disk that is there: builds of `disk1.img` do not compete with those of `vmdk`. */
function usualKinds({ disks }: Definition, images: readonly CloudImage[]): CloudImage[] {
  const rank = new Map(Object.keys(disks).map((kind, at) => [kind, at]))
  const key = ({ version, architecture }: CloudImage) => `${version} ${architecture}`
  const best = new Map<string, number>()
  for (const image of images) {
    const at = rank.get(image.kind)
    if (at !== undefined) best.set(key(image), Math.min(at, best.get(key(image)) ?? at))
  }
  return images.filter((image) => rank.get(image.kind) !== undefined && rank.get(image.kind) === best.get(key(image)))
}

/** Of images that differ by their build alone the first. */
function newestOf(sorted: readonly CloudImage[]): CloudImage[] {
  const first = new Map<string, CloudImage>()
  for (const image of sorted) {
    const key = [image.contentId, image.version, image.architecture, image.kind].join(' ')
    if (!first.has(key)) first.set(key, image)
  }
  return [...first.values()]
}

/** The newest release first, of each the processors by name, of each the newest build first. */
function byAge(one: CloudImage, other: CloudImage): number {
  return (
    compareVersions(other.version, one.version) ||
    compareText(one.architecture, other.architecture) ||
    compareText(one.kind, other.kind) ||
    compareSerials(other.serial, one.serial) ||
    compareText(one.product, other.product)
  )
}

/** Versions by their numbers: 9 is before 10.
 *  @returns less than zero when the first is the older one */
export function compareVersions(one: string, other: string): number {
  const [these, those] = [one.split('.'), other.split('.')]
  for (let at = 0; at < Math.max(these.length, those.length); at++) {
    const difference = Number(these[at] ?? -1) - Number(those[at] ?? -1)
    if (Number.isNaN(difference)) return compareText(one, other)
    if (difference !== 0) return difference
  }
  return 0
}

/** Serials by their numbers, part for part: of `20240423.9` and `20240423.10` the second is newer, of `20240423` and `20240423.1`, too. */
export function compareSerials(one: string, other: string): number {
  const parts = (serial: string) => serial.split(/[.-]/)
  const [these, those] = [parts(one), parts(other)]
  for (let at = 0; at < Math.max(these.length, those.length); at++) {
    const [mine = '', yours = ''] = [these[at], those[at]]
    const difference =
      /^\d+$/.test(mine) && /^\d+$/.test(yours) ? Number(mine) - Number(yours) : compareText(mine, yours)
    if (difference !== 0) return difference
  }
  return 0
}

/** As the C locale sorts. */
function compareText(one: string, other: string): number {
  return one < other ? -1 : one > other ? 1 : 0
}

function nothing(
  { title }: Definition,
  images: readonly CloudImage[],
  ofArch: readonly CloudImage[],
  { release, architecture, kind }: Query,
): MoraineError {
  const asked = [release, architecture, kind].filter((part) => part !== undefined).join(', ')
  const some = (values: string[]) => [...new Set(values)].slice(0, 24).join(', ')
  const hint =
    ofArch.length === 0
      ? `There are images for ${some(images.map((image) => image.architecture).toSorted())}.`
      : `There are releases ${some(ofArch.toSorted(byAge).map((image) => image.release))} and kinds ${some(ofArch.map((image) => image.kind).toSorted())}.`
  return new MoraineError('missing', `${title} has no image of ${asked === '' ? 'any kind' : asked}`, {
    hint: images.length === 0 ? 'The catalogue is empty.' : hint,
  })
}

/** Which folders of a catalogue of checksums are read.
 *  @throws MoraineError `missing`, `invalid` */
function wantedOf(definition: Definition, layout: ChecksumsLayout, query: Query, builds: Builds): Wanted {
  const { releases, architectures } = layout
  const { release, architecture, date } = query
  const arch = architecture === undefined ? undefined : architectureOf(architecture)
  if (arch !== undefined && !Object.hasOwn(architectures, arch)) {
    throw new MoraineError('missing', `${definition.title} has no images for ${arch}`, {
      hint: `There are images for ${Object.keys(architectures).join(', ')}.`,
    })
  }
  const serials = builds === 'newest' && date === undefined ? undefined : { date: prefixOf(date), most: mostSerials }
  return {
    releases: release === undefined ? releases : [releaseOf(definition, releases, release.toLowerCase())],
    architectures: arch === undefined ? Object.keys(architectures) : [arch],
    serials,
  }
}

function prefixOf(date: string | undefined): string | undefined {
  return date === undefined ? undefined : serialPrefix(date)
}

/** A release that nobody has told us of is one all the same: its number is all that is needed. */
function releaseOf({ title }: Definition, releases: readonly Release[], word: string): Release {
  const found = releases.find(({ version, codename }) => version === word || codename === word)
  if (found !== undefined) return found
  if (word === 'latest' || word === 'lts') {
    const newest = releases.find(({ lts }) => word === 'latest' || lts === true)
    if (newest !== undefined) return newest
    throw new MoraineError('missing', `${title} has no releases that are called ${word}`)
  }
  if (/^\d+(\.\d+)*$/.test(word)) return { version: word }
  throw new MoraineError('missing', `${title} has no release '${word}'`, {
    hint: `There are ${releases.map(({ version, codename }) => codename ?? version).join(', ')}.`,
  })
}

/** A stream of a catalogue.
 *  @throws MoraineError `missing` */
export function streamOf({ title, streams }: Definition, stream: string): Definition['streams'][string] {
  const found = Object.hasOwn(streams, stream) ? streams[stream] : undefined
  if (found !== undefined) return found
  throw new MoraineError('missing', `${title} has no stream '${stream}'`, {
    hint: `There are: ${Object.keys(streams).join(', ')}.`,
  })
}
