/** A disk that becomes longer on its way into another image: zeros behind its end, and the second header of its GPT there. */
import { type Disk, moveGptEnd, padDisk } from '@moraine/engine'

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
  say(
    moved
      ? 'the second header of the GPT is moved to the new end'
      : `the GPT is left as it is, with its second header before the new end: ${move.reason}`,
  )
  return padDisk(disk, size, moved ? move.patches : [])
}
