/** The properties of an object of `--object`, from which its kind takes what it knows; words are qemu-img 7.2's. */
import { Failure } from './failure.ts'
import { readSwitch } from './switch.ts'

export type Properties = Map<string, string>

/** Takes a property out. */
export function take(properties: Properties, name: string): string | undefined {
  const value = properties.get(name)
  properties.delete(name)
  return value
}

/** Takes a property out that is on or off.
 *  @throws Failure */
export function takeSwitch(properties: Properties, name: string): boolean | undefined {
  const value = take(properties, name)
  const switched = value === undefined ? undefined : readSwitch(value)
  if (value !== undefined && switched === undefined) throw new Failure(`Parameter '${name}' expects 'on' or 'off'`)
  return switched
}

/** Refuses what nobody took.
 *  @throws Failure */
export function refuseLeft(properties: Properties): void {
  const [left] = properties.keys()
  if (left !== undefined) throw new Failure(`Parameter '${left}' is unexpected`)
}
