/** New target files: written beside their name and renamed when they are whole, so that nobody sees a half-made image. */
import fs from 'node:fs'
import path from 'node:path'
import { type ByteStore, isMoraineError } from '../../core/index.ts'
import { codeOf, hostError, openError } from './host-error.ts'
import { type OpenFileOptions, openFile } from './open-file.ts'

/** How a new file is made. */
export interface NewFileOptions
  extends Pick<OpenFileOptions, 'lock' | 'native' | 'sync' | 'reads' | 'writes' | 'placement'> {}

/** A target that is being written. Whoever made it calls `publish` when all is well, `abandon` otherwise; both may be called after the store was closed. */
export interface NewFile {
  readonly store: ByteStore
  /** The name asked for. */
  readonly path: string
  /** Where the bytes are until `publish`: beside the name, or the name itself when `inPlace`. */
  readonly writtenPath: string
  /** The target was there already (a file, which was emptied, or a device): it is overwritten, keeps owner, links and label, and is
   *  damaged, not removed, when the work is given up. */
  readonly inPlace: boolean
  /** Gives the file its name. The folder is synced too, unless `sync` is `unsafe`. Does not close the store.
   *  @throws MoraineError `io`. */
  publish(): Promise<void>
  /** Removes what was written, unless it was in place. Does not close the store. */
  abandon(): Promise<void>
  /** `abandon` for handlers of signals and of exit: at once, never throws. */
  abandonNow(): void
}

/** Opens a target for writing: an existing file or device in place, emptied (files) after its lock was had; a new one under a hidden
 *  name in the same folder.
 *  @throws MoraineError as `openFile` does. */
export async function newFile(target: string, options: NewFileOptions = {}): Promise<NewFile> {
  const { final, isThere } = placeOf(target)
  if (isThere) {
    const store = await openFile(final, { ...options, mode: 'write', create: true, name: target })
    const nothing = async () => {}
    return {
      store,
      path: target,
      writtenPath: final,
      inPlace: true,
      publish: nothing,
      abandon: nothing,
      abandonNow: () => {},
    }
  }
  const writtenPath = hiddenName(final)
  // No lock: nobody else knows the hidden name.
  const fresh = { mode: 'write', create: true, exclusive: true, lock: 'none', name: target } as const
  const store = await openFile(writtenPath, { ...options, ...fresh })
  let there = true
  const remove = () => {
    if (!there) return
    there = false
    try {
      fs.unlinkSync(writtenPath)
    } catch {
      // Gone already: there is nothing half-made to leave.
    }
  }
  return {
    store,
    path: target,
    writtenPath,
    inPlace: false,
    async publish() {
      if (!there) return
      try {
        fs.renameSync(writtenPath, final)
        there = false
        if (options.sync !== 'unsafe') syncFolder(path.dirname(final))
      } catch (error) {
        throw hostError(codeOf(error), { path: target, cause: error }, `Could not create '${target}'`)
      }
    },
    async abandon() {
      remove()
    },
    abandonNow: remove,
  }
}

/** Where a target of this name lies, and whether it is there.
 *  @throws MoraineError where it can be neither there nor made, as below a file. */
function placeOf(target: string): { final: string; isThere: boolean } {
  try {
    const final = resolveLinks(target)
    return { final, isThere: fs.statSync(final, { throwIfNoEntry: false }) !== undefined }
  } catch (error) {
    throw isMoraineError(error) ? error : openError(target, error, 'create')
  }
}

/** The end of a chain of symbolic links, which need not be there. */
function resolveLinks(target: string): string {
  let at = target
  for (let i = 0; i < 40; i++) {
    if (fs.lstatSync(at, { throwIfNoEntry: false })?.isSymbolicLink() !== true) return at
    at = path.resolve(path.dirname(at), fs.readlinkSync(at))
  }
  throw openError(target, Object.assign(new Error('too many links'), { code: 'ELOOP' }))
}

function hiddenName(final: string): string {
  // File names end at 255 bytes; the name may be all of them. Nobody's file is taken, whatever the name: it is made exclusively.
  const base = Buffer.from(path.basename(final)).subarray(0, 200).toString('utf8').replaceAll('\ufffd', '')
  return path.join(path.dirname(final), `.${base}.${Math.random().toString(36).slice(2, 14)}.part`)
}

function syncFolder(folder: string): void {
  const descriptor = fs.openSync(folder, fs.constants.O_RDONLY)
  try {
    fs.fsyncSync(descriptor)
  } finally {
    fs.closeSync(descriptor)
  }
}
