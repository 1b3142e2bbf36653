/** `-l`: which internal snapshot is read instead of the current content. */
import { type Disk, splitOptions } from '@moraine/engine'
import { Failure, failureFrom } from './failure.ts'
import type { Context } from './verb.ts'

/** A snapshot by one word, which is looked for among the ids and then the names, or by id and name apart. */
export type SnapshotName = { either: string } | { id: string | undefined; name: string | undefined }

const prefix = 'snapshot.'

/** Reads the argument of `-l`.
 *  @throws Failure */
export function readSnapshot(text: string): SnapshotName {
  if (!text.startsWith(prefix)) return { either: text }
  const found: { id: string | undefined; name: string | undefined } = { id: undefined, name: undefined }
  for (const [key, value] of splitOptions(text)) {
    if (key === 'snapshot.id') found.id = value
    else if (key === 'snapshot.name') found.name = value
    else throw new Failure([`Invalid parameter '${key}'`, `Failed in parsing snapshot param '${text}'`])
  }
  return found
}

/** The disk as the snapshot has it. It borrows `disk`, which must stay open.
 *  @throws Failure */
export async function openNamedSnapshot(disk: Disk, snapshot: SnapshotName, context: Context): Promise<Disk> {
  if (disk.openSnapshot === undefined) {
    throw new Failure(
      `Failed to load snapshot: Block format '${context.persona.nameOf(disk.format)}' used by device '' does not support temporarily loading internal snapshots`,
    )
  }
  const known = disk.info().snapshots
  const found =
    'either' in snapshot
      ? (known.find(({ id }) => id === snapshot.either) ?? known.find(({ name }) => name === snapshot.either))
      : known.find(
          ({ id, name }) =>
            (snapshot.id === undefined || id === snapshot.id) &&
            (snapshot.name === undefined || name === snapshot.name),
        )
  if (found === undefined) throw new Failure("Failed to load snapshot: Can't find snapshot")
  try {
    return await disk.openSnapshot(found.id)
  } catch (error) {
    throw failureFrom(error, context.persona, 'Failed to load snapshot: ')
  }
}
