/** Checking a VMDK: every entry must be one, and every grain must lie in its file. Words of QEMU 7.2, which stops at the first fault; asked to be thorough, and for
 *  repairs, the check goes on, and looks at the redundant tables too. */
import { type Disk, isMoraineError, isStore, throwIfCancelled } from '../../core/index.ts'
import type { CheckOptions, CheckResult } from '../format.ts'
import { checkHostedExtent } from './check-extent.ts'
import { VmdkDisk } from './disk.ts'
import { fault, type Part } from './image.ts'
import { sectorBytes } from './layout.ts'

/** Looks at every entry of every table. A repair (`all`) mends directories and tables from their redundant copies and the other way round, empties entries that
 *  point nowhere, and gives grains that are used twice a copy of their own; the disk must be opened again after it.
 *  @throws MoraineError `corrupt` at the first fault, as QEMU stops there, unless it is asked to be thorough; `denied` when a repair cannot write. */
export async function checkVmdk(disk: Disk, options: CheckOptions): Promise<CheckResult> {
  if (!(disk instanceof VmdkDisk)) throw fault(disk, 'invalid', 'the disk is no VMDK', 'format')
  const result: CheckResult = { checkErrors: 0, leaks: 0, corruptions: 0, leaksFixed: 0, corruptionsFixed: 0 }
  const { parts, size, limits } = disk.image
  const repairs = options.repair === 'all'
  let done = 0
  for (const part of parts) {
    const { sparse } = part
    const store = sparse !== undefined && isStore(sparse.shape.file) ? sparse.shape.file : undefined
    if (sparse?.shape.kind === 'hosted' && (repairs || options.thorough === true)) {
      if (repairs && store === undefined) {
        throw fault(sparse.shape.file, 'denied', 'the image is open for reading only', 'repair')
      }
      const { offset, length } = disk.image.place
      const descriptor = sparse.shape.file === disk.image.file && length !== undefined ? { offset, length } : undefined
      const bounds = { memory: limits.checkBytes, descriptor }
      await checkHostedExtent(sparse, repairs ? store : undefined, options, result, bounds)
    } else await checkPart(disk, part, options)
    done += part.length
    options.onProgress?.({ done, total: size })
  }
  return result
}

async function checkPart(disk: VmdkDisk, part: Part, { signal, report }: CheckOptions): Promise<void> {
  if (part.sparse === undefined) return
  const { file, grainBytes } = part.sparse.shape
  const stop = (message: string, at: number, code: string, words: string): never => {
    report(`ERROR: ${message}`, 'error')
    throw fault(file, 'corrupt', words, 'grain table', { value: at, code })
  }
  for (let at = part.start; at < part.start + part.length; ) {
    throwIfCancelled(signal, disk.name)
    const left = part.start + part.length - at
    const sector = at / sectorBytes
    const found = await Promise.resolve(disk.resolve(at, left)).catch((error: unknown) => {
      if (!isMoraineError(error, 'corrupt')) throw error
      return stop(`could not get cluster_offset for sector ${sector}`, at, 'EPERM', 'Operation not permitted')
    })
    if (found.host >= 0 && (found.kind === 'data' || found.kind === 'packed')) {
      const last = found.host + (found.kind === 'data' ? Math.floor((found.length - 1) / grainBytes) * grainBytes : 0)
      if (last >= file.size) {
        const inside = Math.max(0, Math.ceil((file.size - found.host) / grainBytes))
        const first = sector + (inside * grainBytes) / sectorBytes
        stop(`cluster offset for sector ${first} points after EOF`, at, 'EINVAL', 'Invalid argument')
      }
    }
    at += found.length
  }
}
