/** What `convert` shall make: format, options and backing file, checked in QEMU's order. */
import { type Disk, type DiskFormat, isMoraineError, type OptionValues } from '@moraine/engine'
import { Failure, failureFrom } from '../failure.ts'
import { formatNamed, newFormatNamed } from '../formats.ts'
import { refuseUncreatable } from '../new-place.ts'
import {
  backingFormatRefusal,
  creationTable,
  mediumOf,
  optionPairs,
  readCreationOptions,
  readLoosely,
  refuseOurs,
} from '../options.ts'
import type { Persona } from '../persona.ts'
import type { Context } from '../verb.ts'
import type { ConvertValues } from './convert-options.ts'

/** A target before it is made. */
export interface TargetOptions {
  format: DiskFormat
  /** Creation options without size and backing file. */
  options: OptionValues
  backing: { name: string; format: string | undefined } | undefined
}

/** A target whose options are read, but not yet looked at together: QEMU does that when it makes the image. */
export interface TargetDraft extends TargetOptions {
  /** @throws Failure */
  settle(): TargetOptions
}

/** Reads what is to be made.
 *  @throws Failure */
export function readTarget(
  context: Context,
  values: ConvertValues,
  { formatName, name }: { formatName: string; name: string },
): TargetDraft {
  try {
    if (values.noCreate) {
      const format = formatOfExisting(context, formatName, name)
      const { backing, backingFormat } = values
      const target = {
        format,
        options: {},
        backing: backing === undefined ? undefined : { name: backing, format: backingFormat },
      }
      return { ...target, settle: () => target }
    }
    const format = newFormatNamed(formatName, context.persona)
    // What no image can be made on is said before anything else.
    if (context.persona.readName(name).kind === 'node') refuseUncreatable(name, context.persona)
    const medium = mediumOf(name, context.persona)
    const pairs = optionPairs(values.options)
    readLoosely(format, medium, pairs, context.warn)
    const table = creationTable(format, medium)
    const has = (option: string): boolean => table.some((known) => known.name === option)
    if (values.backing !== undefined) {
      if (!has('backing_file'))
        throw new Failure(`Backing file not supported for file format '${context.persona.nameOf(format.name)}'`)
      pairs.push(['backing_file', values.backing])
    }
    if (values.backingFormat !== undefined) {
      if (!has('backing_fmt'))
        throw new Failure(`Backing file format not supported for file format '${context.persona.nameOf(format.name)}'`)
      pairs.push(['backing_fmt', values.backingFormat])
    }
    return {
      ...resolveTarget(format, readLoosely(format, medium, pairs)),
      settle: () =>
        inCreation(context, `${name}: error while converting ${context.persona.nameOf(format.name)}: `, () => {
          const options = readCreationOptions(format, medium, pairs, context.warn)
          refuseOurs(format, options, context.persona)
          refuseBackingFormat(format, options, context.persona)
          return resolveTarget(format, options)
        }),
    }
  } catch (error) {
    throw failureFrom(error, context.persona)
  }
}

/** @throws Failure where a backing format is named that the image cannot have. */
function refuseBackingFormat(
  { name }: DiskFormat,
  { backing_file: file, backing_fmt: asked }: OptionValues,
  persona: Persona,
): void {
  if (typeof asked !== 'string') return
  const refusal = backingFormatRefusal(name, asked, file !== undefined, persona)
  if (refusal !== undefined) throw new Failure(refusal)
}

function formatOfExisting({ persona }: Context, formatName: string, name: string): DiskFormat {
  try {
    return formatNamed(formatName, 'driver', persona)
  } catch (error) {
    if (!isMoraineError(error)) throw error
    throw new Failure(`Could not open '${name}': ${error.reason}`, { hint: persona.details ? error.hint : undefined })
  }
}

function resolveTarget(format: DiskFormat, values: OptionValues): TargetOptions {
  const { size: _size, backing_file: file, backing_fmt: fileFormat, ...options } = values
  if (typeof file !== 'string') return { format, options, backing: undefined }
  return { format, options, backing: { name: file, format: typeof fileFormat === 'string' ? fileFormat : undefined } }
}

/** What QEMU finds out only when it creates the image. */
function inCreation<Result>({ persona }: Context, prefix: string, read: () => Result): Result {
  try {
    return read()
  } catch (error) {
    throw error instanceof Failure ? error.withPrefix(prefix) : failureFrom(error, persona)
  }
}

/** Checks the target against the sources and the request; whether there are bitmaps to copy.
 *  @throws Failure */
export function checkTarget(
  context: Context,
  values: ConvertValues,
  sources: readonly Disk[],
  target: TargetOptions,
): boolean {
  const { backing, format, options } = target
  if (values.targetIsZero && backing !== undefined) {
    throw new Failure('Cannot use --target-is-zero when the destination image has a backing file')
  }
  if (sources.length > 1 && backing !== undefined) {
    throw new Failure('Having a backing file for the target makes no sense when concatenating multiple input images')
  }
  if (!values.noCreate && backing !== undefined && backing.format === undefined) {
    throw new Failure('Use of backing file requires explicit backing format', {
      hint: context.persona.details ? 'Say it with -F, as in -F qcow2; info tells the format of a file.' : undefined,
    })
  }
  if (values.compress) {
    // What is there already is asked once it is open.
    if (!format.can.compress && !values.noCreate) throw new Failure('Compression not supported for this file format')
    if (options.preallocation !== undefined && options.preallocation !== 'off') {
      throw new Failure('Compression and preallocation not supported at the same time')
    }
    if (options.encryption === true || options['encrypt.format'] !== undefined) {
      throw new Failure('Compression and encryption not supported at the same time')
    }
  }
  return values.bitmaps && checkBitmaps(context, values, sources)
}

function checkBitmaps({ persona }: Context, values: ConvertValues, sources: readonly Disk[]): boolean {
  const [source] = sources
  if (source === undefined || sources.length > 1) {
    throw new Failure('Copying bitmaps only possible with single source')
  }
  if (source.bitmaps === undefined) throw new Failure('Source lacks bitmap support')
  const list = source.bitmaps.list()
  // QEMU's list has the newest first.
  const broken = list.findLast(({ inconsistent }) => inconsistent)
  if (broken !== undefined && !values.skipBroken) {
    const removal = persona.details ? '' : ", or use 'qemu-img bitmap --remove' to delete it"
    throw new Failure(`Cannot copy inconsistent bitmap '${broken.name}'`, {
      hint: `Try --skip-broken-bitmaps${removal}`,
    })
  }
  return list.length > 0
}
