/** Jobs of `engine-child.ts` for disks of any size: what they answer is short, and they hold nothing that grows with the image. */
import {
  allFormats,
  commitDisk,
  compareDisks,
  copyFromBacking,
  isWritable,
  mapDisk,
  measureImage,
  openDisk,
  planConversion,
  type WritableDisk,
} from '@moraine/engine'
import { fileGate, nodeCodecs, openFile } from '@moraine/engine/node'
import { closing, createFile, formatOf, openWritable, optionsOf, withImage, withWritable } from './disk.ts'
import type { Job } from './engine.ts'
import { Random } from './random.ts'

const formatName = (job: Job): string => job.format ?? 'qcow2'

function targetOf(job: Job): { path: string; format: string; options: string } {
  if (job.target === undefined) throw new Error(`${job.op} wants a target`)
  return { path: job.target, format: job.to ?? formatName(job), options: job.options ?? '' }
}

/** Opens an overlay for writing over a base that is open for writing, too. */
async function openOver(job: Job, base: WritableDisk): Promise<WritableDisk> {
  const source = await openFile(job.file, { mode: 'write', sync: 'unsafe' })
  const gate = { resolve: fileGate().resolve, open: async () => base }
  const disk = await openDisk(source, {
    formats: allFormats,
    format: formatName(job),
    mode: 'write',
    gate,
    codecs: nodeCodecs,
  })
  if (!isWritable(disk)) throw new Error('an overlay opened for writing cannot be written')
  return disk
}

/** What `engine-child.ts` does besides. */
export const largeJobs = {
  /** How many lines a map has. */
  walk: (job: Job) =>
    withImage(job.file, formatName(job), async (disk) => {
      let lines = 0
      for await (const batch of mapDisk(disk)) lines += batch.length
      return lines
    }),
  /** With the image `target`. */
  compare: (job: Job) =>
    withImage(job.file, formatName(job), (disk) => {
      const { path, format } = targetOf(job)
      return withImage(path, format, (other) => compareDisks(disk, other))
    }),
  /** As an image of the format `to`. */
  measure: (job: Job) =>
    withImage(job.file, formatName(job), (source) => {
      const to = job.to ?? formatName(job)
      return measureImage(formatOf(to), {
        source,
        size: source.size,
        options: optionsOf(to, job.options ?? ''),
      })
    }),
  /** Into a new image `target` of the format `to`. */
  transform: (job: Job) =>
    withImage(job.file, formatName(job), async (disk) => {
      const { path, format, options } = targetOf(job)
      await createFile(path, format, disk.size, options)
      const plan = await planConversion(disk, {
        format: formatOf(format),
        options: optionsOf(format, options),
        compress: job.compress,
      })
      await withWritable(path, format, (out) => plan.run(out))
      return 'done'
    }),
  /** Front to back, as an image of the format `to`; its bytes are counted, of the first `pieces` chunks. */
  stream: (job: Job) =>
    withImage(job.file, formatName(job), async (disk) => {
      const to = job.to ?? formatName(job)
      const plan = await planConversion(disk, {
        format: formatOf(to),
        options: optionsOf(to, job.options ?? ''),
        compress: job.compress,
      })
      const { chunks } = await plan.stream()
      let bytes = 0
      let count = 0
      for await (const chunk of chunks()) {
        bytes += chunk.length
        if (++count === job.pieces) break
      }
      return bytes
    }),
  /** Writes `pieces` pieces of 4 KiB, evenly spread. */
  spread: (job: Job) =>
    withWritable(job.file, formatName(job), async (disk) => {
      const bytes = new Random(job.seed ?? 1).bytes(4096)
      const pieces = job.pieces ?? 1024
      const stride = Math.floor(disk.size / pieces / 4096) * 4096
      for (let i = 0; i < pieces; i++) await disk.write(i * stride, bytes)
      return 'done'
    }),
  /** Into the image `target`, which is right under it. */
  commit: async (job: Job) => {
    const { path, format } = targetOf(job)
    const base = await openWritable(path, format)
    // The overlay closes what stands under it.
    await closing(await openOver(job, base), (top) => commitDisk(top, base))
    return 'done'
  },
  /** Onto nothing. */
  rebase: (job: Job) =>
    withWritable(job.file, formatName(job), async (disk) => {
      await copyFromBacking(disk, undefined)
      return 'done'
    }),
  resize: (job: Job) =>
    withWritable(job.file, formatName(job), async (disk) => {
      await disk.resize(job.size ?? disk.size)
      return disk.size
    }),
}
