/** `-o`: gathering, splitting, help and the line of a creation, all from the formats' own tables. */
import {
  allFormats,
  type DiskFormat,
  findFormat,
  MoraineError,
  type OptionSpec,
  type OptionValue,
  type OptionValues,
  readOptions,
  splitOptions,
} from '@moraine/engine'
import type { Placement } from '@moraine/engine/node'
import { deviceOptions, fileOptions, isOtherDriver, isPlain } from './drivers.ts'
import { Failure } from './failure.ts'
import { statsOf } from './file-stats.ts'
import { type Warn, warnOfHex } from './numbers.ts'
import type { Persona } from './persona.ts'

/** What an image is written to; each takes options of its own under every format. */
export type Medium = 'file' | 'device'

const mediumOptions: Record<Medium, readonly OptionSpec[]> = { file: fileOptions, device: deviceOptions }

/** What the file of this name is, or will be. QEMU takes no name with a protocol for a device. */
export function mediumOf(name: string, persona: Persona): Medium {
  const place = persona.readName(name)
  // An export has the size that it has, as a device does.
  if (place.kind === 'node' && /^(nbd|host_)/.test(place.protocol)) return 'device'
  if (place.kind !== 'file' || place.path !== name) return 'file'
  const stats = statsOf(name)
  return stats?.isBlockDevice() === true || stats?.isCharacterDevice() === true ? 'device' : 'file'
}

/** One `-o` argument, checked so that several can be joined.
 *  @throws Failure */
export function readOptionList(text: string): string {
  const commas = /,*$/.exec(text)?.[0].length ?? 0
  if (text === '' || text.startsWith(',') || commas % 2 === 1) throw new Failure(`Invalid option list: ${text}`)
  return text
}

/** Whether help is asked for in any of the lists. */
export function asksForHelp(lists: readonly string[]): boolean {
  return lists.some((list) => list.split(/(?<!,)(?:,,)*,(?!,)/).some((item) => item === 'help' || item === '?'))
}

/** All pairs of several `-o` lists. */
export function optionPairs(lists: readonly string[]): [name: string, value: string][] {
  return lists.length === 0 ? [] : splitOptions(lists.join(','))
}

/** A format's options and those of the file or device under it, in QEMU's order. */
export function creationTable(format: DiskFormat, medium: Medium): readonly OptionSpec[] {
  // QEMU's raw has only a size of its own; what the engine's table adds belongs to the file.
  const own = format.name === 'raw' ? [] : format.options
  const names = new Set<string>()
  for (const { name } of own) names.add(name)
  return [...own, ...mediumOptions[medium].filter(({ name }) => !names.has(name))]
}

/** Checks pairs as QEMU does before it creates: names, switches and numbers, but not the values of choices.
 *  @throws MoraineError */
export function readLoosely(
  format: DiskFormat,
  medium: Medium,
  pairs: readonly [string, string][],
  warn?: Warn,
): Record<string, OptionValue> {
  const table = creationTable(format, medium).map((option): OptionSpec => {
    return option.type === 'enum' ? { name: option.name, type: 'string', help: option.help } : option
  })
  const values: Record<string, OptionValue> = {}
  for (const pair of pairs) {
    if (warn !== undefined) warnOfSize(table, pair, warn)
    Object.assign(values, readOptions(table, [pair]))
  }
  return values
}

function warnOfSize(table: readonly OptionSpec[], [name, text]: readonly [string, string], warn: Warn): void {
  if (table.find((option) => option.name === name)?.type === 'size') warnOfHex(text, warn)
}

/** Checks pairs in full. Those of the file itself are among them: `filePlacement` reads them.
 *  @throws MoraineError; Failure */
export function readCreationOptions(
  format: DiskFormat,
  medium: Medium,
  pairs: readonly [string, string][],
  warn?: Warn,
): Record<string, OptionValue> {
  refusePreallocation(format, medium, pairs)
  refuseEncryptionWord(format, pairs)
  const table = creationTable(format, medium)
  const values = readOptions(table, pairs)
  // QEMU reads the values again when it creates, and warns again.
  if (warn !== undefined) for (const pair of lastOfEach(table, pairs)) warnOfSize(table, pair, warn)
  return values
}

/** What of the options is said to the file system, and the others, for the format.
 *  @throws MoraineError `invalid`, as QEMU says it when it makes the file. */
export function filePlacement(all: OptionValues): { placement: Placement; options: OptionValues } {
  const { nocow, extent_size_hint: hint = 0n, ...options } = all
  const extentSize = Number(hint)
  if (extentSize >= 2 ** 32) {
    const place = { field: 'extent_size_hint', value: extentSize, rule: 'less than 4 GiB' }
    throw new MoraineError('invalid', 'Extent size hint is too large', place)
  }
  return { placement: { noCopyOnWrite: nocow === true, extentSize }, options }
}

/** What only moraine knows is refused under QEMU's name, in its words. */
export function refuseOurs(format: DiskFormat, values: Readonly<Record<string, OptionValue>>, persona: Persona): void {
  if (persona.extensions) return
  for (const { name, ours } of format.options) {
    const value = values[name]
    if (typeof value === 'string' && ours?.includes(value) === true)
      throw new Failure(`invalid parameter value: ${value}`)
  }
}

/** Of several values for one name the last; the size first, as QEMU reads it. */
function lastOfEach(
  table: readonly OptionSpec[],
  pairs: readonly (readonly [string, string])[],
): (readonly [string, string])[] {
  const names = ['size', ...table.map(({ name }) => name).filter((name) => name !== 'size')]
  return names.flatMap((name) => pairs.filter((pair) => pair[0] === name).slice(-1))
}

/** What lies under an image knows fewer ways to preallocate, and says so in words of its own. */
function refusePreallocation(format: DiskFormat, medium: Medium, pairs: readonly [string, string][]): void {
  const mode = pairs.findLast(([name]) => name === 'preallocation')?.[1]
  if (mode === undefined || mode === 'off') return
  const allocates = mode === 'falloc' || mode === 'full'
  const spec = format.options.find(({ name, ofFile }) => name === 'preallocation' && ofFile === true)
  if (spec?.values?.includes(mode) === false) throw new Failure(`invalid parameter value: ${mode}`)
  if (!isPlain(format.name)) {
    const own = format.options.some(({ name }) => name === 'preallocation')
    if (medium === 'file' && !own && !allocates) {
      throw new Failure(
        mode === 'metadata' ? `Unsupported preallocation mode: ${mode}` : `invalid parameter value: ${mode}`,
      )
    }
    if (medium === 'file' || !allocates) return
    throw new Failure(
      `Could not resize image: Failed to resize underlying file: Preallocation mode '${mode}' unsupported for this non-regular file`,
    )
  }
  if (!allocates && mode !== 'metadata') throw new Failure(`invalid parameter value: ${mode}`)
  if (medium === 'device') throw new Failure(`Unsupported preallocation mode '${mode}'`)
  if (mode === 'metadata') throw new Failure(`Unsupported preallocation mode: ${mode}`)
}

/** `-o help`; `name` is what the format is called. Without a file name, and so without a medium, only the format's own options are shown. */
export function optionHelp(format: DiskFormat, medium: Medium | undefined, name: string = format.name): string {
  const options = format.options.filter(({ ofFile }) => medium !== undefined || ofFile !== true)
  const own = format.name === 'raw' ? fileOptions.filter(({ name }) => name === 'size') : options
  const table = medium === undefined ? own : creationTable(format, medium)
  const lines = [...table].sort((a, b) => (a.name < b.name ? -1 : 1)).map(helpLine)
  if (medium !== undefined) return `Supported options:\n${lines.join('')}`
  return (
    `Supported ${name} options:\n${lines.join('')}\n` +
    'The protocol level may support further options.\nSpecify the target filename to include those options.\n'
  )
}

const typeNames: Record<OptionSpec['type'], string> = {
  string: 'str',
  enum: 'str',
  size: 'size',
  number: 'num',
  boolean: 'bool (on/off)',
}

/** The line of one option in `-o help`. */
export function helpLine({ name, type, help }: OptionSpec): string {
  return `  ${`${name}=<${typeNames[type]}>`.padEnd(22)} - ${help}\n`
}

/** What `create` prints before it creates: every option with a value, given or by default, in QEMU's order. A switch is printed as it was given in `pairs`. */
export function formattingLine(
  { name, format, medium, persona }: { name: string; format: DiskFormat; medium: Medium; persona: Persona },
  values: OptionValues,
  pairs: readonly (readonly [string, string])[],
): string {
  const shown = creationTable(format, medium).flatMap((option) => {
    const value = values[option.name] ?? option.default
    if (value === undefined) return []
    const given = typeof value === 'boolean' ? pairs.findLast(([known]) => known === option.name)?.[1] : undefined
    return [`${option.name}=${given ?? valueText(value)}`]
  })
  return `Formatting '${name}', fmt=${persona.nameOf(format.name)} ${shown.join(' ')}\n`
}

function valueText(value: OptionValue): string {
  if (typeof value === 'boolean') return value ? 'on' : 'off'
  // QEMU prints sizes as signed 64-bit numbers.
  if (typeof value === 'bigint') return String(BigInt.asIntN(64, value))
  return String(value).replaceAll(',', ',,')
}

/** `encryption` is the older name of a choice, and QEMU translates no other words than `on` and `off` of it. */
function refuseEncryptionWord({ options }: DiskFormat, pairs: readonly [string, string][]): void {
  if (!options.some(({ name }) => name === 'encryption')) return
  const word = pairs.findLast(([name]) => name === 'encryption')?.[1]
  if (word === undefined || word === 'on' || word === 'off') return
  throw new Failure(`Parameter 'format' does not accept value '${word}'`)
}

/** What is said of a backing format when an image of the format `name` is made, in QEMU's words; undefined where nothing is wrong. */
export function backingFormatRefusal(
  name: string,
  backing: string,
  hasFile: boolean,
  persona: Persona,
): string | undefined {
  const unknown = unknownBackingFormat(name, backing, persona)
  if (unknown !== undefined) return unknown
  if (name === 'vmdk' && backing !== 'vmdk') return 'backing_file must be a vmdk image'
  return name === 'qcow2' && !hasFile ? 'Backing format cannot be used without backing file' : undefined
}

/** What is said of a backing format that is none when an image of the format `name` is made, in QEMU's words; undefined where there is nothing to say. */
export function unknownBackingFormat(name: string, backing: string | undefined, persona: Persona): string | undefined {
  if (backing === undefined || isOtherDriver(backing)) return undefined
  if (!persona.unknown.includes(backing) && findFormat(allFormats, backing) !== undefined) return undefined
  if (name === 'vmdk') return 'backing_file must be a vmdk image'
  return name === 'qcow2' || name === 'qed'
    ? `Parameter 'backing-fmt' does not accept value '${backing}'`
    : `unrecognized backing format '${backing}'`
}
