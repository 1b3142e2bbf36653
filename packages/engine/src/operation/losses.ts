/** What a conversion does not carry over, with the reason: shown before any byte moves. */
import type { Disk } from '../core/index.ts'
import type { DiskFormat } from '../format/format.ts'

/** One thing of the source that the target will not have. */
export interface Loss {
  /** A word for programs: `snapshots`, `bitmaps`, `encryption`, `backing file`, `data file`, `size`. */
  what: string
  /** A sentence for people. */
  reason: string
}

/** Lists the losses of writing `source` as `format`. */
export function findLosses(
  source: Disk,
  format: DiskFormat,
  kept: { bitmaps: boolean; backing: boolean; encryption: boolean },
): Loss[] {
  const info = source.info()
  const losses: Loss[] = []
  if (info.snapshots.length > 0) {
    const count = info.snapshots.length
    losses.push({
      what: 'snapshots',
      reason: `${count} internal snapshot${count === 1 ? ' is' : 's are'} not copied: only the current content is`,
    })
  }
  const lost = source.bitmaps?.list().filter(({ inconsistent }) => inconsistent || !kept.bitmaps)
  const bitmaps = lost?.length ?? 0
  if (bitmaps > 0) {
    losses.push({
      what: 'bitmaps',
      reason: `${bitmaps} dirty bitmap${bitmaps === 1 ? ' is' : 's are'} not copied`,
    })
  }
  if (info.encrypted === true && !kept.encryption) {
    losses.push({ what: 'encryption', reason: `the ${format.name} image is written unencrypted` })
  }
  if (info.backing !== undefined && !kept.backing) {
    losses.push({
      what: 'backing file',
      reason: `what '${info.backing.name}' holds is copied into the new image, which stands alone`,
    })
  }
  if (info.details?.data['data-file'] !== undefined) {
    losses.push({ what: 'data file', reason: 'what the external data file holds is copied into the new image' })
  }
  // A disk that was padded on purpose is told of where that was asked for.
  const added = source.size - source.file.size
  if (info.format === 'raw' && added > 0 && added < 512) {
    losses.push({
      what: 'size',
      reason: `the size is rounded up to whole sectors, from ${source.file.size} to ${source.size} bytes`,
    })
  }
  return losses
}
