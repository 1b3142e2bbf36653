/** Where an image is saved: what a name stands for, and what cannot be a target. */
import { lstatSync, realpathSync, statSync } from 'node:fs'
import { Failure } from '../failure.ts'
import type { Context } from '../verb.ts'
import { checkTarget } from './part-file.ts'

/** The file of a name; undefined for standard output.
 *  @throws Failure for a link that leads nowhere. */
export function pathOfTarget({ persona }: Context, target: string): string | undefined {
  const place = persona.readName(target)
  if (place.kind !== 'file') return undefined
  // A link stays a link: what it leads to is replaced.
  return lstatSync(place.path, { throwIfNoEntry: false })?.isSymbolicLink() ? realPath(place.path) : place.path
}

function realPath(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    throw new Failure(`'${path}' is a link that leads nowhere`)
  }
}

/** Refuses a target before anything is fetched for it.
 *  @throws Failure */
export function checkSaveTarget(target: string): void {
  checkTarget(target)
  const folder = statSync(target.replace(/[^/]*$/, '') || '.', { throwIfNoEntry: false })
  if (folder?.isDirectory() !== true) throw new Failure(`Could not create '${target}': No such file or directory`)
}
