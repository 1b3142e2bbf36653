/** Filters: nodes that stand over another and pass on what it has, some of them changed on the way. */
import { readFileSync } from 'node:fs'
import {
  type ByteSource,
  type Disk,
  type Extent,
  isDisk,
  isMoraineError,
  MoraineError,
  openDisk,
  raw,
} from '@moraine/engine'
import { type Node, type NodeRequest, refuseLeftOver, withMembers } from './driver.ts'
import { type Faults, readFaults } from './inject.ts'
import type { OpenedNode } from './open-node.ts'
import { type NameParts, NodeOptions } from './options.ts'

type OpenChild = (name: string) => Promise<OpenedNode>

/** Opens a filter and the node under it. */
type Filter = (options: NodeOptions, request: NodeRequest, child: OpenChild) => Promise<OpenedNode>

const filters: Readonly<Record<string, Filter>> = {
  compress: async (options, request, child) => {
    const opened = await plainFilter('compress', options, request, child)
    const { driver } = opened.parts.file as NameParts
    if (driver === 'qcow2' || driver === 'qcow' || driver === 'vmdk') return opened
    await opened.node.close()
    throw new MoraineError('unsupported', `Compression is not supported for underlying format: ${driver}`)
  },
  preallocate: async (options, request, child) => {
    const align = options.takeSize('prealloc-align') ?? 0
    options.takeSize('prealloc-size')
    const opened = await plainFilter('preallocate', options, request, child)
    if (align % 512 === 0) return opened
    await opened.node.close()
    throw new MoraineError('invalid', 'prealloc-align parameter of preallocate filter is not aligned to 512', {
      field: 'prealloc-align',
      value: align,
    })
  },
  'copy-on-read': async (options, request, child) => {
    const bottom = options.takeText('bottom')
    // Nodes have no names here.
    if (bottom !== undefined)
      throw new MoraineError('missing', `Bottom node '${bottom}' not found`, { field: 'bottom' })
    if (request.mode === 'read') throw new MoraineError('denied', 'Block node is read-only', { field: 'copy-on-read' })
    return await plainFilter('copy-on-read', options, request, child)
  },
  throttle,
  blkdebug,
}

/** The filter of a name. */
export function findFilter(name: string): Filter | undefined {
  return Object.hasOwn(filters, name) ? filters[name] : undefined
}

/** Whether a name of a file can begin with this filter's. */
export function isFilterName(prefix: string): boolean {
  return prefix === 'blkdebug'
}

/** The options of a name such as `blkdebug:CONFIG:IMAGE`.
 *  @throws MoraineError `invalid` */
export function readFilterName(name: string): NodeOptions {
  const rest = name.slice('blkdebug:'.length)
  const at = rest.indexOf(':')
  if (at < 0) throw new MoraineError('invalid', 'blkdebug requires both config file and image path', { path: name })
  const options = new NodeOptions([
    ['image.driver', 'file'],
    ['image.filename', rest.slice(at + 1)],
  ])
  if (at > 0) options.set('config', rest.slice(0, at))
  return options
}

async function plainFilter(
  name: string,
  options: NodeOptions,
  request: NodeRequest,
  child: OpenChild,
): Promise<OpenedNode> {
  const { node, parts } = await child('file')
  return await finish(name, options, node, async () => ({
    node: await over(node, request, { format: name }),
    plain: undefined,
    parts: { driver: name, file: parts },
  }))
}

/** The limits of `--object throttle-group` hold for what passes. */
async function throttle(options: NodeOptions, request: NodeRequest, child: OpenChild): Promise<OpenedNode> {
  const { node, parts } = await child('file')
  const group = options.takeText('throttle-group')
  return await finish('throttle', options, node, async () => {
    if (group === undefined) throw new MoraineError('invalid', 'Please specify a throttle group')
    const limits = request.context.objects.throttleGroups.get(group)
    if (limits === undefined) throw new MoraineError('missing', `Throttle group '${group}' does not exist`)
    const held = await over(node, request, {
      format: 'throttle',
      // What zeroes and discards takes its turn as a write; a flush and a question about places does not.
      before: async (call, _offset, length) => {
        if (call === 'flush' || call === 'status') return
        await limits.pass(call === 'read' ? 'read' : 'write', length, request.context.signal)
      },
    })
    return { node: held, plain: undefined, parts: { 'throttle-group': group, driver: 'throttle', file: parts } }
  })
}

/** Errors on order: a tool for tests. Facts: QEMU's docs/devel/blkdebug.txt. */
async function blkdebug(options: NodeOptions, request: NodeRequest, child: OpenChild): Promise<OpenedNode> {
  const strong = options.pick(['config', 'inject-error.', 'set-state.', 'align', 'max-transfer'])
  const config = options.takeText('config')
  const align = options.takeSize('align') ?? 0
  for (const name of ['max-transfer', 'opt-write-zero', 'max-write-zero', 'opt-discard', 'max-discard']) {
    options.takeSize(name)
  }
  const faults = readFaults(options, config === undefined ? undefined : readConfig(config))
  const { node, plain, parts } = await child('image')
  return await finish('blkdebug', options, node, async () => {
    if (align !== 0 && (align >= 2 ** 31 - 1 || !Number.isInteger(Math.log2(align)))) {
      const place = { field: 'align', value: align, rule: 'a power of two' }
      throw new MoraineError('invalid', `Cannot meet constraints with align ${BigInt(align)}`, place)
    }
    const watched = await over(node, request, {
      format: 'blkdebug',
      allocated: false,
      faults,
      before: async (call, offset, length) => faults.pass(call, offset, length, node.name),
    })
    const simple = plain !== undefined && Object.keys(strong).every((name) => name === 'config')
    return {
      node: watched,
      plain: simple ? `blkdebug:${config ?? ''}:${plain}` : undefined,
      parts: { image: parts, driver: 'blkdebug', ...strong },
    }
  })
}

function readConfig(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    const words = isMoraineError(error) ? error.reason : 'No such file or directory'
    throw new MoraineError('missing', `Could not read blkdebug config file: ${words}`, { path, cause: error })
  }
}

async function finish(
  name: string,
  options: NodeOptions,
  node: Node,
  make: () => Promise<OpenedNode>,
): Promise<OpenedNode> {
  try {
    const made = await make()
    refuseLeftOver(options, name, 'format')
    return made
  } catch (error) {
    await node.close()
    throw error
  }
}

const injecting = Symbol('the faults that a node injects')

/** Says that the format over a node tells no events: once it is opened, reading and writing are what happens. */
export function guessEvents(node: Node): void {
  const faults: Faults | undefined = Reflect.get(node, injecting)
  if (faults !== undefined) faults.guesses = true
}

const under = Symbol('the disk under a filter that changes nothing')

/** The image under a filter that changes nothing, or the disk itself. */
export function imageUnder(disk: Disk): Disk {
  const found: Disk | undefined = Reflect.get(disk, under)
  return found === undefined ? disk : imageUnder(found)
}

/** What a filter is asked to let pass. */
export type Passing = 'read' | 'write' | 'zero' | 'discard' | 'flush' | 'status'

interface FilterOptions {
  format: string
  /** False: it does not tell how much the host spends. */
  allocated?: false
  /** Is told the events of the format above. */
  faults?: Faults
  /** Called before anything passes; may wait or throw. */
  before?(call: Passing, offset: number, length: number): Promise<void>
}

/** The node behind a filter. With `before`, nothing goes round it: no descriptor, no copy inside the kernel, no place of the bytes. */
async function over(
  node: Node,
  request: NodeRequest,
  { format, allocated, before, faults }: FilterOptions,
): Promise<Node> {
  if (before === undefined) {
    const disk = isDisk(node) ? node : await openDisk(node, { formats: [raw], format: 'raw', mode: request.mode })
    return withMembers(disk, { ...namesOf(disk, format), [under]: disk })
  }
  // Bytes stay bytes, so that a file grows behind what is written to it.
  const store = node as unknown as Record<string, ((...args: never[]) => Promise<unknown>) | undefined>
  const guarded = (call: Passing, name: string) =>
    store[name] === undefined
      ? undefined
      : async (offset: number, what: number | Uint8Array, ...more: unknown[]) => {
          await before(call, offset, typeof what === 'number' ? what : what.length)
          return await (store[name] as (...args: unknown[]) => Promise<unknown>).call(node, offset, what, ...more)
        }
  return withMembers<Node>(node, {
    ...(isDisk(node) && namesOf(node, format)),
    ...(allocated === false && {
      allocatedSize: async () => {
        throw new MoraineError('unsupported', `the filter '${format}' does not tell what is allocated`, {
          path: node.name,
        })
      },
    }),
    descriptor: undefined,
    copyFrom: undefined,
    packedUnit: undefined,
    writePacked: undefined,
    ...(faults !== undefined && { [injecting]: faults, debugEvent: (event: string) => faults.tell(event) }),
    read: guarded('read', 'read'),
    write: guarded('write', 'write'),
    zero: guarded('zero', 'zero'),
    discard: guarded('discard', 'discard'),
    flush: async () => {
      // Where nothing is synced, QEMU asks nobody to.
      if (request.sync !== 'unsafe') await before('flush', 0, 0)
      await store.flush?.call(node)
    },
    extents: (offset: number, length: number, signal?: AbortSignal) => placeless(node, before, offset, length, signal),
  })
}

/** What a filter over a disk shows in place of that disk's own facts. */
function namesOf(disk: Disk, format: string): Readonly<Record<string, unknown>> {
  return {
    format,
    info: () => ({ ...disk.info(), format, details: undefined }),
    bitmaps: undefined,
  }
}

async function* placeless(
  disk: ByteSource,
  before: NonNullable<FilterOptions['before']>,
  offset: number,
  length: number,
  signal: AbortSignal | undefined,
): AsyncIterable<Extent[]> {
  await before('status', offset, length)
  for await (const batch of disk.extents(offset, length, signal)) {
    yield batch.map(({ host: _host, ...extent }) => extent)
  }
}
