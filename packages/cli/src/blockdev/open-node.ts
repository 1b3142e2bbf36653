/** Opens what `--image-opts`, `json:` names and names with a protocol describe: a node, with the nodes under it. Order of checks and words: qemu-img 7.2. */
import {
  allFormats,
  type ByteSource,
  type Disk,
  type DiskFormat,
  type DiskInfo,
  type Extent,
  findFormat,
  type Gate,
  isDisk,
  isMoraineError,
  MemoryStore,
  MoraineError,
  openDisk,
  raw,
  retold,
  ScratchStore,
} from '@moraine/engine'
import { nodeCodecs } from '@moraine/engine/node'
import { cryptoLibrary } from '../crypto-library.ts'
import { formatsAndDrivers, isOtherDriver, refusalOf } from '../drivers.ts'
import { statsOf } from '../file-stats.ts'
import { formatNamed, probeFormat } from '../formats.ts'
import { untrustedLimits } from '../untrusted.ts'
import { imageWarnings } from '../warnings.ts'
import { calledAs, type Node, type NodeRequest, refuseLeftOver, renamed, withMembers } from './driver.ts'
import { findFilter, guessEvents, isFilterName, readFilterName } from './filters.ts'
import { strongOptions, takeFormatOptions } from './formats.ts'
import { jsonName, type NameParts, NodeOptions } from './options.ts'
import { findProtocol, isForeignProtocol } from './protocols.ts'

/** A node, and what it is called. */
export interface OpenedNode {
  node: Node
  /** The plain name, where one says it all. */
  plain: string | undefined
  /** All options that make it what it is. */
  parts: NameParts
}

/** Opens a whole graph as a disk.
 *  @throws MoraineError */
export async function openGraph(options: NodeOptions, request: NodeRequest): Promise<Disk> {
  if (driverOf(options) === undefined && !options.has('file')) {
    throw new MoraineError('invalid', 'Must specify either driver or file', { field: 'driver' })
  }
  const { node, plain, parts } = await openNode(options, request)
  return renamed(isDisk(node) ? node : await asDisk(node, String(parts.driver), request), plain ?? jsonName(parts))
}

/** Which driver of files takes a name of the host without being named itself. */
function hostDriver(options: NodeOptions): 'file' | 'host_device' {
  const stats = statsOf(String(options.peek('filename')))
  return stats?.isBlockDevice() === true || stats?.isCharacterDevice() === true ? 'host_device' : 'file'
}

/** The driver that is named; what is no text names none. */
function driverOf(options: NodeOptions): string | undefined {
  const driver = options.peek('driver')
  return typeof driver === 'string' ? driver : undefined
}

/** Where a node stands: as a disk its format may be found out; as the bytes of one it is a file, unless a driver is given. */
type Place = 'disk' | 'bytes'

/** Opens a node by its options.
 *  @throws MoraineError */
async function openNode(options: NodeOptions, request: NodeRequest, place: Place = 'disk'): Promise<OpenedNode> {
  const whole = takeCommon(options, request)
  const driver = driverOf(options)
  options.take('driver')
  if (driver === undefined) {
    if (place === 'disk' && options.has('file')) return await openFormat(undefined, options, whole)
    if (place === 'bytes' && options.has('filename')) return await openProtocol(hostDriver(options), options, whole)
    throw new MoraineError('invalid', 'Must specify either driver or file', { field: 'driver' })
  }
  const name = driver
  if ((await findProtocol(name)) !== undefined) return await openProtocol(name, options, whole)
  const filter = findFilter(name)
  if (filter !== undefined) return await filter(options, whole, (child) => openChild(options, child, whole, 'bytes'))
  if (isOtherDriver(name) || isForeignProtocol(name)) {
    throw new MoraineError('unsupported', refusalOf(name) ?? `Unknown driver '${name}'`, {
      field: 'driver',
      value: name,
    })
  }
  return await openFormat(formatNamed(name, 'driver', request.context.persona), options, whole)
}

/** Takes the options that every node has. */
function takeCommon(options: NodeOptions, request: NodeRequest): NodeRequest {
  const readOnly = options.takeSwitch('read-only')
  for (const name of ['auto-read-only', 'cache.no-flush', 'cache.writeback']) options.takeSwitch(name)
  const direct = options.takeSwitch('cache.direct') ?? request.direct
  const shares = options.takeSwitch('force-share') === true
  options.take('node-name')
  const discard = options.takeWord('discard', ['ignore', 'off', 'unmap', 'on'], 'Invalid discard option')
  // Whoever writes may discard, unless told otherwise.
  const discards = discard === undefined ? request.mode === 'write' : discard === 'unmap' || discard === 'on'
  if (options.takeWord('detect-zeroes', ['off', 'on', 'unmap']) === 'unmap' && !discards) {
    const reason = 'setting detect-zeroes to unmap is not allowed without setting discard operation to unmap'
    throw new MoraineError('invalid', reason, { field: 'detect-zeroes' })
  }
  if (readOnly === true && request.mode === 'write') {
    throw new MoraineError('denied', 'Block node is read-only', { field: 'read-only' })
  }
  if (!shares) return { ...request, direct }
  if (request.mode === 'write') {
    throw new MoraineError('denied', 'force-share=on can only be used with read-only images', { field: 'force-share' })
  }
  // It holds for all nodes below. A list that nobody looks at: no file in it is locked.
  return { ...request, direct, gate: request.unlocked, files: [], backingFiles: [] }
}

async function openProtocol(name: string, options: NodeOptions, request: NodeRequest): Promise<OpenedNode> {
  const protocol = await findProtocol(name)
  if (protocol === undefined) throw new MoraineError('invalid', `Unknown driver '${name}'`, { field: 'driver' })
  const strong = options.pick(protocol.strong)
  const rehearses = request.rehearse === true && request.mode === 'write'
  const opened = await protocol.open(options, rehearses ? { ...request, mode: 'read' } : request)
  const watched = request.context.trace?.watch(opened, request.mode === 'write') ?? opened
  const source = rehearses ? new ScratchStore(watched) : watched
  try {
    refuseLeftOver(options, name, 'protocol')
  } catch (error) {
    await source.close()
    throw error
  }
  return { node: source, plain: protocol.plainName(strong), parts: { driver: name, ...strong } }
}

/** Opens the node that an option names: by options below it; names of nodes mean nothing here, as there are none.
 *  @throws MoraineError */
async function openChild(options: NodeOptions, name: string, request: NodeRequest, place: Place): Promise<OpenedNode> {
  const reference = options.take(name)
  if (typeof reference === 'string') {
    throw new MoraineError('missing', `Cannot find device='${reference}' nor node-name='${reference}'`, { field: name })
  }
  if (!options.hasBelow(name)) {
    throw new MoraineError('invalid', `A block device must be specified for "${name}"`, { field: name })
  }
  return await openNode(options.takeBelow(name), request, place)
}

async function openFormat(
  given: DiskFormat | undefined,
  options: NodeOptions,
  request: NodeRequest,
): Promise<OpenedNode> {
  const child = await openChild(options, 'file', { ...request, backing: undefined }, 'bytes')
  // What lies in it is said to lie in the node below, and what it names is found by that node's name.
  const source = isImage(child.node) ? child.node : renamed(child.node, child.plain ?? jsonName(child.parts))
  let opened: Node = source
  try {
    const format = given ?? (await probeFormat(source, request.context.persona))
    const strong = options.pick(strongOptions(format.name))
    const opening = takeFormatOptions(format.name, options)
    const backing = await takeBacking(options, request)
    const { gate } = request
    const disk = await openDisk(source, {
      ...opening,
      formats: formatsAndDrivers(),
      format,
      mode: request.mode,
      purpose: request.purpose,
      parents: opensParents(request),
      givesBacking: backing !== undefined && !backing.isNone,
      gate: backing === undefined ? gate : gateWith(gate, source.name, backing.node),
      codecs: nodeCodecs,
      crypto: cryptoLibrary(),
      secrets: request.context.objects.secrets,
      limits: request.context.untrusted === undefined ? undefined : untrustedLimits,
      warn: imageWarnings(request.context),
    })
    opened = disk
    refuseLeftOver(options, request.context.persona.nameOf(format.name), 'format')
    if (!tellsEvents.has(format.name)) guessEvents(source)
    request.context.trace?.opened(disk.name, request.context.persona.nameOf(format.name), request.mode === 'write')
    if (backing !== undefined && disk.parent === undefined) {
      await backing.node.close()
      if (!backing.isNone) throw noBacking(format.name)
    }
    const simple = Object.keys(strong).length === 0 && backing === undefined && !isImage(source)
    return {
      node: format.name === 'raw' && isDisk(source) ? withInfo(disk, { clusterSize: source.info().clusterSize }) : disk,
      plain: simple ? child.plain : undefined,
      parts: {
        driver: request.context.persona.nameOf(format.name),
        ...strong,
        file: child.parts,
        ...(backing?.parts !== undefined && { backing: backing.parts }),
      },
    }
  } catch (error) {
    await opened.close()
    throw error
  }
}

/** Without it, options of a backing file are nobody's. */
function opensParents({ purpose, parents }: NodeRequest): boolean {
  return parents ?? purpose !== 'info'
}

function noBacking(format: string): MoraineError {
  const reason =
    format === 'vmdk' || format === 'parallels'
      ? 'an image that names no backing file cannot be given one'
      : "Driver doesn't support backing files"
  return new MoraineError('unsupported', reason, { field: 'backing' })
}

/** Formats that tell the file under them what they are about to do. */
const tellsEvents: ReadonlySet<string> = new Set(['qcow2', 'raw'])

/** Whether the node is an image of a format, and no filter. */
function isImage(node: Node): boolean {
  return isDisk(node) && findFormat(allFormats, node.format) !== undefined
}

/** The backing file given in place of the one that the image names, or for none; `isNone`: the one that it names shall not be there. */
async function takeBacking(
  options: NodeOptions,
  request: NodeRequest,
): Promise<{ node: Disk; parts: NameParts | undefined; isNone?: boolean } | undefined> {
  if (request.backing !== undefined) {
    options.take('backing')
    options.takeBelow('backing')
    return request.backing === 'ignored' ? undefined : { node: request.backing, parts: undefined }
  }
  const value = options.peek('backing')
  if (typeof value === 'string' && value !== '') {
    // Where no backing file is opened nobody takes it, and that is said.
    if (!opensParents(request)) return undefined
    const reason = `Could not open backing file: Cannot find device='${value}' nor node-name='${value}'`
    throw new MoraineError('missing', reason, { field: 'backing' })
  }
  if (!opensParents(request)) {
    if (options.peek('backing') === '') warnOfEmpty(request)
    options.take('backing')
    return undefined
  }
  if (value === '' || value === null) {
    if (value === '') warnOfEmpty(request)
    options.take('backing')
    return { node: await asDisk(new MemoryStore({ name: 'null' }), 'raw', request), parts: undefined, isNone: true }
  }
  if (!options.has('backing')) return undefined
  const below = { ...request, mode: 'read', backing: undefined, files: request.backingFiles } as const
  const { node, parts } = await openChild(options, 'backing', below, 'disk').catch((error: unknown) => {
    if (!isMoraineError(error) || error.kind === 'cancelled') throw error
    throw retold(error, `Could not open backing file: ${error.reason}`)
  })
  return { node: isDisk(node) ? node : await asDisk(node, String(parts.driver), request), parts }
}

function warnOfEmpty({ context }: NodeRequest): void {
  context.warn('Use of "backing": "" is deprecated; use "backing": null instead')
}

function gateWith(gate: Gate, from: string, backing: Disk): Gate {
  return {
    resolve: (request) => gate.resolve(request),
    open: async (request) => (request.role === 'backing' && request.from === from ? backing : await gate.open(request)),
  }
}

/** The bytes of a protocol as a disk of that name. */
async function asDisk(source: ByteSource, name: string, request: Pick<NodeRequest, 'mode'>): Promise<Disk> {
  const disk = await openDisk(source, { formats: [raw], format: 'raw', mode: request.mode })
  if (name === 'raw') return disk
  return calledAs(name.startsWith('null-') ? withMembers(disk, { extents: unplaced(disk) }) : disk, name)
}

/** What is neither data nor zeros is nowhere. */
function unplaced(disk: Disk): Disk['extents'] {
  return async function* (offset, length, signal) {
    for await (const batch of disk.extents(offset, length, signal)) {
      yield batch.map((extent) => placeless(extent))
    }
  }
}

function withInfo(disk: Disk, facts: Partial<DiskInfo>): Disk {
  return withMembers(disk, { info: () => ({ ...disk.info(), ...facts }) })
}

function placeless(extent: Extent): Extent {
  if (extent.data || extent.zero) return extent
  const { host: _host, ...rest } = extent
  return { ...rest, allocated: false }
}

/** Opens the graph whose name this is. A protocol's name has a format over it, `format` or the one that is found; `json:` says all itself, save that `format` wins.
 *  @throws MoraineError */
export async function openNamedGraph(name: string, format: string | undefined, request: NodeRequest): Promise<Disk> {
  const named = await readNodeName(name)
  const options = name.startsWith('json:') ? named : new NodeOptions(named.below('file'))
  // A protocol said twice, in the name and as the format: no format stands over it.
  if (format !== undefined && format === named.peek('driver')) return await openGraph(named, request)
  if (format !== undefined) options.set('driver', format)
  return await openGraph(options, request)
}

/** Opens the node whose name this is, as the file of a format.
 *  @throws MoraineError */
export async function openNamedNode(name: string, request: NodeRequest): Promise<Node> {
  const { node, plain, parts } = await openNode(await readNodeName(name), request, 'bytes')
  return renamed(node, plain ?? jsonName(parts))
}

/** The options that a name with a protocol stands for. */
async function readNodeName(name: string): Promise<NodeOptions> {
  const prefix = /^([^:/]*):/.exec(name)?.[1] ?? ''
  if (prefix === 'json') return (await import('./json-name.ts')).readJsonName(name.slice('json:'.length))
  const driver = /^nbds?(\+(unix|tcp))?$/.test(prefix) ? 'nbd' : prefix
  const options = isFilterName(prefix) ? readFilterName(name) : (await findProtocol(driver))?.readName?.(name)
  if (options === undefined) {
    throw new MoraineError('invalid', `Unknown protocol '${prefix}'`, { path: name, field: 'protocol' })
  }
  if (!options.has('driver')) options.set('driver', driver)
  return options
}
