/** What a catalogue is: data. Where it lies, how its images are listed, and by whose keys they are verified. No catalogue has code of its own. */

/** Names of processors as Debian and Ubuntu write them; what a distribution calls them otherwise stands in its definition. */
export type Architecture = string

/** A catalogue of simplestreams: an index that names files of products, each signed.
 *  Source: Ubuntu's simplestreams, `doc/README`. */
export interface SimplestreamsLayout {
  readonly layout: 'simplestreams'
  /** From the catalogue's base to the folder that holds `streams/v1`; ends with `/` or is empty. */
  readonly path: string
}

/** A release that a catalogue of checksum files has; simplestreams tell their own. */
export interface Release {
  readonly version: string
  readonly codename?: string
  /** As people call it, as in `24.04 LTS`. */
  readonly title?: string
  readonly lts?: true
  /** The day on which support ends, `YYYY-MM-DD`. */
  readonly eol?: string
}

/** A catalogue of folders that hold images, a file of checksums, and a signature. In all templates `{version}`, `{codename}`, `{arch}` (the distribution's own name) and `{serial}` stand for
 *  what is asked for. */
export interface ChecksumsLayout {
  readonly layout: 'checksums'
  /** Where folders of several dates stand: the folder that is listed, and what their names look like; its first group is the serial. The newest is taken. */
  readonly serials?: { readonly folder: string; readonly pattern: string }
  /** The folder of the images, from the catalogue's base. */
  readonly folder: string
  /** The releases that are known by more than their number, the newest first. Another number can be asked for all the same. */
  readonly releases: readonly Release[]
  /** Processors that there are images for: Debian's name, the distribution's own. */
  readonly architectures: Readonly<Record<Architecture, string>>
  /** The files of checksums: one of a name, or all those in the folder whose name fits a pattern. */
  readonly sums: { readonly name: string } | { readonly pattern: string }
  readonly algorithm: 'sha256' | 'sha512'
  /** Where the signature is: around the checksums (`inside`), beside them under the first of these names that is there (`{sums}` is the name of the file), or beside each image (`image`). */
  readonly signature:
    | { readonly form: 'inside' }
    | { readonly form: 'beside'; readonly names: readonly string[] }
    | { readonly form: 'image'; readonly suffix: string }
  /** What names of images look like, with the groups `kind`, and where they are in the name `arch` and `serial`. */
  readonly file: string
}

/** One catalogue. */
export interface Definition {
  /** As in `ubuntu`; also the value of `os_distro`. */
  readonly name: string
  readonly title: string
  /** URL of the publisher; ends with `/`. A mirror takes its place. */
  readonly base: string
  /** The keyring that is shipped for it; undefined where none could be had. */
  readonly keyring?: 'ubuntu' | 'debian' | 'fedora' | 'rocky'
  /** The streams, the default first. */
  readonly streams: Readonly<Record<string, SimplestreamsLayout | ChecksumsLayout>>
  /** Kinds of images that are disks, the most usual first, with their format and, where they boot no other way, their firmware. Other kinds are files, and are left as they are. */
  readonly disks: Readonly<Record<string, { readonly format: string; readonly firmware?: 'uefi' }>>
  /** Days after which a catalogue that was not updated looks held back. */
  readonly staleDays: number
  /** Properties that an image service gives the images: those of all processors (`*`), and of one. */
  readonly properties: Readonly<Record<Architecture | '*', Readonly<Record<string, string>>>>
}

/** What a catalogue says of one image. */
export interface CloudImage {
  /** The definition's name. */
  readonly distribution: string
  readonly stream: string
  /** As in `noble`; the version where a distribution has no such names. */
  readonly release: string
  /** As in `24.04`. */
  readonly version: string
  /** As in `24.04 LTS`. */
  readonly title: string
  readonly lts: boolean
  /** Whether the publisher still updates this release, as far as is known. */
  readonly supported: boolean
  /** The day on which support ends, `YYYY-MM-DD`. */
  readonly eol: string | undefined
  /** More names of the release. */
  readonly aliases: readonly string[]
  readonly architecture: Architecture
  /** As in `disk1.img`: in simplestreams the `ftype`. */
  readonly kind: string
  /** Which of the builds, as in `20240423.1`: compares as text, later ones are greater. */
  readonly serial: string
  /** `release`, `daily`, `beta` … */
  readonly label: string
  /** Name of the file. */
  readonly name: string
  /** From the base of the mirror to the file. */
  readonly path: string
  /** Bytes; undefined where the catalogue does not say. */
  readonly size: number | undefined
  readonly algorithm: 'sha256' | 'sha512'
  /** Hexadecimal, lower case. */
  readonly digest: string
  /** From the base of the mirror to a signature of the image itself, where the catalogue has such. */
  readonly signature: string | undefined
  /** What identifies the image in its catalogue: content id, product, and item. */
  readonly contentId: string
  readonly product: string
  readonly item: string
}

/** Debian's names of processors, by those that others use. */
const otherNames: Readonly<Record<string, Architecture>> = {
  x86_64: 'amd64',
  x64: 'amd64',
  aarch64: 'arm64',
  armv7l: 'armhf',
  armv7: 'armhf',
  arm: 'armhf',
  x86: 'i386',
  i686: 'i386',
  ia32: 'i386',
  ppc64le: 'ppc64el',
  ppc64: 'ppc64el',
}

/** A processor's name as Debian writes it, from any usual spelling. */
export function architectureOf(name: string): Architecture {
  const lower = name.toLowerCase()
  return Object.hasOwn(otherNames, lower) ? (otherNames[lower] as string) : lower
}

const glanceNames: Readonly<Record<Architecture, string>> = {
  amd64: 'x86_64',
  arm64: 'aarch64',
  armhf: 'armv7l',
  i386: 'i686',
  ppc64el: 'ppc64le',
}

/** The value of the property `architecture` in an image service. Source: Glance's "Useful image properties". */
export function glanceArchitecture(architecture: Architecture): string {
  return Object.hasOwn(glanceNames, architecture) ? (glanceNames[architecture] as string) : architecture
}
