/** Opening a Parallels image. */
import { type ByteSource, type Disk, isStore, readPadded, type WritableDisk } from '../../core/index.ts'
import type { OpenContext } from '../format.ts'
import { ParallelsDisk, tableOf } from './disk.ts'
import { readExtension } from './extension.ts'
import { headerBytes, inUse, parallelsFault, parseHeader } from './layout.ts'

/** Opens an image; for writing the result is a `WritableDisk`.
 *  @throws MoraineError as header and extension say; `denied` when the source cannot be written and shall be, `corrupt` for writing what was not
 *  closed (a check may open it). */
export async function openParallels(file: ByteSource, context: OpenContext): Promise<Disk | WritableDisk> {
  const write = context.mode === 'write'
  if (write && !isStore(file)) throw parallelsFault(file.name, 'denied', 'the source cannot be written', {})
  const bytes = new Uint8Array(headerBytes)
  await readPadded(file, 0, bytes)
  const header = parseHeader(bytes, file.name)
  const table = tableOf(file, header, context)
  if (write && header.inUse === inUse.open && context.purpose !== 'check') {
    const reason = 'parallels: Image was not closed correctly; cannot be opened read/write'
    throw parallelsFault(file.name, 'corrupt', reason, {
      field: 'in_use',
      value: header.inUse,
      hint: 'check -r all makes it usable again',
    })
  }
  const extension = header.extension === 0 ? undefined : await readExtension(file, header, context)
  const image = { file, header, table, extension, context }
  if (!write || !isStore(file)) return new ParallelsDisk(image)
  const { WritableParallelsDisk } = await import('./writable-disk.ts')
  return new WritableParallelsDisk(image, file)
}
