/** A new image: written beside its name with all files that belong to it, given its name when it is whole, removed when it is not. */
import { dirname, relative, resolve } from 'node:path'
import {
  type ByteStore,
  type CreateRequest,
  createImage,
  type Disk,
  type DiskFormat,
  type Encryption,
  type Gate,
  isWritable,
  MoraineError,
  type NewBacking,
  type OptionValues,
  openDisk,
  resolveCreation,
  type WritableDisk,
} from '@moraine/engine'
import {
  fileGate,
  imageLocks,
  localPath,
  type NewFile,
  newFile,
  nodeCodecs,
  openFile,
  type Placement,
} from '@moraine/engine/node'
import type { CacheMode } from './cache.ts'
import { cryptoLibrary } from './crypto-library.ts'
import { formatsAndDrivers, isPlain } from './drivers.ts'
import { statsOf } from './file-stats.ts'
import { pathOfNew, refuseGrowth, unopenedTarget } from './new-place.ts'
import { imageGate, isExport, openNamedFile } from './open.ts'
import { filePlacement } from './options.ts'
import type { Context } from './verb.ts'
import { imageWarnings } from './warnings.ts'

/** What a new image shall be. */
export interface NewImageRequest {
  name: string
  format: DiskFormat
  /** Bytes. */
  size: bigint
  options: OptionValues
  backing?: { name: string; format?: string | undefined; disk?: Disk | undefined } | undefined
  cache: CacheMode
  /** What is read while this is written: a target that is one of them is refused. */
  sources?: readonly Disk[]
}

/** A new image that is being made. */
export class NewImage {
  private readonly context: Context
  private readonly request: NewImageRequest
  private readonly files: NewFile[] = []
  private readonly sync: 'always' | 'unsafe'
  private removal: (() => void) | undefined

  private constructor(context: Context, request: NewImageRequest) {
    this.context = context
    this.request = request
    this.sync = request.cache === 'unsafe' ? 'unsafe' : 'always'
  }

  /** Writes an empty image. It stands under its name only after `publish`.
   *  @throws MoraineError */
  static async create(context: Context, request: NewImageRequest): Promise<NewImage> {
    const image = new NewImage(context, request)
    image.removal = () => image.abandonNow()
    process.once('exit', image.removal)
    try {
      await image.write()
      return image
    } catch (error) {
      await image.abandon()
      throw error
    }
  }

  /** The target was there before and is overwritten where it lies. */
  get inPlace(): boolean {
    return this.exported || this.files[0]?.inPlace === true
  }

  /** The target is an export of a server, which is there. */
  private get exported(): boolean {
    return isExport(this.request.name, this.context.persona)
  }

  /** Opens the new image for writing. The disk is the caller's to close, before `publish`.
   *  @throws MoraineError */
  async open(): Promise<WritableDisk> {
    const { name, format } = this.request
    const disk = await openDisk(await this.openWritten(), {
      formats: formatsAndDrivers(),
      format,
      mode: 'write',
      gate: this.gate(),
      codecs: nodeCodecs,
      get crypto() {
        return cryptoLibrary()
      },
      secrets: this.context.objects.secrets,
      encryption: encryptionOf(this.request.options),
      warn: imageWarnings(this.context),
    })
    this.context.trace?.opened(name, this.context.persona.nameOf(format.name), true)
    if (isWritable(disk)) return disk
    await disk.close()
    throw new MoraineError('unsupported', `the format '${format.name}' cannot be written`, { path: name })
  }

  private async openWritten(): Promise<ByteStore> {
    const { name, format } = this.request
    if (this.exported) return await this.openExported()
    const [first] = this.files
    if (first === undefined) throw new MoraineError('io', 'the new image has no file', { path: name })
    const store = await openFile(first.writtenPath, {
      mode: 'write',
      sync: this.sync,
      writes: 'here',
      name,
      lock: first.inPlace ? (isPlain(format.name) ? imageLocks.rawWrite : imageLocks.write) : 'none',
    })
    return this.context.trace?.watch(store, true) ?? store
  }

  private async openExported(name: string = this.request.name): Promise<ByteStore> {
    const { openExported } = await import('./blockdev/exported-target.ts')
    return await openExported(this.context, name, this.sync)
  }

  /** Gives every file its name.
   *  @throws MoraineError `io` */
  async publish(): Promise<void> {
    // The image itself comes last: it must not name a file that is not there.
    for (const file of this.files.toReversed()) await file.publish()
    this.forget()
  }

  /** Removes what was made, except what was overwritten in place. */
  async abandon(): Promise<void> {
    for (const file of this.files) await file.abandon()
    this.forget()
  }

  private abandonNow(): void {
    for (const file of this.files) file.abandonNow()
  }

  private forget(): void {
    if (this.removal !== undefined) process.removeListener('exit', this.removal)
  }

  private async write(): Promise<void> {
    const { name, format } = this.request
    const stores: ByteStore[] = []
    const asked = this.asked()
    try {
      const store = this.exported ? await this.openForCreation() : await this.addImage(asked)
      stores.push(store)
      // As QEMU does where a target cannot be made anew: what was there before must not be taken for what comes.
      if (this.exported) await store.zero(0, Math.min(512, store.size), 'unmap')
      await createImage(
        {
          store,
          sibling: async (sibling, role) => {
            const full = fileGate().resolve({ from: name, name: sibling, role })
            if (isExport(full, this.context.persona)) {
              const exported = await this.openForCreation(full)
              stores.push(exported)
              return exported
            }
            const further = await this.add(localPath(full), full)
            stores.push(further)
            return further
          },
          openParent: (backing) => this.openParent(backing),
          get crypto() {
            return cryptoLibrary()
          },
          secrets: this.context.objects.secrets,
        },
        format,
        asked,
      )
    } finally {
      for (const store of stores) await store.close()
    }
  }

  private async addImage(asked: CreateRequest): Promise<ByteStore> {
    const { name, format } = this.request
    const path = pathOfNew(name, format, this.context.persona)
    refuseGrowth(path, format, Number(asked.size))
    // What cannot be made does not empty what is there.
    if (statsOf(path)?.isFile() === true) resolveCreation(format, asked)
    return await this.add(path, name)
  }

  private async openForCreation(name: string = this.request.name): Promise<ByteStore> {
    try {
      return await this.openExported(name)
    } catch (error) {
      throw unopenedTarget(error, 'nbd')
    }
  }

  private asked(): CreateRequest {
    const { name, size, backing } = this.request
    const { options } = filePlacement(this.request.options)
    return {
      size,
      options,
      backing: backing === undefined ? undefined : { ...backing, place: placeOf(name, backing.name) },
      signal: this.context.signal,
    }
  }

  /** As QEMU does here, without a lock and whatever lies under it. */
  private async openParent(backing: { name: string; format?: string | undefined }): Promise<Disk> {
    const source = await openNamedFile(this.context, this.request.name, backing.name)
    return openDisk(source, { formats: formatsAndDrivers(), format: backing.format, purpose: 'info', gate: fileGate() })
  }

  private async add(path: string, name: string): Promise<ByteStore> {
    if (this.files.some((file) => resolve(file.path) === resolve(path))) {
      throw new MoraineError('locked', 'Failed to get shared "resize" lock', {
        path: name,
        hint: `Is another process using the image [${name}]?\nIt is the new image itself.`,
      })
    }
    const there = statsOf(path)
    if (there !== undefined) {
      this.refuseSource(there.isBlockDevice() ? `block:${there.rdev}` : `${there.dev}:${there.ino}`, name)
    }
    const lock = there === undefined ? 'none' : imageLocks.create
    // An empty image is a few small writes, for which no thread need start.
    const placement: Placement = {
      ...filePlacement(this.request.options).placement,
      onRefusal: (reason) => this.context.warn(`Failed to set extent size hint: ${reason}`),
    }
    const file = await newFile(path, { sync: this.sync, lock, placement, reads: 'here', writes: 'here' })
    this.files.push(file)
    return this.context.trace?.watch(file.store, true) ?? file.store
  }

  /** QEMU's locks would refuse this too; but there are systems without, and -U takes none. */
  private refuseSource(identity: string, name: string): void {
    for (const source of this.request.sources ?? []) {
      for (let disk: Disk | undefined = source; disk !== undefined; disk = disk.parent) {
        if (disk.file.identity !== identity) continue
        throw new MoraineError('locked', 'Failed to get "write" lock', {
          path: name,
          hint: `Is another process using the image [${name}]?\nIt is what this command reads from.`,
        })
      }
    }
  }

  /** Opens what the new image names; its own further files are still under their hidden names. */
  private gate(): Gate {
    const locked = { lock: 'qemu', sync: this.sync } as const
    const gate = imageGate(this.context, locked)
    const trusting = imageGate({ ...this.context, untrusted: undefined }, locked)
    return {
      resolve: (request) => gate.resolve(request),
      open: async (request) => {
        const full = gate.resolve(request)
        const own = this.files.find((file) => file.path === localPathOrSame(full))
        // What the new image names was named by the user; what that names in turn was not.
        const allowing = request.from === this.request.name ? trusting : gate
        if (own === undefined || own.inPlace) return allowing.open(request)
        const { mode } = request
        const file = await openFile(own.writtenPath, { mode, sync: this.sync, writes: 'here', name: full })
        return this.context.trace?.watch(file, mode === 'write') ?? file
      },
    }
  }
}

/** Which secret a new image opens with: the one that it was made with. */
function encryptionOf(options: OptionValues): Encryption | undefined {
  const keySecret = options['key-secret'] ?? options['encrypt.key-secret']
  return typeof keySecret === 'string' ? { keySecret } : undefined
}

/** Where a backing file lies, for images that record more than its name; undefined where it is not there. */
function placeOf(from: string, name: string): NewBacking['place'] {
  const path = localPathOrSame(fileGate().resolve({ from, name }))
  const found = statsOf(path)
  if (found === undefined) return undefined
  const absolute = resolve(path)
  const folder = dirname(resolve(localPathOrSame(from)))
  return { absolute, relative: relative(folder, absolute), modifiedSeconds: Number(found.mtimeMs) / 1000 }
}

function localPathOrSame(name: string): string {
  return name.startsWith('file:') ? name.slice('file:'.length) : name
}
