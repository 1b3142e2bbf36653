/** A folder in memory: images of several files and chains of images, without a file system. */
import {
  allFormats,
  type ByteSource,
  type ByteStore,
  type CheckResult,
  checkImage,
  createImage,
  type Disk,
  type Gate,
  isWritable,
  MemoryStore,
  MoraineError,
  type OpenOptions,
  openDisk,
  type WritableDisk,
} from '@moraine/engine'
import { nodeCodecs } from '@moraine/engine/node'
import { closing, formatOf, optionsOf } from './disk.ts'

/** An image that a folder shall hold. */
export interface HostImage {
  name: string
  format: string
  /** As for `-o`. */
  options?: string | undefined
  size: number
  /** Another image of the folder, under the new one. */
  parent?: { name: string; format: string } | undefined
}

/** Files by name. Paths are taken by their last part: there is one folder. */
export class MemoryHost<Store extends ByteStore = ByteStore> {
  readonly files = new Map<string, Store>()
  readonly gate: Gate
  private readonly make: (empty: MemoryStore) => Store

  /** `make` turns a new, empty file into the kind of store that is wanted. */
  constructor(make: (empty: MemoryStore) => Store) {
    this.make = make
    this.gate = {
      resolve: ({ name }) => lastPart(name),
      open: async ({ name }): Promise<ByteSource> => this.file(lastPart(name)),
    }
  }

  /** @throws MoraineError `missing`. */
  file(name: string): Store {
    const store = this.files.get(name)
    if (store === undefined) throw new MoraineError('missing', 'there is no such file', { path: name })
    return store
  }

  async create({ name, format, options = '', size, parent }: HostImage): Promise<void> {
    const opened = parent === undefined ? undefined : await this.open(parent.name, parent.format)
    const sibling = async (further: string): Promise<ByteStore> => this.add(further)
    try {
      await createImage({ store: this.add(name), sibling }, formatOf(format), {
        size: BigInt(size),
        options: optionsOf(format, options),
        ...(parent !== undefined && {
          backing: {
            ...parent,
            disk: opened,
            place: { absolute: `/${parent.name}`, relative: parent.name, modifiedSeconds: 1_700_000_000 },
          },
        }),
      })
    } finally {
      await opened?.close()
    }
  }

  open(name: string, format: string, purpose?: OpenOptions['purpose']): Promise<Disk> {
    return openDisk(this.file(name), { formats: allFormats, format, gate: this.gate, codecs: nodeCodecs, purpose })
  }

  async openForWriting(
    name: string,
    format: string,
    purpose?: OpenOptions['purpose'],
    limits?: OpenOptions['limits'],
  ): Promise<WritableDisk> {
    const common = { formats: allFormats, format, gate: this.gate, codecs: nodeCodecs, purpose, limits }
    const disk = await openDisk(this.file(name), { ...common, mode: 'write' })
    if (!isWritable(disk)) throw new Error(`${name} was opened for writing and cannot be written`)
    return disk
  }

  /** Checks or repairs an image, as closely as its format can. */
  async check(
    name: string,
    format: string,
    repair: 'none' | 'all' = 'none',
  ): Promise<{ result: CheckResult; lines: string[] }> {
    const lines: string[] = []
    const opening = repair === 'none' ? this.open(name, format, 'check') : this.openForWriting(name, format, 'check')
    const result = await closing(await opening, (disk) =>
      checkImage(formatOf(format), disk, { repair, thorough: true, report: (line) => lines.push(line) }),
    )
    return { result, lines }
  }

  private add(name: string): Store {
    const store = this.make(new MemoryStore({ name }))
    this.files.set(name, store)
    return store
  }
}

function lastPart(name: string): string {
  return name.slice(name.lastIndexOf('/') + 1)
}
