/** A disk that becomes longer, and the second header of its GPT, which belongs to the new end: on the way into another image, or in its place. */
import { type Disk, moveGptEnd, padDisk, sliceSource, type WritableDisk } from '@moraine/engine'
import { Failure } from './failure.ts'

/** What is said where a GPT was moved. */
export const gptMoved = 'the second header of the GPT is moved to the new end'

/** `disk` with `size` bytes, itself where it has them. `say` is told what became of a GPT. */
export async function longerDisk(
  disk: Disk,
  size: number,
  say: (sentence: string) => void,
  signal?: AbortSignal,
): Promise<Disk> {
  if (size === disk.size) return disk
  const move = await moveGptEnd(disk, size, signal)
  if (move === undefined) return padDisk(disk, size)
  const moved = 'patches' in move
  say(moved ? gptMoved : `the GPT is left as it is, with its second header before the new end: ${move.reason}`)
  return padDisk(disk, size, moved ? move.patches : [])
}

/** Makes a disk longer that is written in its place, with the second header of its GPT at the new end. What cannot be moved is refused before anything changes. At any moment the first header
 *  leads to a second one that is whole, or stands where it was and is whole itself.
 *  @throws Failure where there is no GPT, or one that a person must look at; as `grow`. */
export async function growWithGpt(
  disk: WritableDisk,
  size: number,
  grow: () => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const before = disk.size
  await patchesFor(disk, size, signal)
  await grow()
  // Some formats have no disk of any size.
  const patches = await patchesFor(sliceSource(disk, 0, before), disk.size, signal)
  for (const { offset, bytes } of [...patches].sort((a, b) => b.offset - a.offset)) {
    await disk.write(offset, bytes, signal)
    await disk.flush()
  }
}

async function patchesFor(source: Parameters<typeof moveGptEnd>[0], size: number, signal: AbortSignal | undefined) {
  const move = await moveGptEnd(source, size, signal)
  if (move === undefined)
    throw new Failure('there is no GPT to move', { hint: 'Without --move-gpt only the size changes.' })
  if ('patches' in move) return move.patches
  throw new Failure(`the GPT cannot be moved: ${move.reason}`, { hint: 'Without --move-gpt it is left as it is.' })
}
