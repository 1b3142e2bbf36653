/** Checking and repairing an image's own metadata. */
import { type Disk, MoraineError } from '../core/index.ts'
import type { CheckOptions, CheckResult, DiskFormat } from '../format/format.ts'

/** Checks `disk`, opened with purpose `check` (and for writing when it shall be repaired). The counters tell the state after a repair.
 *  @throws MoraineError `unsupported` when the format has no check (`qemu-img check` exits with 63 then). */
export async function checkImage(format: DiskFormat, disk: Disk, options: CheckOptions): Promise<CheckResult> {
  if (format.check === undefined) {
    throw new MoraineError('unsupported', 'This image format does not support checks', {
      path: disk.name,
      format: format.name,
    })
  }
  return format.check(disk, options)
}
