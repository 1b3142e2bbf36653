/** `--object`: things that images are opened with. Words and order of checks: qemu-img 7.2. */
import { isMoraineError } from '@moraine/engine'
import { Failure } from '../failure.ts'
import { type Json, parseQemuJson } from '../qemu-json.ts'
import { absentKinds } from './absent-kinds.ts'
import { readKeyval } from './keyval.ts'
import { kinds, objectHelp } from './kinds.ts'
import type { Objects } from './objects.ts'
import { oneOf, SchemaReader, string } from './schema.ts'

const kindMember = { 'qom-type': oneOf('ObjectType', [...Object.keys(kinds), ...Object.keys(absentKinds)]) } as const

/** Makes the object that a definition such as `throttle-group,id=t0,x-bps-total=1000000` describes.
 *  @returns text that the definition asked for instead of an object, as in `secret,help`.
 *  @throws Failure */
export async function defineObject(
  definition: string,
  objects: Objects,
  signal: AbortSignal,
): Promise<string | undefined> {
  const json = definition.startsWith('{')
  const { values: given, help } = json ? readJson(definition) : readKeyval(definition, 'qom-type')
  if (help) return objectHelp(given['qom-type'])

  const reader = new SchemaReader(json ? 'json' : 'keyval')
  const { 'qom-type': name } = reader.read(kindMember, { 'qom-type': given['qom-type'] } as { [name: string]: Json })
  const kind = Object.hasOwn(kinds, name) ? kinds[name] : undefined
  const members = kind?.members ?? absentKinds[name] ?? {}
  const { id, ...values } = reader.read({ ...kindMember, id: string, ...members }, given)

  if (!/^[a-z][\w.-]*$/i.test(id)) {
    throw new Failure("Parameter 'id' expects an identifier", {
      hint: "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.",
    })
  }
  if (kind === undefined) throw new Failure(`invalid object type: ${name}`)
  if ('loaded' in values) throw new Failure(`Property '${name}.loaded' is not writable`)
  if (objects.kinds.has(id)) {
    throw new Failure(`attempt to add duplicate property '${id}' to object (type 'container')`)
  }
  await kind.make(values, { id, objects, signal })
  objects.kinds.set(id, name)
  return undefined
}

function readJson(definition: string): { values: { [name: string]: Json }; help: false } {
  try {
    // It begins with a brace.
    return { values: parseQemuJson(definition) as { [name: string]: Json }, help: false }
  } catch (error) {
    throw isMoraineError(error) ? new Failure(error.reason) : error
  }
}
