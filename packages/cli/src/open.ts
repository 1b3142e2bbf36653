/** Opens images for the verbs: names, locks, cache modes and messages as QEMU has them. */
import {
  type ByteSource,
  type Container,
  type Disk,
  type DiskFormat,
  type Extent,
  type Gate,
  isMoraineError,
  isWritable,
  type Limits,
  MoraineError,
  memberGate,
  openDisk,
  ScratchStore,
  type WritableDisk,
} from '@moraine/engine'
import { type ImageLock, imageLocks, localPath, lockImage, nodeCodecs, openFile } from '@moraine/engine/node'
import type { CacheMode } from './cache.ts'
import { cryptoLibrary } from './crypto-library.ts'
import { formatsAndDrivers, isOtherDriver, isPlain } from './drivers.ts'
import { Failure, failureFrom } from './failure.ts'
import { formatNamed, probeFormat } from './formats.ts'
import { fullName } from './full-name.ts'
import type { ImagePlace, Persona } from './persona.ts'
import { reach } from './reach.ts'
import { distrustfulGate, refuseUnlessAllowed, untrustedLimits } from './untrusted.ts'
import type { Context } from './verb.ts'
import { imageWarnings } from './warnings.ts'
import { memberBehind, splitMember, unwrap } from './wrappers.ts'

/** What an image is opened for; QEMU's locks follow from it. */
type Use = 'info' | 'read' | 'source' | 'check' | 'repair' | 'write' | 'resize'

/** How an image is opened. */
export interface OpenRequest {
  use: Use
  /** `-f`; probed when absent. */
  format?: string | undefined
  /** `-U`: take no lock and ask for none. */
  forceShare?: boolean | undefined
  /** `--image-opts`: the name is a string of options. */
  imageOpts?: boolean | undefined
  /** False: the disk under the image is not opened. */
  parents?: boolean | undefined
  /** An opened disk in place of one that would be opened by this name, as the gate resolves it. */
  under?: { name: string; disk: Disk } | undefined
  /** In place of the backing file that the options of a node describe: nothing, or an opened disk. */
  backing?: 'ignored' | Disk | undefined
  cache?: CacheMode | undefined
  /** It is looked through once, from front to back. */
  walked?: boolean | undefined
  /** For a dry run: what is written stays in memory, and the files are only read. */
  rehearse?: boolean | undefined
  /** The image stands in a chain that was looked through before: that it is raw by its looks alone is not said again. */
  guessed?: boolean | undefined
  /** Told of each container in which no member was named, before one is chosen. */
  onContainer?: ((container: Container) => void) | undefined
}

const locks: Record<Use, { raw: ImageLock | undefined; other: ImageLock }> = {
  info: { raw: undefined, other: imageLocks.info },
  read: { raw: imageLocks.rawRead, other: imageLocks.read },
  check: { raw: imageLocks.rawRead, other: imageLocks.read },
  source: { raw: imageLocks.read, other: imageLocks.read },
  write: { raw: imageLocks.rawWrite, other: imageLocks.write },
  repair: { raw: imageLocks.rawWrite, other: imageLocks.write },
  resize: { raw: imageLocks.rawResize, other: imageLocks.write },
}

const purposes: Record<Use, 'use' | 'info' | 'check'> = {
  info: 'info',
  read: 'use',
  source: 'use',
  check: 'check',
  repair: 'check',
  write: 'use',
  resize: 'use',
}

const writing: ReadonlySet<Use> = new Set(['write', 'resize', 'repair'])

/** Opens an image for reading.
 *  @throws Failure `Could not open 'NAME': …` */
export async function openImage(context: Context, name: string, request: OpenRequest): Promise<Disk> {
  if (request.imageOpts === true && request.format !== undefined) {
    throw new Failure('--image-opts and --format are mutually exclusive')
  }
  try {
    return await open(context, name, request)
  } catch (error) {
    const failure = failureFrom(error, context.persona, `Could not open '${name}': `)
    const { details } = context.persona
    if (details && isMoraineError(error, 'locked') && failure instanceof Failure && !writing.has(request.use)) {
      throw failure.withMoreHint('With -U it is read all the same; what is read may then change under way.')
    }
    if (context.untrusted !== undefined && isMoraineError(error, 'limit') && failure instanceof Failure) {
      throw failure.withMoreHint('Without --untrusted the bounds are wider.')
    }
    throw failure
  }
}

/** Opens an image for writing.
 *  @throws Failure `Could not open 'NAME': …` */
export async function openForWriting(context: Context, name: string, request: OpenRequest): Promise<WritableDisk> {
  const disk = await openImage(context, name, request)
  if (isWritable(disk)) {
    if (!context.persona.resizes(disk.format)) disk.resize = () => Promise.reject(keepsItsSize(disk))
    return disk
  }
  await disk.close()
  throw failureFrom(
    new MoraineError('unsupported', `the format '${disk.format}' cannot be written`, { path: name }),
    context.persona,
    `Could not open '${name}': `,
  )
}

function keepsItsSize({ name, format }: Disk): MoraineError {
  return new MoraineError('unsupported', 'Image format driver does not support resize', { path: name, format })
}

async function open(context: Context, name: string, request: OpenRequest): Promise<Disk> {
  const writes = writing.has(request.use)
  if (writes && request.forceShare === true) {
    throw new MoraineError('denied', 'force-share=on can only be used with read-only images', { path: name })
  }
  const given = request.format === undefined ? undefined : formatNamed(request.format, 'driver', context.persona)
  const sync = request.cache === 'unsafe' ? 'unsafe' : 'always'
  const place: ImagePlace = request.imageOpts === true ? { kind: 'node', protocol: '' } : context.persona.readName(name)
  if (request.imageOpts === true || (place.kind === 'node' && !isAddress(place))) {
    return await openNode(context, name, request, given)
  }
  const path = place.kind === 'node' ? name : pathOf(name, context.persona)
  if (path === '') throw new MoraineError('invalid', "The 'file' block driver requires a file name", { path: name })
  const { path: file, member } = splitMember(path, context.persona)
  const reads = request.use === 'info' || request.use === 'read' ? 'here' : 'aside'
  const host =
    place.kind === 'node'
      ? await openRemote(context, file, writes)
      : await openFile(file, { mode: writes && request.rehearse !== true ? 'write' : 'read', sync, reads })
  const watched = context.trace?.watch(host, writes) ?? host
  const opened = request.rehearse === true ? new ScratchStore(watched) : watched
  // What is said to be raw is taken as it stands, whatever a guest wrote at its beginning.
  const unwraps = context.persona.wrappers && (given?.name !== 'raw' || member !== undefined)
  const trusting = imageGate(context, { lock: request.forceShare === true ? 'none' : 'qemu', sync })
  const gate = request.rehearse === true ? rehearsingGate(trusting) : trusting
  const unwrapped = unwraps ? await unwrap(context, opened, { member, writes }) : opened
  const source = unwraps
    ? await reach(context, unwrapped, {
        member: memberBehind(unwrapped, member),
        writes,
        gate,
        onContainer: request.onContainer,
      })
    : opened
  let format: DiskFormat
  try {
    format = given ?? (await probeFormat(source, context.persona))
    if (writes && given === undefined && format.name === 'raw' && request.guessed !== true)
      warnOfProbedRaw(context, name)
    if (request.forceShare !== true) takeLock(host, request.rehearse === true ? 'read' : request.use, format.name)
  } catch (error) {
    await source.close()
    throw error
  }
  const disk = await openDisk(source, {
    // For what lies under it, and for what is packed: looked at only then (see `formatsInOrder`).
    get formats() {
      return formatsAndDrivers()
    },
    format,
    mode: writes ? 'write' : 'read',
    purpose: purposes[request.use],
    // A check of an image whose chain does not open fails, as QEMU's does.
    parents: request.parents ?? purposes[request.use] !== 'info',
    // What an image in a container names is in that container, or nowhere.
    gate: memberGate(source) ?? (request.under === undefined ? gate : gateWith(gate, request.under)),
    get codecs() {
      return nodeCodecs
    },
    get crypto() {
      return cryptoLibrary()
    },
    secrets: context.objects.secrets,
    limits: limitsOf(context, request.walked),
    warn: imageWarnings(context),
  })
  context.trace?.opened(name, context.persona.nameOf(disk.format), writes)
  if (request.use === 'read') forgetPlaces(disk, context.persona)
  return disk
}

/** A walk needs few tables at a time. With the engine's 16 MiB for each of two images of 1 TiB, those that are kept and those that wait for the collector came to 100 MiB. */
const walkedCacheBytes = 4 * 1024 * 1024

function limitsOf(context: Context, walked = false): Partial<Limits> {
  const limits = context.untrusted === undefined ? {} : untrustedLimits
  return walked ? { ...limits, cacheBytes: walkedCacheBytes } : limits
}

/** What `--image-opts`, a `json:` name or a name with a protocol describes. */
async function openNode(
  context: Context,
  name: string,
  request: OpenRequest,
  given: DiskFormat | undefined,
): Promise<Disk> {
  const { openNamedGraph, openGraph } = await import('./blockdev/open-node.ts')
  const files: ByteSource[] = []
  const backingFiles: ByteSource[] = []
  const sync = request.cache === 'unsafe' ? 'unsafe' : 'always'
  const gateLocking = (lock: 'qemu' | 'none'): Gate => {
    const trusting = imageGate(context, { lock, sync })
    const gate = request.rehearse === true ? rehearsingGate(trusting) : trusting
    return request.under === undefined ? gate : gateWith(gate, request.under)
  }
  const nodeRequest = {
    context,
    rehearse: request.rehearse === true,
    mode: writing.has(request.use) ? 'write' : 'read',
    purpose: purposes[request.use],
    parents: request.parents,
    backing: request.backing,
    sync,
    direct: ['none', 'off', 'directsync'].includes(request.cache ?? ''),
    gate: gateLocking(request.forceShare === true ? 'none' : 'qemu'),
    unlocked: gateLocking('none'),
    files,
    backingFiles,
  } as const
  const disk =
    request.imageOpts === true
      ? await openGraph((await import('./blockdev/options.ts')).readImageOptions(name, context.warn), nodeRequest)
      : await openNamedGraph(name, given && context.persona.nameOf(given.name), nodeRequest)
  try {
    const guessed = given === undefined && request.imageOpts !== true && !name.startsWith('json:')
    if (writing.has(request.use) && guessed && disk.format === 'raw') warnOfProbedRaw(context, name)
    const use = request.rehearse === true ? 'read' : request.use
    if (request.forceShare !== true) {
      for (const file of backingFiles) lockBacking(file)
      for (const file of files) takeLock(file, use, disk.format)
    }
  } catch (error) {
    await disk.close()
    throw error
  }
  if (request.use === 'read') forgetPlaces(disk, context.persona)
  return disk
}

/** A file, or what an address names, as it stands; only for reading.
 *  @throws MoraineError as `pathOf`, `openFile` and `openHttp` */
export async function openPlain(context: Context, name: string): Promise<ByteSource> {
  return isAddress(context.persona.readName(name))
    ? await openRemote(context, name, false)
    : await openFile(pathOf(name, context.persona))
}

function isAddress(place: ImagePlace): boolean {
  return place.kind === 'node' && /^https?$/.test(place.protocol)
}

async function openRemote(context: Context, url: string, writes: boolean): Promise<ByteSource> {
  if (writes) throw new MoraineError('denied', 'Could not open image: it cannot be written over HTTP', { path: url })
  const { openWeb } = await import('./blockdev/web.ts')
  return await openWeb(url, context.signal)
}

/** The gate that opens what images name, as QEMU does: files, and by name what has a protocol. */
export function imageGate(context: Context, options: { lock: 'qemu' | 'none'; sync: 'always' | 'unsafe' }): Gate {
  const gate: Gate = {
    resolve: fullName,
    async open(asked) {
      const name = fullName(asked)
      if (!hasProtocol(name)) {
        const file = await openFile(localPath(name), { ...options, mode: asked.mode })
        return context.trace?.watch(file, asked.mode === 'write') ?? file
      }
      const { openNamedNode } = await import('./blockdev/open-node.ts')
      const { sync } = options
      return await openNamedNode(name, {
        context,
        mode: asked.mode,
        purpose: 'use',
        sync,
        gate,
        unlocked: imageGate(context, { lock: 'none', sync }),
        files: [],
        backingFiles: [],
      })
    },
  }
  return context.untrusted === undefined ? gate : distrustfulGate(context.untrusted, gate)
}

/** Lets nothing that an image names be written: what would be stays in memory. */
function rehearsingGate(gate: Gate): Gate {
  return {
    resolve: (asked) => gate.resolve(asked),
    open: async (asked) => {
      const source = await gate.open({ ...asked, mode: 'read' })
      return asked.mode === 'write' ? new ScratchStore(source) : source
    },
  }
}

/** Whether an image may have its backing file opened, for verbs that go down a chain by themselves; `full` is the name as this machine would open it.
 *  @throws Failure `Could not open 'NAME': …` when images are not trusted and it was not allowed. */
export function refuseBacking(
  { persona, untrusted }: Context,
  asked: { from: string; name: string },
  full: string,
): void {
  if (untrusted === undefined) return
  try {
    refuseUnlessAllowed(untrusted, { ...asked, role: 'backing' }, full)
  } catch (error) {
    throw failureFrom(error, persona, `Could not open '${asked.from}': `)
  }
}

function gateWith(gate: Gate, { name, disk }: { name: string; disk: Disk }): Gate {
  return {
    resolve: (asked) => gate.resolve(asked),
    open: async (asked) => (gate.resolve(asked) === name ? disk : await gate.open(asked)),
  }
}

/** Lets disks tell no more about what lies where than the persona knows. */
function forgetPlaces(top: Disk, { unmapped }: Persona): void {
  for (let disk: Disk | undefined = top; disk !== undefined; disk = disk.parent) {
    if (unmapped.includes(disk.format)) disk.extents = allData
  }
}

async function* allData(offset: number, length: number): AsyncIterable<Extent[]> {
  if (length > 0) yield [{ offset, length, allocated: true, data: true, zero: false, depth: 0 }]
}

function takeLock(source: ByteSource, use: Use, format: string): void {
  // What stands over an image and is none passes the guest's bytes on.
  const lock = isPlain(format) || isOtherDriver(format) ? locks[use].raw : locks[use].other
  if (lock !== undefined) lockImage(source, lock)
}

/** The file of a disk under an image, which is only read. */
function lockBacking(source: ByteSource): void {
  try {
    lockImage(source, imageLocks.read)
  } catch (error) {
    if (!isMoraineError(error)) throw error
    const { kind, reason, path, hint, code } = error
    throw new MoraineError(kind, `Could not open backing file: ${reason}`, { path, hint, code, cause: error })
  }
}

/** Opens a file that an image which is made names: without a lock, as QEMU does then.
 *  @throws MoraineError */
export async function openNamedFile(context: Context, from: string, name: string): Promise<ByteSource> {
  const full = fullName({ from, name })
  if (!hasProtocol(full)) return await openFile(localPath(full), { name: full })
  const gate = imageGate({ ...context, untrusted: undefined }, { lock: 'none', sync: 'always' })
  return await gate.open({ from, name, role: 'backing', mode: 'read' })
}

/** Whether a name leads elsewhere than to a file. */
function hasProtocol(name: string): boolean {
  return /^(?!file:)[^:/]+:/.test(name)
}

/** Whether a name is one of an export of an NBD server: what can be written, but is neither made nor removed. */
export function isExport(name: string, persona: Persona): boolean {
  const place = persona.readName(name)
  return place.kind === 'node' && place.protocol.startsWith('nbd')
}

/** The path of a name that must be a file.
 *  @throws MoraineError as `Persona.readName`; `unsupported` for standard input and output, and for what is no file. */
export function pathOf(name: string, persona: Persona): string {
  const place = persona.readName(name)
  if (place.kind === 'file') return place.path
  if (place.kind === 'node') {
    const { protocol } = place
    throw new MoraineError(
      'unsupported',
      protocol === 'json' ? `Unknown protocol 'json'` : `Protocol driver '${protocol}' does not support image creation`,
      { path: name },
    )
  }
  throw new MoraineError('unsupported', 'standard input and output cannot be used here', {
    path: name,
    hint: "a file that is called '-' can be named './-'",
  })
}

/** Says of packed images that were taken for raw by their beginning alone, now that all was read, if their ends are those of another format. */
export async function noteUnseenEnds({ err, persona }: Context, disks: readonly Disk[]): Promise<void> {
  for (const { file, format } of disks) {
    if (format !== 'raw' || file.sequential !== true || file.size < 512) continue
    const end = Buffer.alloc(512)
    await file.read(file.size - end.length, end)
    const signature = end.toString('latin1', 0, 8)
    const found = signature === 'conectix' ? 'vhd' : signature.startsWith('koly') ? 'dmg' : undefined
    if (found === undefined) continue
    err.write(
      `${persona.name}: note: what is inside '${file.name}' ends as an image of format ${found} does and was taken for raw, as it was read from front to back; ` +
        `if it is one, say -f ${found}\n`,
    )
  }
}

function warnOfProbedRaw({ err }: Context, name: string): void {
  err.write(
    `WARNING: Image format was not specified for '${name}' and probing guessed raw.\n` +
      '         Automatically detecting the format is dangerous for raw images, write operations on block 0 will be restricted.\n' +
      "         Specify the 'raw' format explicitly to remove the restrictions.\n",
  )
}
