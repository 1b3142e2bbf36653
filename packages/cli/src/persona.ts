/** The two names this command answers to. All that differs between them stands here; nothing else asks who it is. */
import { MoraineError } from '@moraine/engine'
import type { WhenLost } from './output/streams.ts'

/** Where an image is, as its name on the command line says. */
export type ImagePlace = { kind: 'file'; path: string } | { kind: 'stdio' } | { kind: 'node'; protocol: string }

export interface Persona {
  /** Stands before every message. */
  readonly name: 'moraine' | 'qemu-img'
  /** What the format of this name (the engine's) is called. */
  nameOf(format: string): string
  /** Whether an image may be recognised by its end alone, as a fixed VHD is. */
  readonly probesEnds: boolean
  /** Whether a file packed with gzip, xz, bzip2, zstd, LZ4 or zip is opened as what is inside, and a target so packed when its name says so. */
  readonly wrappers: boolean
  /** Whether a packed image whose order importers mind (streamOptimized of VMDK) is written into a file as it is to a pipe: front to back, in its maker's order. QEMU's own has other layouts. */
  readonly streamsPacked: boolean
  /** Formats that are probed for, by name, where none is given. */
  readonly probed: readonly string[]
  /** Names that formats have only with the engine. */
  readonly unknown: readonly string[]
  /** Errors say all that is known and how to go on; otherwise QEMU's words alone. */
  readonly details: boolean
  /** How progress is shown when nothing more is said than `-p`. */
  readonly progress: 'percent' | 'auto'
  /** What becomes of the command when standard output cannot be written; QEMU never asks. */
  readonly whenOutputIsLost: WhenLost
  /** Verbs and options that QEMU does not have. */
  readonly extensions: boolean
  /** Formats in which it cannot be told what lies where: all of it is data to `map`, `measure` and `compare`. */
  readonly unmapped: readonly string[]
  /** Whether `check` looks at images of this format, or repairs them. */
  checks(format: string, repair: boolean): boolean
  /** Whether the size of an image of this format can be changed. */
  resizes(format: string): boolean
  /** Whether an image of this format can be a base that is committed into: QEMU opens it for reading, and then again for writing. */
  reopens(format: string): boolean
  /** Whether it can be told how large an image of this format would get. */
  measures(format: string): boolean
  /** Formats of whose images `check` tells counts and no single findings, and `info` not that they were left open. */
  readonly taciturn: readonly string[]
  /** `snapshot -d` takes an id too; QEMU looks for names only. */
  readonly deletesById: boolean
  /** `snapshot -a` goes back in an image with bitmaps, which then say that everything is dirty; QEMU refuses. */
  readonly appliesOverBitmaps: boolean
  /** `dd` counts the blocks that are skipped among those that are copied, as QEMU 7.2 does. */
  readonly countsSkipped: boolean
  /** A wrong use of one verb points to: */
  usageHint(verb: string | undefined): string
  /** @throws MoraineError `unsupported` or `invalid`: a name of something that cannot be opened. */
  readName(name: string): ImagePlace
}

/** What may stand before a colon and is no file: all of them are opened by `blockdev/`. */
const nodeProtocols = new Set(
  'blkdebug host_cdrom host_device http https json nbd nbd+tcp nbd+unix null-aio null-co'.split(' '),
)

/** The same with TLS, which QEMU does not say by name. */
const secureProtocols = new Set('nbds nbds+tcp nbds+unix'.split(' '))

/** Reads a name as QEMU does: what stands before a colon that comes before any slash is a protocol. */
function readQemuName(name: string): ImagePlace {
  const at = name.search(/[:/]/)
  if (at < 0 || name[at] === '/') return { kind: 'file', path: name }
  const protocol = name.slice(0, at)
  if (protocol === 'file') {
    const path = name.slice(at + 1)
    return { kind: 'file', path: /^[^/]*:/.test(path) ? `./${path}` : path }
  }
  if (nodeProtocols.has(protocol)) return { kind: 'node', protocol }
  throw new MoraineError('invalid', `Unknown protocol '${protocol}'`, {
    path: name,
    hint: `a file whose name begins so can be named './${name}'`,
  })
}

function readSecureName(name: string): ImagePlace | undefined {
  const protocol = /^([^:/]+):/.exec(name)?.[1]
  return protocol !== undefined && secureProtocols.has(protocol) ? { kind: 'node', protocol } : undefined
}

/** What QEMU 7.2 checks; true where it repairs, too. */
const qemuChecks: Readonly<Record<string, boolean>> = {
  qcow2: true,
  qed: true,
  parallels: true,
  vhdx: true,
  vdi: false,
  vmdk: false,
}

/** What QEMU 7.2 resizes; what is no format of an image hands it on to what is below. */
const neverResized = new Set(['qcow', 'vmdk', 'vdi', 'vhdx', 'vhd', 'parallels'])

const neverMeasured = new Set([...neverResized, 'qed'])

const qemuImg: Persona = {
  name: 'qemu-img',
  nameOf: (format) => (format === 'vhd' ? 'vpc' : format),
  probesEnds: false,
  wrappers: false,
  streamsPacked: false,
  unknown: ['iso', 'luks2', 'vhds', 'asif'],
  probed: ['qcow2', 'qcow', 'qed', 'vmdk', 'vdi', 'vhdx', 'vhd', 'parallels', 'bochs', 'cloop', 'dmg', 'luks', 'raw'],
  details: false,
  progress: 'percent',
  whenOutputIsLost: 'drops',
  deletesById: false,
  appliesOverBitmaps: false,
  countsSkipped: true,
  extensions: false,
  unmapped: ['vhdx', 'bochs', 'cloop', 'dmg'],
  checks: (format, repair) => qemuChecks[format] === true || (!repair && format in qemuChecks),
  resizes: (format) => !neverResized.has(format),
  reopens: (format) => format !== 'parallels',
  measures: (format) => !neverMeasured.has(format),
  taciturn: ['qed'],
  usageHint: () => "Try 'qemu-img --help' for more information",
  readName: readQemuName,
}

const moraine: Persona = {
  name: 'moraine',
  nameOf: (format) => format,
  probesEnds: true,
  wrappers: true,
  streamsPacked: true,
  unknown: [],
  probed: [
    'qcow2',
    'qcow',
    'qed',
    'vmdk',
    'vdi',
    'vhdx',
    'vhd',
    'parallels',
    'bochs',
    'cloop',
    'dmg',
    'luks',
    'luks2',
    'vhds',
    'asif',
    'iso',
    'raw',
  ],
  details: true,
  progress: 'auto',
  whenOutputIsLost: 'fails',
  deletesById: true,
  appliesOverBitmaps: true,
  countsSkipped: false,
  extensions: true,
  unmapped: [],
  checks: () => true,
  resizes: () => true,
  reopens: () => true,
  measures: () => true,
  taciturn: [],
  usageHint: (verb) => `Try 'moraine ${verb === undefined ? '' : `${verb} `}--help' for more information`,
  readName: (name) => (name === '-' ? { kind: 'stdio' } : (readSecureName(name) ?? readQemuName(name))),
}

/** The persona for the name by which the program was called. */
export function personaFor(calledAs: string): Persona {
  return calledAs === 'qemu-img' ? qemuImg : moraine
}
