/** A seed as a disk: its file system, in an image of any format. */
import {
  allFormats,
  type Disk,
  type DiskFormat,
  MemoryStore,
  type NewEntry,
  type OptionValues,
  openDisk,
  planConversion,
  planFatVolume,
  planIsoVolume,
  type StreamPlan,
} from '@moraine/engine'
import { conversionFailure } from '../convert-failure.ts'
import { NewImage } from '../target.ts'
import type { Context } from '../verb.ts'
import type { SeedFiles } from './files.ts'
import type { SeedFileSystem } from './kinds.ts'

/** The file system of a seed. `time`: seconds since 1970.
 *  @throws MoraineError */
export function seedVolume({ label, files }: SeedFiles, fileSystem: SeedFileSystem, time: number): StreamPlan {
  const entries = [...files].map(
    ([path, bytes]): NewEntry => ({
      path,
      kind: 'file',
      size: bytes.length,
      open: async () => MemoryStore.from(bytes, path),
      modified: time,
    }),
  )
  if (fileSystem === 'iso') return planIsoVolume(entries, { volumeId: label, time })
  // Labels of FAT are in capital letters; cloud-init looks for both.
  return planFatVolume(entries, { label: label.toUpperCase(), time })
}

/** Writes a seed as an image of a format.
 *  @throws MoraineError, Failure */
export async function writeSeedImage(
  context: Context,
  volume: StreamPlan,
  { name, format, options }: { name: string; format: DiskFormat; options: OptionValues },
): Promise<void> {
  const source = await volumeDisk(volume)
  const image = await NewImage.create(context, { name, format, size: BigInt(source.size), options, cache: 'unsafe' })
  try {
    const target = await image.open()
    try {
      const plan = await planConversion(source, { format, options, warn: (message) => context.warn(message) })
      await plan.run(target, { signal: context.signal })
    } catch (error) {
      throw conversionFailure(error, [name], context.persona)
    } finally {
      await target.close()
    }
    await image.publish()
  } catch (error) {
    await image.abandon()
    throw error
  } finally {
    await source.close()
  }
}

/** The volume as a disk, in memory. */
export async function volumeDisk(volume: StreamPlan): Promise<Disk> {
  const store = new MemoryStore({ name: 'the seed' })
  let at = 0
  for await (const chunk of volume.chunks()) {
    await store.write(at, chunk)
    at += chunk.length
  }
  return await openDisk(store, { formats: allFormats, format: 'raw' })
}
