/** `map`: what lies where in an image. */
import { isMoraineError, type MapEntry, mapDisk } from '@moraine/engine'
import { Failure } from '../failure.ts'
import { readSize, type Warn } from '../numbers.ts'
import { openImage } from '../open.ts'
import type { TextOutput } from '../output/streams.ts'
import { defineVerb } from '../verb.ts'
import { forceShare, format, imageOpts, object, oneImage, outputFormat, trust, wantsJson } from './common.ts'

export const verb = defineVerb({
  name: 'map',
  summary: 'Show what lies where in an image: data, zeros, holes, and in which file',
  operands: 'FILE',
  syntax:
    '[--object objectdef] [--image-opts] [-f fmt] [--start-offset=offset] [--max-length=len] [--output=ofmt] [-U] filename',
  about:
    'The table for people lists the ranges that hold data, with the file and the offset where it lies. JSON lists every range: ' +
    'start, length, depth (which image of the chain decides; 0 is the one named), present (an image of the chain has an entry for it), ' +
    'zero (it reads as zeros), data (bytes are stored), offset (where, in that file).',
  examples: [['moraine map --output=json disk.qcow2', 'every range, for programs']],
  options: {
    object,
    ...trust,
    imageOpts,
    format: { ...format, long: 'format' },
    start: {
      short: 's',
      long: 'start-offset',
      argument: 'OFFSET',
      help: 'Begin here.',
      parse: (text: string, warn: Warn) => readSize('start offset', text, warn),
    },
    length: {
      short: 'l',
      long: 'max-length',
      argument: 'LEN',
      help: 'Show at most this many bytes.',
      parse: (text: string, warn: Warn) => readSize('max length', text, warn),
    },
    output: outputFormat,
    forceShare,
  },
  async run(values, operands, context) {
    const filename = oneImage(operands)
    const json = wantsJson(values.output)
    const disk = await openImage(context, filename, {
      imageOpts: values.imageOpts,
      use: 'read',
      walked: true,
      format: values.format,
      forceShare: values.forceShare,
    })
    try {
      // Beyond 2^53 there is no disk, so nothing is lost by the conversion.
      const start = Number(values.start ?? 0n)
      const length = values.length === undefined ? undefined : Number(values.length)
      const writer = json ? new JsonMap(context.out) : new HumanMap(context.out)
      writer.open()
      let last: MapEntry | undefined
      try {
        for await (const batch of mapDisk(disk, { start, length }, context.signal)) {
          for (const entry of batch) {
            if (last !== undefined) writer.entry(last, entry)
            last = entry
          }
        }
      } catch (error) {
        if (!isMoraineError(error) || error.kind === 'cancelled') throw error
        throw new Failure(`Could not read file metadata: ${error.reason}`)
      }
      // QEMU prints an empty entry when there is nothing to map.
      writer.entry(last ?? { start, length: 0, depth: 0, present: false, zero: false, data: false }, undefined)
      return 0
    } finally {
      await disk.close()
    }
  },
})

/** One line of JSON for each entry. */
class JsonMap {
  private readonly out: TextOutput

  constructor(out: TextOutput) {
    this.out = out
  }

  open(): void {
    this.out.write('[')
  }

  entry(entry: MapEntry, next: MapEntry | undefined): void {
    const offset = entry.offset === undefined ? '' : `, "offset": ${BigInt(entry.offset)}`
    this.out.write(
      `{ "start": ${entry.start}, "length": ${entry.length}, "depth": ${entry.depth}, "present": ${entry.present}, ` +
        `"zero": ${entry.zero}, "data": ${entry.data}${offset}}${next === undefined ? ']' : ','}\n`,
    )
  }
}

/** A table of what holds data. */
class HumanMap {
  private readonly out: TextOutput

  constructor(out: TextOutput) {
    this.out = out
  }

  open(): void {
    this.out.write(`${row('Offset', 'Length', 'Mapped to')}File\n`)
  }

  entry({ start, length, data, zero, offset, filename }: MapEntry): void {
    if (!data) return
    if (offset === undefined) throw new Failure('File contains external, encrypted or compressed clusters.')
    if (!zero) this.out.write(`${row(hex(start), hex(length), hex(offset))}${filename ?? ''}\n`)
  }
}

function row(...cells: string[]): string {
  return cells.map((cell) => cell.padEnd(16)).join('')
}

/** C's `%#x`: 0 has no prefix. */
function hex(value: number): string {
  return value === 0 ? '0' : `0x${value.toString(16)}`
}
