/** Catalogues of checksum files: folders of images with the digests of all of them in a file that is signed. Two spellings of such files: that of `sha512sum` (digest, then name) and that of BSD
 *  (`SHA256 (name) = digest`), which Fedora and Rocky use, with sizes in comments. */
import { MoraineError } from '@moraine/engine'
import type { ChecksumsLayout, CloudImage, Release } from './definition.ts'
import { checkName, digestOf } from './names.ts'
import { checkAge, type Reading, readBeside, readInside, type SignedText } from './read.ts'

/** What of a catalogue is read: each release and processor is a folder of its own. */
export interface Wanted {
  readonly releases: readonly Release[]
  readonly architectures: readonly string[]
  /** Undefined: the newest alone. */
  readonly serials: { readonly date?: string | undefined; readonly most: number } | undefined
}

/** Lines of one file of checksums, and such files in one folder. */
const mostLines = 100_000
const mostSums = 200
const longestLine = 4096
const longestName = 255

/** The images of the folders that are asked for.
 *  @throws MoraineError `denied`, `invalid`, `missing`, `limit`, `io` */
export async function readChecksums(reading: Reading, layout: ChecksumsLayout, wanted: Wanted): Promise<CloudImage[]> {
  const images = new Map<string, CloudImage>()
  for (const release of wanted.releases) {
    for (const serial of await serialsOf(reading, layout, release, wanted)) {
      for (const architecture of wanted.architectures) {
        const place = { release, serial, architecture }
        for (const image of await readFolder(reading, layout, place)) {
          if (image.architecture === architecture) images.set(image.path, image)
        }
      }
    }
  }
  return [...images.values()]
}

interface Folder {
  release: Release
  serial: string
  architecture: string
}

/** The serials of a release, the newest first; one that is empty where there are none. */
async function serialsOf(
  { mirror, signal }: Reading,
  { serials }: ChecksumsLayout,
  release: Release,
  wanted: Wanted,
): Promise<string[]> {
  if (serials === undefined) return ['']
  const pattern = new RegExp(serials.pattern)
  const folder = filled(serials.folder, { release, serial: '', arch: '' })
  const found = (await mirror.list(folder, signal)).flatMap((name) => pattern.exec(name)?.[1] ?? [])
  const newest = found.toSorted().toReversed()
  const { date, most } = wanted.serials ?? { date: undefined, most: 1 }
  return newest.filter((serial) => date === undefined || serial.startsWith(date)).slice(0, most)
}

/** The name of a processor as the distribution has it. */
function ownName({ architectures }: ChecksumsLayout, architecture: string): string | undefined {
  return Object.hasOwn(architectures, architecture) ? architectures[architecture] : undefined
}

async function readFolder(reading: Reading, layout: ChecksumsLayout, place: Folder): Promise<CloudImage[]> {
  const arch = ownName(layout, place.architecture)
  if (arch === undefined) return []
  const folder = filled(layout.folder, { ...place, arch })
  const names = await sumsIn(reading, layout, folder, { ...place, arch })
  const images: CloudImage[] = []
  for (const name of names) {
    const read = await readSums(reading, layout, folder + name)
    if (read === undefined) continue
    if (read.signed !== undefined) checkAge(reading, folder + stableName(name), read.signed.at, read.place)
    images.push(...imagesIn(reading, layout, place, read, folder))
  }
  return images
}

/** Names of files of checksums change with each build; what was seen is remembered for all of a folder. */
function stableName(name: string): string {
  return name.replace(/[0-9.]+/g, '*')
}

async function sumsIn(
  { mirror, signal }: Reading,
  { sums }: ChecksumsLayout,
  folder: string,
  place: Folder & { arch: string },
): Promise<string[]> {
  if ('name' in sums) return [filled(sums.name, place)]
  const pattern = new RegExp(filled(sums.pattern, place, escaped))
  const found = (await mirror.list(folder, signal)).filter((name) => pattern.test(name))
  if (found.length > mostSums) {
    throw new MoraineError('limit', `there are more than ${mostSums} files of checksums`, {
      path: mirror.place(folder),
    })
  }
  return found
}

function readSums(reading: Reading, { signature }: ChecksumsLayout, path: string): Promise<SignedText | undefined> {
  switch (signature.form) {
    case 'inside':
      return readInside(reading, path)
    case 'beside': {
      const folder = path.slice(0, path.lastIndexOf('/') + 1)
      const sums = path.slice(folder.length)
      return readBeside(
        reading,
        path,
        signature.names.map((name) => folder + name.replace('{sums}', sums)),
      )
    }
    case 'image':
      // Each image has a signature of its own, which is verified with the image.
      return readBeside({ ...reading, keyring: undefined }, path, [])
  }
}

/** The images that a file of checksums names; what else it names is not looked at.
 *  @throws MoraineError `invalid`, `denied`, `limit` */
export function* imagesIn(
  { definition, stream, now }: Pick<Reading, 'definition' | 'stream' | 'now'>,
  layout: ChecksumsLayout,
  { release, serial, architecture }: Folder,
  { text, place, path }: Pick<SignedText, 'text' | 'place' | 'path'>,
  folder: string,
): Generator<CloudImage> {
  const pattern = new RegExp(
    filled(layout.file, { release, serial, arch: ownName(layout, architecture) ?? '' }, escaped),
  )
  const debianNames = new Map(Object.entries(layout.architectures).map(([name, own]) => [own, name]))
  const { version } = release
  for (const { name, digest, size } of readLines(text, layout.algorithm, place, path)) {
    const found = pattern.exec(name)?.groups
    if (found === undefined) continue
    checkName(name, place, 'name')
    const { kind = '', firmware, flavour, extension = '' } = found
    yield {
      distribution: definition.name,
      stream,
      release: release.codename ?? version,
      version,
      title: release.title ?? version,
      lts: release.lts === true,
      supported: release.eol === undefined || new Date(release.eol) > now,
      eol: release.eol,
      aliases: [],
      architecture: debianNames.get(found.arch ?? '') ?? architecture,
      kind: `${[kind, firmware, flavour].filter((part) => part !== undefined).join('-')}.${extension}`,
      serial: found.serial ?? serial,
      label: stream,
      name,
      path: folder + name,
      size,
      algorithm: layout.algorithm,
      digest,
      signature: layout.signature.form === 'image' ? `${folder}${name}${layout.signature.suffix}` : undefined,
      contentId: `${definition.name}:${stream}`,
      product: `${definition.name}:${version}:${architecture}:${kind}`,
      item: name,
    }
  }
}

/** One line of a file of checksums. */
interface Line {
  name: string
  digest: string
  size: number | undefined
}

/** Reads a file of checksums of either spelling.
 *  @throws MoraineError `invalid` for a digest that is none, and for two of one name; `limit` */
export function readLines(text: string, algorithm: 'sha256' | 'sha512', place: string, path: string): Line[] {
  const lines = text.split(/\r?\n/)
  if (lines.length > mostLines) {
    throw new MoraineError('limit', `it has more than ${mostLines} lines`, { path: place })
  }
  const sizes = new Map<string, number>()
  const found = new Map<string, Line>()
  for (const [at, written] of lines.entries()) {
    const line = written.trimEnd()
    if (line.length > longestLine) {
      throw new MoraineError('limit', `a line has more than ${longestLine} characters`, {
        path: place,
        field: `line ${at + 1}`,
      })
    }
    const [, sized, size] = /^#\s*(\S+):\s*(\d{1,15}) bytes$/.exec(line) ?? []
    if (sized !== undefined) sizes.set(sized, Number(size))
    if (/^\s*(#|$)/.test(line)) continue
    const { name, said } = parseLine(line, algorithm, path)
    // No file system has longer names, and no pattern has to be tried on one.
    if (name === undefined || name.length > longestName) continue
    const digest = digestOf(algorithm, said)
    if (digest === undefined) {
      throw new MoraineError('invalid', 'this is no digest', {
        path: place,
        field: `line ${at + 1}`,
        value: JSON.stringify(said.slice(0, 160)),
        rule: `${algorithm}, in hexadecimal digits`,
      })
    }
    const before = found.get(name)
    if (before !== undefined && before.digest !== digest) {
      throw new MoraineError('invalid', `there are two digests of ${name}`, { path: place, field: `line ${at + 1}` })
    }
    found.set(name, { name, digest, size: sizes.get(name) })
  }
  return [...found.values()]
}

function parseLine(line: string, algorithm: string, path: string): { name: string | undefined; said: string } {
  const bsd = /^(\w+) \((.+)\) = (\S+)$/.exec(line)
  if (bsd !== null) {
    const [, kind = '', name, said = ''] = bsd
    return { name: kind.toLowerCase() === algorithm ? name : undefined, said }
  }
  const plain = /^(\S+) [ *](.+)$/.exec(line)
  if (plain !== null) return { name: plain[2], said: plain[1] ?? '' }
  // A file of one digest alone has the name of what it is of.
  const own = path.slice(path.lastIndexOf('/') + 1).replace(/\.(sha256|sha512)$/, '')
  return { name: own, said: line.trim() }
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}

function filled(
  template: string,
  { release, serial, arch }: { release: Release; serial: string; arch: string },
  as: (text: string) => string = (text) => text,
): string {
  const values: Record<string, string> = {
    version: release.version,
    codename: release.codename ?? release.version,
    serial,
    arch,
  }
  return template.replace(/\{(version|codename|serial|arch)\}/g, (_, name: string) => as(values[name] ?? ''))
}
