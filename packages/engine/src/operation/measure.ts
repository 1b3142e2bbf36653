/** How large a file a disk would need in a format. */
import { MoraineError } from '../core/index.ts'
import type { DiskFormat, Measure, MeasureRequest } from '../format/format.ts'

/** Bytes that a file of `format` needs, for the data of a source or for an empty disk of a size. Options with their defaults are the format's own matter.
 *  @throws MoraineError `unsupported` when the format cannot tell. */
export async function measureImage(format: DiskFormat, request: MeasureRequest): Promise<Measure> {
  if (format.measure === undefined) {
    throw new MoraineError('unsupported', `Block driver '${format.name}' does not support size measurement`, {
      format: format.name,
      hint: 'what can be written can be measured',
    })
  }
  return format.measure(request)
}
