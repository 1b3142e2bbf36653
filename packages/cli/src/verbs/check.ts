/** `check`: is the image's own metadata sound, and repair it. */
import { allFormats, type CheckResult, checkImage, findFormat, isMoraineError } from '@moraine/engine'
import { readCacheMode } from '../cache.ts'
import type { WritePlan } from '../dry-run.ts'
import { Failure, failureFrom, usageFailure } from '../failure.ts'
import { openImage } from '../open.ts'
import { twoDecimals } from '../output/fixed.ts'
import { toPrettyJson } from '../output/json.ts'
import { type ProgressDisplay, showProgress } from '../output/progress.ts'
import { type Context, defineVerb } from '../verb.ts'
import {
  forceShare,
  format,
  imageOpts,
  object,
  oneImage,
  outputFormat,
  progressMode,
  quiet,
  rehearsal,
  sourceCache,
  trust,
  wantsJson,
} from './common.ts'

type Repair = 'none' | 'leaks' | 'all'

/** Exit codes, as QEMU documents them; 1: the check could not be completed. */
const exitCodes = { sound: 0, failed: 1, corrupt: 2, leaks: 3, unsupported: 63 }

export const verb = defineVerb({
  name: 'check',
  summary: "Check an image's metadata for corruption and lost space, and repair it",
  operands: 'FILE',
  syntax:
    '[--object objectdef] [--image-opts] [-q] [-f fmt] [--output=ofmt] [-r [leaks | all]] [-T src_cache] [-U] filename',
  about:
    'Looks for clusters that are used but not counted (corruption) and counted but not used (leaks). The image must not be in use. ' +
    'Exit codes: 0 sound (after a repair too), 1 the check could not be completed, 2 corrupted, 3 leaks only, 63 the format has no check.',
  examples: [
    ['moraine check disk.qcow2', 'look only'],
    ['moraine check -r leaks disk.qcow2', 'give back lost space'],
  ],
  options: {
    object,
    ...trust,
    imageOpts,
    quiet,
    format: { ...format, long: 'format' },
    output: outputFormat,
    repair: {
      short: 'r',
      long: 'repair',
      argument: 'WHAT',
      values: () => ['leaks', 'all'],
      help: 'Repair leaks, or all: leaks and corruption. With all the wrong fix may be chosen, which hides damage.',
      parse(text: string): Repair {
        if (text === 'leaks' || text === 'all') return text
        throw usageFailure(`Unknown option value for -r (expecting 'leaks' or 'all'): ${text}`)
      },
    },
    cache: sourceCache,
    forceShare,
    dryRun: { ...rehearsal.dryRun, help: 'With -r: only tell what would be repaired.' },
    progress: progressMode,
  },
  async run(values, operands, context) {
    const filename = oneImage(operands)
    const json = wantsJson(values.output)
    const cache = readCacheMode('source cache', values.cache ?? 'writeback')
    const repair = values.repair ?? 'none'
    const { dryRun } = values
    if (dryRun && repair === 'none') throw usageFailure('--dry-run goes with -r: a check alone writes nothing')
    const disk = await openImage(context, filename, {
      imageOpts: values.imageOpts,
      use: repair === 'none' ? 'check' : 'repair',
      format: values.format,
      forceShare: values.forceShare,
      cache,
      rehearse: dryRun,
    })
    const checked = findFormat(allFormats, disk.format)
    if (checked === undefined) {
      await disk.close()
      throw new Failure('This image format does not support checks', { exitCode: exitCodes.unsupported })
    }
    const display = await showProgress(context, values, {
      operation: 'check',
      outputTaken: json,
    })
    const { check: _check, ...unchecked } = checked
    const offered = context.persona.checks(disk.format, repair !== 'none') ? checked : unchecked
    const check = (kind: Repair): Promise<CheckResult> =>
      checkImage(offered, disk, {
        repair: kind,
        thorough: context.persona.extensions,
        signal: context.signal,
        onProgress: display.onProgress,
        report: (line, level) => {
          if (level === 'failure') context.report(line)
          else if (!dryRun && !context.persona.taciturn.includes(disk.format))
            (level === 'error' ? context.err : context.out).write(`${line}\n`)
        },
      })
    try {
      const found = await attempt(check, repair, context, display)
      let state = found
      if (found.leaksFixed + found.corruptionsFixed > 0) {
        if (!json && !values.quiet && !dryRun) context.out.write(repairedText(found))
        state = await attempt(check, 'none', context, display)
      }
      display.finish()
      if (dryRun) {
        const { printPlan } = await import('../dry-run.ts')
        printPlan(context, planOf(filename, context.persona.nameOf(disk.format), found, state), json)
      } else if (json) {
        if (!values.quiet)
          context.out.write(`${toPrettyJson(jsonOf(filename, context.persona.nameOf(disk.format), state, found))}\n`)
      } else if (!values.quiet) context.out.write(humanText(state))
      return exitCode(state, context)
    } finally {
      display.end()
      await disk.close()
    }
  },
})

async function attempt(
  check: (repair: Repair) => Promise<CheckResult>,
  repair: Repair,
  context: Context,
  display: ProgressDisplay,
): Promise<CheckResult> {
  try {
    return await check(repair)
  } catch (error) {
    display.end()
    if (isMoraineError(error, 'unsupported')) {
      const failure = failureFrom(error, context.persona)
      throw failure instanceof Failure ? failure.withExitCode(exitCodes.unsupported) : failure
    }
    throw failureFrom(error, context.persona, 'Check failed: ')
  }
}

function planOf(target: string, format: string, found: CheckResult, left: CheckResult): WritePlan {
  const { leaksFixed: leaks, corruptionsFixed: corruptions } = found
  const some = (count: number, what: string, [one, more]: readonly [string, string]): string[] =>
    count === 0 ? [] : [`${count} ${what}${count === 1 ? ` ${one}` : `s ${more}`}`]
  return {
    operation: 'check -r',
    target,
    format,
    writes: [
      ...(leaks + corruptions === 0 ? ['nothing: nothing is repaired'] : []),
      ...some(leaks, 'leaked cluster', ['is given back', 'are given back']),
      ...some(corruptions, 'corruption', ['is repaired', 'are repaired']),
      ...some(left.leaks, 'leaked cluster', ['stays', 'stay']),
      ...some(left.corruptions, 'corruption', ['stays', 'stay']),
    ],
    lost: corruptions === 0 ? [] : ['what a wrong repair takes for damage: copy the image first if it is the only one'],
  }
}

function exitCode(state: CheckResult, context: Context): number {
  if (state.checkErrors > 0) {
    context.report('Check failed')
    return exitCodes.failed
  }
  if (state.corruptions > 0) return exitCodes.corrupt
  return state.leaks > 0 ? exitCodes.leaks : exitCodes.sound
}

function repairedText(found: CheckResult): string {
  return (
    'The following inconsistencies were found and repaired:\n\n' +
    `    ${found.leaksFixed} leaked clusters\n` +
    `    ${found.corruptionsFixed} corruptions\n\n` +
    'Double checking the fixed image now...\n'
  )
}

function humanText(state: CheckResult): string {
  const parts: string[] = []
  if (state.corruptions > 0) {
    parts.push(
      `\n${state.corruptions} errors were found on the image.\n` +
        'Data may be corrupted, or further writes to the image may corrupt it.\n',
    )
  }
  if (state.leaks > 0) {
    parts.push(
      `\n${state.leaks} leaked clusters were found on the image.\n` +
        'This means waste of disk space, but no harm to data.\n',
    )
  }
  if (state.checkErrors > 0) {
    parts.push(`\n${state.checkErrors} internal errors have occurred during the check.\n`)
  }
  if (parts.length === 0) parts.push('No errors were found on the image.\n')
  const { totalClusters: total = 0, allocatedClusters: allocated = 0 } = state
  if (total > 0 && allocated > 0) {
    const share = (part: number | undefined, whole: number): string => twoDecimals(((part ?? 0) * 100) / whole)
    parts.push(
      `${allocated}/${total} = ${share(allocated, total)}% allocated, ` +
        `${share(state.fragmentedClusters, allocated)}% fragmented, ` +
        `${share(state.compressedClusters, allocated)}% compressed clusters\n`,
    )
  }
  if ((state.imageEndOffset ?? 0) > 0) parts.push(`Image end offset: ${state.imageEndOffset}\n`)
  return parts.join('')
}

/** The members in the order of QEMU's `ImageCheck`; counters that are 0 are left out. */
function jsonOf(filename: string, formatName: string, state: CheckResult, found: CheckResult) {
  const some = (count: number | undefined): number | undefined => (count === 0 ? undefined : count)
  return {
    filename,
    format: formatName,
    'check-errors': state.checkErrors,
    'image-end-offset': some(state.imageEndOffset),
    corruptions: some(state.corruptions),
    leaks: some(state.leaks),
    'corruptions-fixed': some(found.corruptionsFixed),
    'leaks-fixed': some(found.leaksFixed),
    'total-clusters': some(state.totalClusters),
    'allocated-clusters': some(state.allocatedClusters),
    'fragmented-clusters': some(state.fragmentedClusters),
    'compressed-clusters': some(state.compressedClusters),
  }
}
