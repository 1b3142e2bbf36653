/** The options of `convert`. */
import { Failure } from '../failure.ts'
import { readInteger, readSize, type Warn } from '../numbers.ts'
import { readOptionList } from '../options.ts'
import { presetOption } from '../preset.ts'
import { readSnapshot } from '../snapshot-name.ts'
import type { OptionSpec, Values } from '../verb.ts'
import { readWrap } from '../wrappers.ts'
import {
  forceShare,
  imageOpts,
  object,
  progressMode,
  showProgress as progressOption,
  quiet,
  rehearsal,
  sourceCache,
  trust,
} from './common.ts'

const sector = 512n
const largestSparse = 16n * 1024n * 1024n
const mostRequests = 16

export const convertOptions = {
  object,
  ...trust,
  ...rehearsal,
  imageOpts,
  targetImageOpts: {
    long: 'target-image-opts',
    help: "With -n: take the target as a string of QEMU's options.",
  },
  targetIsZero: { long: 'target-is-zero', help: 'With -n: the target reads as zeros already, so write none.' },
  bitmaps: { long: 'bitmaps', help: 'Copy persistent dirty bitmaps too.' },
  skipBroken: { long: 'skip-broken-bitmaps', help: 'With --bitmaps: leave out bitmaps that are inconsistent.' },
  forceShare,
  copyOffload: {
    short: 'C',
    newer: ['copy-range-offloading'],
    help: 'Let the system copy where it can; zeros are not looked for then.',
  },
  compress: { short: 'c', newer: ['compress'], help: 'Compress the target (qcow2).' },
  percent: progressOption,
  quiet,
  noCreate: {
    short: 'n',
    newer: ['no-create'],
    help: 'Do not create the target: write into the image or device that is there.',
  },
  format: {
    short: 'f',
    newer: ['source-format'],
    argument: 'FMT',
    help: 'Format of the sources; found out when not given.',
  },
  cache: {
    short: 't',
    newer: ['target-cache'],
    argument: 'CACHE',
    help: 'Cache mode for writing: none, writeback, writethrough, directsync or unsafe (the default: nothing is synced).',
  },
  sourceCache: { ...sourceCache, newer: ['source-cache'] },
  targetFormat: {
    short: 'O',
    newer: ['target-format'],
    argument: 'FMT',
    help: 'Format of the target; raw by default.',
  },
  backing: {
    short: 'B',
    newer: ['backing', 'b'],
    argument: 'FILE',
    help: "Backing file of the target, which holds the same as the source's: only what the source itself holds is written.",
  },
  backingFormat: { short: 'F', newer: ['backing-format'], argument: 'FMT', help: 'Format of that backing file.' },
  options: {
    short: 'o',
    newer: ['target-format-options'],
    argument: 'OPTIONS',
    collect: true,
    help: 'Options of the target format, as NAME=VALUE,…; "-o help" lists them.',
    parse: readOptionList,
  },
  snapshot: {
    short: 'l',
    newer: ['snapshot'],
    argument: 'SNAPSHOT',
    help: 'Read an internal snapshot, by its id or name, or as snapshot.id=ID,snapshot.name=NAME.',
    parse: readSnapshot,
  },
  sparse: {
    short: 'S',
    newer: ['sparse-size'],
    argument: 'SIZE',
    help: 'Leave out runs of zeros of at least this many bytes; 4k by default. 0: write everything.',
    parse: readSparse,
  },
  rate: {
    short: 'r',
    newer: ['rate-limit'],
    argument: 'RATE',
    help: 'Copy at most this many bytes a second.',
    parse: (text: string, warn: Warn): number => Number(readSize('rate limit', text, warn)),
  },
  requests: {
    short: 'm',
    newer: ['parallel'],
    argument: 'N',
    help: 'Requests in flight, 1 to 16; 8 by default.',
    parse: readRequests,
  },
  outOfOrder: {
    short: 'W',
    newer: ['oob-writes'],
    help: 'Write out of order, which is faster on some targets and scatters the image.',
  },
  salvage: { long: 'salvage', help: 'Go on after read errors, with zeros for what cannot be read.' },
  progress: progressMode,
  for: presetOption,
  wrap: {
    long: 'wrap',
    argument: 'WRAPPER',
    values: () => ['gz', 'xz', 'zst', 'none'],
    extension: true,
    help: 'Pack the whole target with gz, xz or zst; none: do not, whatever its name. By default a name that ends in .gz, .xz or .zst says so.',
    parse: readWrap,
  },
} as const satisfies Record<string, OptionSpec>

/** The options of a call. */
export type ConvertValues = Values<typeof convertOptions>

function readSparse(text: string, warn: Warn): number {
  const size = readSize('buffer size for sparse output', text, warn)
  if (size % sector !== 0n || size > largestSparse) {
    throw new Failure(
      `Invalid buffer size for sparse output specified. Valid sizes are multiples of ${sector} up to ${largestSparse}. ` +
        'Select 0 to disable sparse detection (fully allocates output).',
    )
  }
  return Number(size)
}

function readRequests(text: string): number {
  const count = readInteger(text)
  if (count === undefined || count < 1 || count > mostRequests) {
    throw new Failure(`Invalid number of coroutines. Allowed number of coroutines is between 1 and ${mostRequests}`)
  }
  return count
}

/** What contradicts itself, in QEMU's order and words.
 *  @throws Failure */
export function checkCombinations(values: ConvertValues): void {
  const fail = (condition: boolean, message: string): void => {
    if (condition) throw new Failure(message)
  }
  fail(values.skipBroken && !values.bitmaps, 'Use of --skip-broken-bitmaps requires --bitmaps')
  fail(values.compress && values.copyOffload, 'Cannot enable copy offloading when -c is used')
  fail(values.sparse !== undefined && values.copyOffload, 'Cannot enable copy offloading when -S is used')
  fail(values.copyOffload && values.salvage, 'Cannot use copy offloading in salvaging mode')
  fail(values.noCreate && values.options.length > 0, '-o has no effect when skipping image creation')
  fail(values.noCreate && values.for !== undefined, '--for has no effect when skipping image creation')
  fail(values.noCreate && values.wrap !== undefined && values.wrap !== 'none', '--wrap cannot be used with -n')
  fail(values.targetImageOpts && !values.noCreate, '--target-image-opts requires use of -n flag')
  fail(values.targetIsZero && !values.noCreate, '--target-is-zero requires use of -n flag')
}

/** The sources and the target among the operands.
 *  @throws Failure */
export function splitOperands(operands: readonly string[]): { sources: string[]; target: string } {
  const target = operands.at(-1)
  if (target === undefined || operands.length < 2) throw new Failure('Must specify image file name')
  return { sources: operands.slice(0, -1), target }
}
