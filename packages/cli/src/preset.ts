/** `--for`: what a hypervisor or a cloud wants, chosen by name. */
import { type AppliedPreset, applyPreset, type Disk, type OptionValues, presetNamed, presets } from '@moraine/engine'
import { failureFrom } from './failure.ts'
import { longerDisk } from './longer-disk.ts'
import { optionPairs } from './options.ts'
import { sizeText } from './output/size.ts'
import type { Context, OptionSpec } from './verb.ts'

/** The option of the verbs that make images. */
export const presetOption = {
  long: 'for',
  argument: 'TARGET',
  extension: true,
  values: () => ['help', ...presets.map(({ name }) => name)],
  help: 'Choose format, options and size as the target wants them, and say what was chosen; "--for help" lists the targets.',
} as const satisfies OptionSpec

/** The list of targets. */
export function presetHelp(): string {
  const rows = presets.map(({ name, title, format, options, created, sizeUnit, archive, why }) => {
    const chosen = [format, ...options.map((option) => `${option.name}=${option.value}`)].join(', ')
    const lines = [
      `  ${name.padEnd(12)} ${title}`,
      `               ${chosen}${archive === undefined ? '' : `, as ${archive} in a .tar.gz`}`,
    ]
    for (const option of created ?? [])
      lines.push(`               created empty: ${option.name}=${option.value} (${option.why})`)
    lines.push(`               ${why}; sizes are whole ${sizeUnit === 512 ? 'sectors' : sizeText(sizeUnit)}`)
    return lines.join('\n')
  })
  return `Targets:\n${rows.join('\n')}\n`
}

/** Applies a preset and says what it chose; undefined where none was asked for.
 *  @throws Failure */
export function choosePreset(
  context: Context,
  verb: 'convert' | 'create',
  values: { for: string | undefined; options: string[]; quiet: boolean },
  format: string | undefined,
): AppliedPreset | undefined {
  if (values.for === undefined) return undefined
  try {
    const named = format === 'vpc' ? 'vhd' : format
    const applied = applyPreset(presetNamed(values.for), { verb, format: named, options: optionPairs(values.options) })
    if (!values.quiet) for (const sentence of applied.says) sayChoice(context, applied, sentence)
    return applied
  } catch (error) {
    throw failureFrom(error, context.persona)
  }
}

/** The size that the target wants; says when it is another one. */
export function presetSize(context: Context, applied: AppliedPreset, size: number, quiet: boolean): number {
  const rounded = applied.sizeFor(size)
  if (rounded !== size && !quiet) {
    const unit = sizeText(applied.preset.sizeUnit)
    sayChoice(
      context,
      applied,
      `the size is rounded up to whole ${unit}, from ${size} to ${rounded} bytes; zeros are added at the end`,
    )
  }
  return rounded
}

/** The disk as the target wants it: of the right size, and with the second header of a GPT at its end. Says what was done. */
export async function presetDisk(context: Context, applied: AppliedPreset, disk: Disk, quiet: boolean): Promise<Disk> {
  const size = presetSize(context, applied, disk.size, quiet)
  return longerDisk(
    disk,
    size,
    (sentence) => {
      if (!quiet) sayChoice(context, applied, sentence)
    },
    context.signal,
  )
}

/** The preset's options as one `-o` list, before those of the user. */
export function presetOptions({ options }: AppliedPreset): string[] {
  return options.length === 0
    ? []
    : [options.map(([name, value]) => `${name}=${value.replaceAll(',', ',,')}`).join(',')]
}

function sayChoice({ err, persona }: Context, { preset }: AppliedPreset, sentence: string): void {
  err.write(`${persona.name}: ${preset.name}: ${sentence}\n`)
}

/** Says that Azure will not take a VHD whose size is not in whole MiB, which it finds out after the upload. */
export function noteOfAzure(
  { err, persona }: Context,
  image: { format: string; options: OptionValues; size: number; for: string | undefined; quiet: boolean },
): void {
  const { format, options, size } = image
  if (!persona.details || image.quiet || image.for !== undefined) return
  if (format !== 'vhd' || options.subformat !== 'fixed') return
  if (options.force_size === true && size % (1024 * 1024) === 0) return
  err.write(
    `${persona.name}: note: for Azure the size of a VHD must be whole MiB, kept exactly: --for azure sees to that\n`,
  )
}
