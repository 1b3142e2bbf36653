/** The protocols, each loaded when it is asked for. */
import { type ByteStore, type Extent, MoraineError } from '@moraine/engine'
import { openFile } from '@moraine/engine/node'
import { notDevice } from '../drivers.ts'
import { statsOf } from '../file-stats.ts'
import type { Objects } from '../objects/objects.ts'
import type { NodeRequest, Protocol } from './driver.ts'
import { NodeOptions } from './options.ts'

const loaders: Record<string, () => Promise<Protocol>> = {
  file: async () => hostFile('file'),
  host_cdrom: async () => hostFile('host_cdrom'),
  host_device: async () => hostFile('host_device'),
  'null-co': async () => nothing('null-co'),
  'null-aio': async () => nothing('null-aio'),
  http: async () => (await import('./web.ts')).web('http'),
  https: async () => (await import('./web.ts')).web('https'),
  nbd: async () => (await import('./nbd.ts')).nbd,
}

/** Protocols that QEMU knows and that are out of reach here. */
const foreign = new Set(
  (
    'blklogwrites blkverify fat ftp ftps gluster gluster+rdma gluster+tcp gluster+unix ' +
    'iscsi iser nfs nvme rbd ssh vvfat'
  ).split(' '),
)

/** The protocol of a name; undefined where nobody has it. */
export async function findProtocol(name: string): Promise<Protocol | undefined> {
  return Object.hasOwn(loaders, name) ? await loaders[name]?.() : undefined
}

/** Whether the protocol of this name is QEMU's and not ours. */
export function isForeignProtocol(name: string): boolean {
  return foreign.has(name)
}

function hostFile(driver: 'file' | 'host_cdrom' | 'host_device'): Protocol {
  return {
    strong: ['filename'],
    readName: (name) => new NodeOptions([['filename', name.slice(driver.length + 1)]]),
    plainName: ({ filename }) => String(filename),
    open: async (options, request) => openHostFile(driver, options, request),
  }
}

async function openHostFile(driver: string, options: NodeOptions, request: NodeRequest): Promise<ByteStore> {
  const path = options.takeText('filename')
  const aio = options.takeWord('aio', ['threads', 'native', 'io_uring'])
  const locking = options.takeWord('locking', ['on', 'off', 'auto'])
  for (const name of ['drop-cache', 'x-check-cache-dropped']) options.takeSwitch(name)
  options.takeSize('aio-max-batch')
  if (path === undefined || path === '') {
    throw new MoraineError('invalid', `The '${driver}' block driver requires a file name`, { field: 'filename' })
  }
  if (aio === 'native' && request.direct !== true) {
    const reason = 'aio=native was specified, but it requires cache.direct=on, which was not specified.'
    throw new MoraineError('invalid', reason, { field: 'aio' })
  }
  const manager = options.takeText('pr-manager')
  if (manager !== undefined) refuseUnlessManager(request.context.objects, manager)
  const stats = statsOf(path)
  const isDevice = stats?.isBlockDevice() === true || stats?.isCharacterDevice() === true
  if (stats !== undefined && driver !== 'file' && !isDevice) {
    throw new MoraineError('invalid', notDevice(driver, path), { path })
  }
  if (isDevice && driver === 'file') {
    throw new MoraineError('invalid', `'file' driver requires '${path}' to be a regular file`, { path })
  }
  const store = await openFile(path, { mode: request.mode, sync: request.sync })
  if (locking !== 'off') request.files.push(store)
  return store
}

function nothing(driver: 'null-co' | 'null-aio'): Protocol {
  return {
    strong: ['size', 'latency-ns', 'read-zeroes'],
    readName(name) {
      if (name === `${driver}://`) return new NodeOptions()
      throw new MoraineError('invalid', `The only allowed filename for this driver is '${driver}://'`, { path: name })
    },
    plainName: (strong) => (Object.keys(strong).length === 0 ? `${driver}://` : undefined),
    async open(options) {
      const size = options.takeSize('size') ?? 2 ** 30
      options.takeSize('latency-ns')
      return new NothingStore(`${driver}://`, size, options.takeSwitch('read-zeroes') === true)
    },
  }
}

/** Takes what is written and keeps nothing; reads as zeros. */
class NothingStore implements ByteStore {
  readonly kind = 'device'
  readonly name: string
  readonly size: number
  readonly #known: boolean

  constructor(name: string, size: number, known: boolean) {
    this.name = name
    this.size = size
    this.#known = known
  }

  async read(_offset: number, into: Uint8Array): Promise<void> {
    into.fill(0)
  }

  async *extents(offset: number, length: number): AsyncIterable<Extent[]> {
    const known = this.#known
    if (length > 0) yield [{ offset, length, allocated: known, data: false, zero: known, depth: 0 }]
  }

  allocatedSize = async (): Promise<number> => 0
  write = async (): Promise<void> => {}
  zero = async (): Promise<void> => {}
  discard = async (): Promise<void> => {}
  flush = async (): Promise<void> => {}
  close = async (): Promise<void> => {}

  async resize(): Promise<void> {
    throw new MoraineError('unsupported', 'Image format driver does not support resize', { path: this.name })
  }
}

/** A manager is asked when a guest reserves a disk, which happens to no image here. */
function refuseUnlessManager({ kinds }: Objects, id: string): void {
  const kind = kinds.get(id)
  const field = 'pr-manager'
  if (kind === undefined) {
    throw new MoraineError('missing', `No persistent reservation manager with id '${id}'`, { field })
  }
  if (kind === 'pr-manager-helper') return
  throw new MoraineError('invalid', `Object with id '${id}' is not a persistent reservation manager`, { field })
}
