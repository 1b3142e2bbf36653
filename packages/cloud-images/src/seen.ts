/** What was the newest that was seen of each catalogue, so that an older copy, which somebody may have put in its place, is noticed. Signatures alone do not tell: an old catalogue was signed, too. */
import { randomUUID } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { MoraineError } from '@moraine/engine'

/** Remembers times by the name of a catalogue. */
export interface Seen {
  /** Refuses what is older than what was seen before, and remembers what is newer.
   *  @throws MoraineError `denied` */
  note(name: string, updated: Date, path: string): void
}

/** Remembers nothing. */
export const unseen: Seen = { note: () => {} }

/** Remembers in a small file of JSON. A file that cannot be read counts as empty, one that cannot be written as forgotten: it is a help, and must not keep anybody from their images.
 *  @param allowOlder Older ones are taken, and remembered from then on. */
export function seenIn(file: string, allowOlder = false): Seen {
  return {
    note(name, updated, path) {
      const times = readTimes(file)
      const before = times[name] === undefined ? undefined : new Date(times[name])
      if (before !== undefined && updated.getTime() === before.getTime()) return
      if (before !== undefined && updated < before && !allowOlder) {
        throw new MoraineError(
          'denied',
          `the catalogue is of ${text(updated)}, and one of ${text(before)} was seen before`,
          {
            path,
            hint:
              'Somebody may be holding back newer images, or the mirror is behind. When that is known and meant, --allow-older takes it.\n' +
              `What was seen is remembered in ${file}.`,
          },
        )
      }
      writeTimes(file, { ...times, [name]: updated.toISOString() })
    },
  }
}

function text(date: Date): string {
  return `${date.toISOString().slice(0, 19).replace('T', ' ')} UTC`
}

function readTimes(file: string): Record<string, string> {
  try {
    const value: unknown = JSON.parse(readFileSync(file, 'utf8'))
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return {}
    const good = Object.entries(value).filter(([, time]) => typeof time === 'string' && !Number.isNaN(Date.parse(time)))
    return Object.fromEntries(good) as Record<string, string>
  } catch {
    return {}
  }
}

function writeTimes(file: string, times: Record<string, string>): void {
  const fresh = `${file}.${randomUUID()}`
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 })
    writeFileSync(fresh, `${JSON.stringify(times, null, 2)}\n`)
    renameSync(fresh, file)
  } catch {
    try {
      rmSync(fresh, { force: true })
    } catch {
      // Nothing was written where nothing can be.
    }
  }
}
