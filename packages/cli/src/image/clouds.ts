/** clouds.yaml and secure.yaml: found where openstacksdk finds them. Source: openstacksdk, "Configuration Files", and its `config/loader.py`. */
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { parse } from 'yaml'
import { Failure } from '../failure.ts'

/** A mapping of YAML. */
export type Mapping = Readonly<Record<string, unknown>>

/** Where settings come from besides the command line. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>
  /** The current folder. */
  readonly folder: string
}

/** All clouds that the files name, with what secure.yaml adds to them.
 *  @throws Failure for a file that cannot be read or is no clouds.yaml. */
export function readClouds(around: Surroundings): Map<string, Mapping> {
  const open = readFirst('clouds', around.env.OS_CLIENT_CONFIG_FILE, around)
  const secret = readFirst('secure', around.env.OS_CLIENT_SECURE_FILE, around)
  const merged = merge(open ?? {}, secret ?? {})
  const clouds = merged.clouds ?? {}
  if (!isMapping(clouds)) throw new Failure("clouds.yaml: 'clouds' must be a mapping of names to clouds")
  const found = new Map<string, Mapping>()
  for (const [name, cloud] of Object.entries(clouds)) if (isMapping(cloud)) found.set(name, cloud)
  return found
}

function readFirst(base: string, named: string | undefined, { env, folder }: Surroundings): Mapping | undefined {
  const home = env.HOME ?? homedir()
  const folders = [
    folder,
    join(env.XDG_CONFIG_HOME ?? join(home, '.config'), 'openstack'),
    join(home, '.config/openstack'),
  ]
  const places = [...folders, '/etc/xdg/openstack', '/etc/openstack'].flatMap((place) =>
    ['yaml', 'yml', 'json'].map((ending) => join(place, `${base}.${ending}`)),
  )
  for (const path of named === undefined || named === '' ? places : [named, ...places]) {
    const text = readIfThere(path)
    if (text !== undefined) return readMapping(path, text)
  }
  return undefined
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw new Failure(`${path} cannot be read: ${code}`)
  }
}

function readMapping(path: string, text: string): Mapping {
  let value: unknown
  try {
    // Neither warnings nor the source lines of an error: a secret may stand there.
    // As the stock client reads it: with YAML 1.1's `<<`.
    value = parse(text, { merge: true, logLevel: 'error', prettyErrors: false })
  } catch (error) {
    const at = error instanceof Error && 'pos' in error && Array.isArray(error.pos) ? Number(error.pos[0]) : undefined
    const line = at === undefined ? '' : ` at line ${text.slice(0, at).split('\n').length}`
    throw new Failure(`${path} is not valid YAML${line}`)
  }
  if (value === null || value === undefined) return {}
  if (!isMapping(value)) throw new Failure(`${path} must be a mapping`)
  return value
}

/** Whether a value of YAML has names. */
export function isMapping(value: unknown): value is Mapping {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** `over` wins; mappings are joined name by name. */
function merge(under: Mapping, over: Mapping): Mapping {
  const merged: Record<string, unknown> = { ...under }
  for (const [name, value] of Object.entries(over)) {
    const below = merged[name]
    merged[name] = isMapping(below) && isMapping(value) ? merge(below, value) : value
  }
  return merged
}
