/** Changing which passwords open an image. */
import { type Disk, MoraineError } from '../core/index.ts'
import type { DiskFormat, KeyChange, KeyChangeContext } from '../format/format.ts'

/** Adds or erases passwords of an encrypted image that was opened for writing with one of them. What has been done has reached the file when this returns; the last password
 *  is not erased unless that is forced.
 *  @throws MoraineError `unsupported` when the format has no key slots, and as the format says. */
export async function amendKeys(
  format: DiskFormat,
  disk: Disk,
  change: KeyChange,
  context: KeyChangeContext,
): Promise<void> {
  if (format.amendKeys === undefined) {
    const place = { path: disk.name, format: format.name }
    throw new MoraineError('unsupported', `Format driver '${format.name}' does not support option amendment`, place)
  }
  await format.amendKeys(disk, change, context)
}
