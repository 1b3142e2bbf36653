/** `--dry-run`: what a verb would write, for people or as JSON. Nothing is written, and nothing is opened for writing. */
import {
  type Disk,
  type DiskFormat,
  isMoraineError,
  type Measure,
  measureImage,
  type OptionValues,
} from '@moraine/engine'
import { statsOf } from './file-stats.ts'
import { sizeText } from './output/size.ts'
import type { Context } from './verb.ts'

/** What would be done. Sizes in bytes. */
export interface WritePlan {
  /** The verb, and what it does of several. */
  operation: string
  /** The image that is written. */
  target: string
  format?: string | undefined
  'virtual-size'?: number | undefined
  /** Options of the format that were chosen. */
  options?: Record<string, string> | undefined
  backing?: string | undefined
  /** As `measure` tells it, for formats that can be measured. */
  required?: number | undefined
  'fully-allocated'?: number | undefined
  /** What is written, in sentences. */
  writes: string[]
  /** What is not there any more afterwards, or not in the target. */
  lost: string[]
}

/** Prints a plan. */
export function printPlan({ out }: Context, plan: WritePlan, json: boolean): void {
  if (json) {
    out.write(`${JSON.stringify({ 'dry-run': true, ...plan }, undefined, 4)}\n`)
    return
  }
  const bytes = (size: number): string => `${sizeText(size)} (${size} bytes)`
  const { format, options = {}, backing, 'virtual-size': size, required, 'fully-allocated': full } = plan
  const lines = [
    `${plan.operation} '${plan.target}', as a dry run:`,
    ...(format === undefined ? [] : [`  format: ${format}`]),
    ...(size === undefined ? [] : [`  virtual size: ${bytes(size)}`]),
    ...Object.entries(options).map(([name, value]) => `  option ${name}: ${value}`),
    ...(backing === undefined ? [] : [`  backing file: ${backing}`]),
    ...(required === undefined ? [] : [`  file size: ${bytes(required)}`]),
    ...(full === undefined ? [] : [`  file size when all of it is written: ${bytes(full)}`]),
    ...plan.writes.map((what) => `  ${what}`),
    ...(plan.lost.length === 0 ? ['  nothing is lost'] : plan.lost.map((what) => `  lost: ${what}`)),
    'Nothing was written.',
  ]
  out.write(`${lines.join('\n')}\n`)
}

/** The plan of a new image. */
export async function planNewImage(
  { persona, signal, objects }: Context,
  operation: string,
  request: {
    target: string
    format: DiskFormat
    size: number
    options: OptionValues
    backing?: string | undefined
    source?: Disk | undefined
    lost: readonly string[]
  },
): Promise<WritePlan> {
  const { target, format, size, options, backing, source, lost } = request
  let found: Measure | undefined
  try {
    // With a backing file only what differs is stored, which nobody knows before it is compared.
    if (backing === undefined || source === undefined) {
      found = await measureImage(format, { size, source, options, signal, secrets: objects.secrets })
    }
  } catch (error) {
    if (!isMoraineError(error, 'unsupported')) throw error
  }
  const place = placeOf(target)
  return {
    operation,
    target,
    format: persona.nameOf(format.name),
    'virtual-size': size,
    options: Object.fromEntries(Object.entries(options).map(([name, value]) => [name, shown(value)])),
    backing,
    // A bound is no plan.
    required: found?.atMost === true ? undefined : found?.required,
    'fully-allocated': found?.atMost === true ? undefined : found?.fullyAllocated,
    writes: [place.writes],
    lost: [...place.lost, ...lost],
  }
}

/** The plan of a file that is no image of its own, or of which no more is known. `size`: bytes, where that is known. */
export function planFile(
  operation: string,
  target: string,
  { writes, lost = [], size }: { writes: readonly string[]; lost?: readonly string[]; size?: number | undefined },
): WritePlan {
  const place = placeOf(target)
  return { operation, target, required: size, writes: [place.writes, ...writes], lost: [...place.lost, ...lost] }
}

function shown(value: unknown): string {
  return typeof value === 'boolean' ? (value ? 'on' : 'off') : String(value)
}

/** Where a target is written, and what is lost there. */
function placeOf(target: string): { writes: string; lost: string[] } {
  if (target === '-') return { writes: 'to standard output', lost: [] }
  const there = overwritten(target)
  return there === undefined
    ? { writes: 'a new file', lost: [] }
    : { writes: `over ${there}`, lost: [`what ${there} holds now`] }
}

/** What is there under a name, in words; undefined where nothing is. */
function overwritten(name: string): string | undefined {
  const found = statsOf(name.replace(/^file:/, ''))
  if (found === undefined) return /^nbds?[:+]/.test(name) ? 'the export' : undefined
  return found.isFile() ? `the file that is there (${sizeText(Number(found.size))})` : 'the device'
}
