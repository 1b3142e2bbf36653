/** Formats by name, and QEMU's other drivers in their place. */
import { extname } from 'node:path'
import {
  allFormats,
  type ByteSource,
  type DiskFormat,
  findFormat,
  MoraineError,
  type OptionSpec,
  qcow2,
  readProbeWindow,
} from '@moraine/engine'
import { driverFormat, isOtherDriver, isPlain } from './drivers.ts'
import { Failure } from './failure.ts'
import type { Persona } from './persona.ts'

/** What QEMU says of a name that it does not know: of a driver when an image is opened, of a file format when one is made. */
export type FormatUse = 'driver' | 'file format' | 'backing file format'

/** The highest score of a probe. */
const certain = 100

/** All formats in probing order. The most usual one comes before the others are looked at: in the standalone executable a module runs when it is first used, and all formats
 *  take 1 ms. */
function* formatsInOrder(): Iterable<DiskFormat> {
  yield qcow2
  for (const format of allFormats) if (format !== qcow2) yield format
}

/** The format of a name given by the user.
 *  @throws MoraineError `invalid` when nobody knows it; `unsupported`, in words of our own, when QEMU has a driver of that name. */
export function formatNamed(name: string, use: FormatUse, persona: Persona): DiskFormat {
  if (!persona.unknown.includes(name)) {
    for (const format of formatsInOrder()) if (findFormat([format], name) !== undefined) return format
  }
  if (isOtherDriver(name)) {
    const driver = driverFormat(name)
    if (driver !== undefined && (!persona.details || isPlain(name))) return driver
    if (persona.details) throw foreign(name)
  }
  throw new MoraineError('invalid', `Unknown ${use} '${name}'`, {
    field: 'format',
    rule: `one of ${allFormats.map((known) => known.name).join(', ')}`,
  })
}

/** The name of the format that the end of a file's name stands for, among those that can be made. */
export function formatOfName(name: string): string | undefined {
  const end = extname(name).slice(1).toLowerCase()
  return allFormats.find(({ extensions, create }) => create !== undefined && extensions.includes(end))?.name
}

/** The format that a source has by its content. Only raw fits what nobody recognises.
 *  @throws MoraineError `not-this-format`. */
export async function probeFormat(source: ByteSource, persona: Persona): Promise<DiskFormat> {
  const window = await readProbeWindow(source)
  let best: { format: DiskFormat; score: number } | undefined
  for (const format of formatsInOrder()) {
    const verdict = persona.probed.includes(format.name) ? format.probe(window) : undefined
    if (verdict === undefined || verdict.score <= (best?.score ?? 0)) continue
    if (verdict.tail === true && !persona.probesEnds) continue
    best = { format, score: verdict.score }
    if (verdict.score === certain) break
  }
  if (best === undefined) {
    throw new MoraineError('not-this-format', 'Could not determine image format', { path: source.name })
  }
  return best.format
}

const backingOptions: readonly OptionSpec[] = [
  { name: 'backing_file', type: 'string', help: 'File name of the parent' },
  { name: 'backing_fmt', type: 'string', help: 'Format of the parent' },
]

/** The format of a name given for a new image; others are only read. Where the persona goes further than QEMU, formats of differencing images take a backing file, too.
 *  @throws MoraineError as `formatNamed`; Failure for those that are not made. */
export function newFormatNamed(name: string, persona: Persona): DiskFormat {
  const { extensions } = persona
  const format = formatNamed(name, 'file format', persona)
  if (format.create === undefined) throw new Failure(`Format driver '${name}' does not support image creation`)
  const takes = !extensions || !format.can.backing || format.options.some((option) => option.name === 'backing_file')
  return takes ? format : { ...format, options: [...format.options, ...backingOptions] }
}

function foreign(name: string): MoraineError {
  const known = allFormats.map((format) => format.name).join(', ')
  return new MoraineError('unsupported', `Format '${name}' is not supported by moraine`, {
    hint: `moraine knows ${known}`,
  })
}
