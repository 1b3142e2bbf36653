/** A catalogue as the command opens it: what was seen is remembered in the user's state, keyrings are files, and warnings go to standard error. */
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { architectureOf, faultText, openCatalogue, type Query, type Reading, seenIn } from '@moraine/cloud-images'
import { isMoraineError } from '@moraine/engine'
import { Failure, failureFrom, usageFailure } from '../failure.ts'
import type { Context, Values } from '../verb.ts'
import type { catalogueOptions, choiceOptions } from './options.ts'
import { webOf } from './web.ts'

export type CatalogueValues = Values<typeof catalogueOptions>
export type ChoiceValues = Values<typeof choiceOptions>

/** Works with a catalogue and closes what belongs to it.
 *  @throws MoraineError, Failure */
export async function withCatalogue<Result>(
  context: Context,
  distribution: string,
  values: CatalogueValues,
  work: (reading: Reading) => Promise<Result>,
): Promise<Result> {
  const web = webOf(values.cacert)
  try {
    return await work(
      await openCatalogue({
        distribution,
        get: web.get,
        stream: values.stream,
        mirror: values.mirror,
        keyring: readKeyringFile(values),
        seen: seenIn(join(xdgFolder('XDG_STATE_HOME', '.local/state'), 'catalogues.json'), values.allowOlder),
        warn: (message) => context.warn(message),
        signal: context.signal,
      }),
    )
  } catch (error) {
    throw failureFrom(
      error,
      context.persona,
      isMoraineError(error) && error.path !== undefined ? `${error.path}: ` : '',
    )
  } finally {
    web.close()
  }
}

function readKeyringFile({ keyring, unsigned }: CatalogueValues) {
  if (unsigned && keyring !== undefined) throw usageFailure('--unsigned contradicts --keyring')
  if (unsigned) return 'unsigned' as const
  if (keyring === undefined) return undefined
  try {
    return { bytes: readFileSync(keyring), name: keyring }
  } catch (error) {
    throw new Failure(`--keyring: ${keyring} cannot be read: ${faultText(error)}`)
  }
}

/** A folder of moraine's below one of the XDG base directories. Source: XDG Base Directory Specification 0.8: paths must be absolute. */
export function xdgFolder(variable: 'XDG_STATE_HOME' | 'XDG_CACHE_HOME', usual: string): string {
  const given = process.env[variable]
  return join(given?.startsWith('/') === true ? given : join(homedir(), usual), 'moraine')
}

/** What is asked for, with this machine's processor where nothing is said. */
export function queryOf(values: ChoiceValues, release: string | undefined): Query {
  const { architecture = process.arch, kind, date } = values
  return { release, kind, date, architecture: architecture === 'all' ? undefined : architectureOf(architecture) }
}

/** `debian:12` in two parts; the release is undefined when it is not there. */
export function readReference(text: string): { distribution: string; release: string | undefined } {
  const [, distribution = '', release] = /^([^:]+)(?::(.+))?$/.exec(text) ?? []
  if (distribution === '') throw usageFailure(`Expecting a distribution, as in debian or debian:12, not '${text}'`)
  return { distribution, release }
}
