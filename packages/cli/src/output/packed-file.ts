/** Images that are written into a file as they would be to a pipe, since importers read them front to back. */
import { allFormats, type DiskFormat, MemoryStore, type OptionValues, openDisk, planConversion } from '@moraine/engine'
import { statsOf } from '../file-stats.ts'
import { pathOf } from '../open.ts'
import { filePlacement } from '../options.ts'
import type { Context } from '../verb.ts'
import { writeStreamToFile } from './stream-file.ts'

/** Whether a file is written as it would be to a pipe, though it need not be. ESXi and the importers of clouds read a streamOptimized VMDK front to back, by VMware's markers. */
export function isStreamed(
  { persona }: Context,
  name: string,
  { format, options }: { format: Pick<DiskFormat, 'name'>; options: OptionValues },
): boolean {
  if (!persona.streamsPacked || format.name !== 'vmdk' || options.subformat !== 'streamOptimized') return false
  if (persona.readName(name).kind !== 'file') return false
  // Its footer is the end of the file; a device ends where it ends.
  return statsOf(pathOf(name, persona))?.isFile() ?? true
}

/** Writes an empty disk so. Nothing can be written into it afterwards. */
export async function writeEmptyStream(
  context: Context,
  name: string,
  { format, size, options: all }: { format: DiskFormat; size: number; options: OptionValues },
): Promise<void> {
  const { signal } = context
  const { placement, options } = filePlacement(all)
  const source = await openDisk(new MemoryStore({ name: 'empty disk', size }), { formats: allFormats, format: 'raw' })
  const plan = await planConversion(source, { format, options })
  const stream = await plan.stream()
  await writeStreamToFile(context, stream, { name, cache: 'unsafe', sources: [], placement }, { signal })
}
