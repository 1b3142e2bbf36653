/** Names such as `json:{"driver": "qcow2", "file": {…}}`. */
import { isMoraineError, MoraineError } from '@moraine/engine'
import { type Json, parseQemuJson } from '../qemu-json.ts'
import { NodeOptions } from './options.ts'

/** Reads the text behind `json:`.
 *  @throws MoraineError `invalid` in QEMU's words. */
export function readJsonName(text: string): NodeOptions {
  const value = parse(text)
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw new MoraineError('invalid', 'Invalid JSON object given')
  }
  const options = new NodeOptions()
  flatten(value, '', options)
  return options
}

function flatten(value: Json, name: string, into: NodeOptions): void {
  if (value === null || typeof value !== 'object') {
    into.set(name, value)
    return
  }
  for (const [key, item] of Object.entries(value)) flatten(item, name === '' ? key : `${name}.${key}`, into)
}

function parse(text: string): Json {
  try {
    return parseQemuJson(text)
  } catch (error) {
    if (!isMoraineError(error)) throw error
    throw new MoraineError('invalid', `Could not parse the JSON options: ${error.reason}`)
  }
}
