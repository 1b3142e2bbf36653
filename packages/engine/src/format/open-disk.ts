/** Opens a disk, and the chain under it: probing, the gate, depth and loops are decided here, once for every format. */
import {
  type ByteSource,
  type Codecs,
  type CryptoLibrary,
  closedGate,
  type Disk,
  defaultLimits,
  type Encryption,
  type Gate,
  type GateRole,
  isDisk,
  isMoraineError,
  type Limits,
  MoraineError,
  retold,
  type Secrets,
} from '../core/index.ts'
import {
  type DiskFormat,
  findFormat,
  type ImageWarning,
  type OpenContext,
  type ProbeVerdict,
  type ProbeWindow,
} from './format.ts'

/** How to open a disk. Only `formats` is needed: what is not in the list is not known. */
export interface OpenOptions {
  formats: readonly DiskFormat[]
  /** The format, or its name or alias in `formats`; probed when absent. */
  format?: string | DiskFormat | undefined
  /** Default `read`. */
  mode?: 'read' | 'write' | undefined
  /** Default `use`. */
  purpose?: OpenContext['purpose'] | undefined
  /** Whether the disk under this one is opened with it. Default: when guest content is to be read (`use`). A check wants it where a
   *  chain that does not open shall fail, as in `qemu-img check`. */
  parents?: boolean | undefined
  givesBacking?: OpenContext['givesBacking']
  /** Default: nothing else is opened. */
  gate?: Gate | undefined
  limits?: Partial<Limits> | undefined
  codecs?: Codecs | undefined
  /** Default: images that are encrypted are refused. */
  crypto?: CryptoLibrary | undefined
  /** The passwords and keys that may be asked for. */
  secrets?: Secrets | undefined
  /** Which of them opens this image. */
  encryption?: Encryption | undefined
  window?: OpenContext['window']
  vhdSize?: OpenContext['vhdSize']
  warn?: ImageWarning | undefined
}

const headBytes = 128 * 1024
const tailBytes = 1536
/** Every disk of a chain may keep as much of its tables. */
const leastCacheBytes = 512 * 1024

/** Names of images that are known by their end alone. */
const knownByEnd = /\.(vhd|vpc|dmg)(\.[^./]*)?$/i

/** Reads the head and the tail that probes look at. Where the tail can only be had by reading all of the source, the head must do, unless the name promises something at
 *  the end. */
export async function readProbeWindow(source: ByteSource): Promise<ProbeWindow> {
  const head = new Uint8Array(Math.min(headBytes, source.size))
  await source.read(0, head)
  const skipsTail = source.sequential === true && !knownByEnd.test(source.name)
  const tailLength = skipsTail ? 0 : Math.min(tailBytes, source.size)
  const tail =
    tailLength <= head.length && source.size <= head.length
      ? head.subarray(head.length - tailLength)
      : new Uint8Array(tailLength)
  if (tailLength > 0 && tail.buffer !== head.buffer) await source.read(source.size - tailLength, tail)
  return { name: source.name, size: source.size, head, tail }
}

/** Every format that recognises the source, the surest first. */
export async function probeFormats(
  source: ByteSource,
  formats: readonly DiskFormat[],
): Promise<{ format: DiskFormat; verdict: ProbeVerdict }[]> {
  const window = await readProbeWindow(source)
  const found: { format: DiskFormat; verdict: ProbeVerdict }[] = []
  for (const format of formats) {
    const verdict = format.probe(window)
    if (verdict !== undefined && verdict.score > 0) found.push({ format, verdict })
  }
  return found.sort((a, b) => b.verdict.score - a.verdict.score)
}

/** Opens the disk in `source`, which belongs to the disk from then on (also when this fails).
 *  @throws MoraineError `invalid` for an unknown format name, `not-this-format` when nothing fits, and whatever the format says. */
export async function openDisk(source: ByteSource, options: OpenOptions): Promise<Disk> {
  return openInChain(source, options, [])
}

/** Says, as QEMU does, that it was not the image itself which could not be opened. */
function parentError(error: unknown, role: GateRole): unknown {
  if (!isMoraineError(error) || error.kind === 'cancelled') return error
  const what = role === 'backing' || role === 'parent' ? 'backing file' : role
  return retold(error, `Could not open ${what}: ${error.reason}`)
}

interface ChainLink {
  name: string
  identity?: string | undefined
}

function isSame(source: ChainLink, other: ChainLink): boolean {
  return source.identity === undefined ? other.name === source.name : other.identity === source.identity
}

async function openInChain(source: ByteSource, options: OpenOptions, above: readonly ChainLink[]): Promise<Disk> {
  const limits: Limits = { ...defaultLimits, ...options.limits }
  const gate = options.gate ?? closedGate
  const chain = [...above, { name: source.name, identity: source.identity }]
  try {
    refuseLoop(source, above, limits)
    const format = await chooseFormat(source, options)
    const mode = options.mode ?? 'read'
    const purpose = options.purpose ?? 'use'
    return await format.open(source, {
      mode,
      purpose,
      parents: options.parents ?? purpose === 'use',
      givesBacking: options.givesBacking,
      gate,
      limits,
      // Looked up when something is to be unpacked.
      get codecs() {
        return options.codecs ?? {}
      },
      // The same.
      get crypto() {
        return options.crypto
      },
      secrets: options.secrets,
      encryption: options.encryption,
      window: options.window,
      vhdSize: options.vhdSize,
      warn: options.warn ?? (() => {}),
      async openParent({ name, format: parentFormat, role }) {
        try {
          const parent = await gate.open({ from: source.name, name, role, mode: 'read' })
          if (isDisk(parent) && isWhatWasAsked(parent, role, parentFormat)) return parent
          const { window: _window, vhdSize: _vhdSize, encryption: _encryption, givesBacking: _gives, ...rest } = options
          const below = { ...rest, limits: limitsBelow(limits), format: parentFormat, mode: 'read' as const }
          return await openInChain(parent, below, chain)
        } catch (error) {
          throw parentError(error, role)
        }
      },
      async openFile({ name, role, mode: own }) {
        const file = await gate.open({ from: source.name, name, role, mode: own ?? mode })
        if (!isSame(file, source)) return file
        await file.close()
        throw new MoraineError('invalid', `the image names itself as its ${role}`, {
          path: source.name,
          field: role,
          value: name,
          rule: 'another file than the image',
        })
      },
    })
  } catch (error) {
    await source.close()
    throw error
  }
}

/** Each disk of a chain keeps half of the tables that the one over it keeps, so that a chain of 200 costs little more than two disks. */
function limitsBelow(limits: Limits): Limits {
  const half = Math.max(leastCacheBytes, limits.cacheBytes / 2)
  return { ...limits, cacheBytes: Math.min(limits.cacheBytes, half) }
}

/** Whether a disk that the gate handed out, in place of the bytes of one, can stand below as it is. */
function isWhatWasAsked(disk: Disk, role: GateRole, format: string | undefined): boolean {
  return role === 'backing' || disk.format === format || (format === undefined && disk.format !== 'raw')
}

function refuseLoop(source: ByteSource, above: readonly ChainLink[], limits: Limits): void {
  const top = above[0]
  if (above.some((link) => isSame(source, link))) {
    throw new MoraineError('invalid', `Backing file '${source.name}' creates an infinite loop.`, {
      path: top?.name,
      field: 'backing file',
      value: source.name,
      rule: 'a chain in which no image stands twice',
    })
  }
  if (above.length >= limits.chainDepth) {
    throw new MoraineError('limit', 'the chain of backing files is too long', {
      path: top?.name,
      field: 'chain depth',
      value: above.length + 1,
      rule: `at most ${limits.chainDepth} images`,
    })
  }
}

async function chooseFormat(source: ByteSource, options: OpenOptions): Promise<DiskFormat> {
  if (typeof options.format === 'object') return options.format
  if (options.format !== undefined) {
    const format = findFormat(options.formats, options.format)
    if (format === undefined) {
      throw new MoraineError('invalid', `Unknown driver '${options.format}'`, {
        path: source.name,
        field: 'format',
        rule: `one of ${options.formats.map(({ name }) => name).join(', ')}`,
      })
    }
    return format
  }
  const [best] = await probeFormats(source, options.formats)
  if (best === undefined) {
    throw new MoraineError('not-this-format', 'Could not determine image format', { path: source.name })
  }
  return best.format
}
