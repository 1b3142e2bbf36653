/** A file that is written front to back: beside its name, and renamed when it is whole. */
import { type Disk, MoraineError, type RunOptions, type StreamPlan, throwIfCancelled } from '@moraine/engine'
import { imageLocks, newFile, type Placement } from '@moraine/engine/node'
import type { CacheMode } from '../cache.ts'
import { statsOf } from '../file-stats.ts'
import { pathOf } from '../open.ts'
import type { Context } from '../verb.ts'

/** What is written. */
export interface StreamFileRequest {
  name: string
  cache: CacheMode
  /** What is read while this is written: a target that is one of them is refused. */
  sources: readonly Disk[]
  /** What is said to the file system. */
  placement?: Placement | undefined
}

/** Writes a stream as a file. A new one is removed when this fails; an existing one is overwritten where it lies.
 *  @throws MoraineError */
export async function writeStreamToFile(
  context: Context,
  stream: StreamPlan,
  { name, cache, sources, placement }: StreamFileRequest,
  run: RunOptions,
): Promise<void> {
  const path = pathOf(name, context.persona)
  refuseSources(path, name, sources)
  const sync = cache === 'unsafe' ? 'unsafe' : 'always'
  const onRefusal = (reason: string): void => context.warn(`Failed to set extent size hint: ${reason}`)
  const file = await newFile(path, { sync, lock: imageLocks.create, placement: { ...placement, onRefusal } })
  const store = context.trace?.watch(file.store, true) ?? file.store
  process.once('exit', file.abandonNow)
  try {
    try {
      let at = 0
      for await (const chunk of stream.chunks(run.signal)) {
        throwIfCancelled(run.signal, name)
        await store.write(at, chunk, run.signal)
        at += chunk.length
        if (stream.length !== undefined) run.onProgress?.({ done: at, total: stream.length })
      }
      await store.flush()
    } finally {
      await store.close()
    }
    await file.publish()
  } catch (error) {
    await file.abandon()
    if (file.inPlace) context.warn(`'${name}' was there before and is incomplete now.`)
    throw error
  } finally {
    process.removeListener('exit', file.abandonNow)
  }
}

function refuseSources(path: string, name: string, sources: readonly Disk[]): void {
  const there = statsOf(path)
  if (there === undefined) return
  const identity = there.isBlockDevice() ? `block:${there.rdev}` : `${there.dev}:${there.ino}`
  for (const source of sources) {
    for (let disk: Disk | undefined = source; disk !== undefined; disk = disk.parent) {
      if (disk.file.identity !== identity) continue
      throw new MoraineError('locked', 'Failed to get "write" lock', {
        path: name,
        hint: `Is another process using the image [${name}]?\nIt is what this command reads from.`,
      })
    }
  }
}
