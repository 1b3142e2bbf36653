/** What a conversion does with dirty bitmaps. Order and words: QEMU 7.2's `convert_check_bitmaps` and `convert_copy_bitmaps`. */
import {
  type BitmapInfo,
  type BitmapStore,
  type Bitmaps,
  type Disk,
  MoraineError,
  type WritableDisk,
} from '../core/index.ts'

/** The copying of the bitmaps of one disk into another, ready to run. */
export interface BitmapCopy {
  /** Adds them. To be called when the content is complete: what is written afterwards is followed.
   *  @throws MoraineError as `BitmapStore.add` and `Bitmaps.ranges`. */
  run(signal?: AbortSignal): Promise<void>
}

/** The bitmaps of a source that are to be copied.
 *  @throws MoraineError `unsupported` when it can have none, `invalid` when one is inconsistent and must not be left out. */
export function bitmapsOf(source: Disk, skipBroken: boolean): Bitmaps {
  const { bitmaps } = source
  if (bitmaps === undefined) {
    throw new MoraineError('unsupported', 'Source lacks bitmap support', { path: source.name, field: 'bitmaps' })
  }
  // QEMU's list has the newest first.
  const broken = bitmaps.list().findLast(({ inconsistent }) => inconsistent)
  if (broken !== undefined && !skipBroken) {
    throw new MoraineError('invalid', `Cannot copy inconsistent bitmap '${broken.name}'`, {
      path: source.name,
      field: 'bitmaps',
      value: broken.name,
      rule: 'a bitmap whose last writer came to its end',
      hint: 'leave broken bitmaps out, or remove them',
    })
  }
  return bitmaps
}

/** Prepares copying `bitmaps`, without those that are inconsistent; each of these is warned about.
 *  @throws MoraineError `unsupported` when the target can have none, or has another size; `invalid` when it has one of such a name. */
export function planBitmapCopy(bitmaps: Bitmaps, target: WritableDisk, warn: (message: string) => void): BitmapCopy {
  const store = target.bitmaps
  if (store === undefined) {
    throw new MoraineError('unsupported', `Format driver '${target.format}' does not support bitmaps`, {
      path: target.name,
      format: target.format,
      field: 'bitmaps',
    })
  }
  const taken = new Set(store.list().map(({ name }) => name))
  const copied: BitmapInfo[] = []
  const skipped: string[] = []
  const warnOfSkipped = () => {
    for (const name of skipped) warn(`Skipping inconsistent bitmap '${name}'`)
  }
  for (const bitmap of bitmaps.list().toReversed()) {
    if (bitmap.inconsistent) skipped.push(bitmap.name)
    else {
      const refusal = refusalOf(bitmap, bitmaps, taken, store, target)
      if (refusal !== undefined) {
        warnOfSkipped()
        throw refusal
      }
      copied.unshift(bitmap)
    }
  }
  return {
    async run(signal) {
      warnOfSkipped()
      await store.add(
        copied.map(({ name, granularity, enabled }) => ({
          name,
          granularity,
          enabled,
          ranges: bitmaps.ranges(name, signal),
        })),
        signal,
      )
    },
  }
}

function refusalOf(
  { name }: BitmapInfo,
  from: Bitmaps,
  taken: ReadonlySet<string>,
  to: BitmapStore,
  target: WritableDisk,
): MoraineError | undefined {
  const place = { path: target.name, format: target.format, field: 'bitmaps', value: name }
  if (taken.has(name)) {
    return new MoraineError('invalid', `Failed to create bitmap ${name}: Bitmap already exists: ${name}`, place)
  }
  if (to.size === from.size) return undefined
  return new MoraineError(
    'unsupported',
    `Failed to populate bitmap ${name}: Bitmaps are of different sizes (destination size is ${to.size}, source size is ${from.size}) and can't be merged`,
    place,
  )
}
