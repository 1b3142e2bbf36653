/** Progress of a long verb: QEMU's percentage, a bar, JSON lines, or only an answer to SIGUSR1. All are fed by the engine's progress events. */
import type { Progress } from '@moraine/engine'
import { onProgressRequest } from '../signals.ts'
import type { Context } from '../verb.ts'
import { twoDecimals } from './fixed.ts'
import type { TextOutput } from './streams.ts'

/** Shows how far a verb is. */
export interface ProgressDisplay {
  /** Takes the engine's events. Absent when nobody wants them, so that the engine need not count. */
  readonly onProgress: ((progress: Progress) => void) | undefined
  /** The work is done. */
  finish(): void
  /** Ends the display; must be called, whatever happened. */
  end(): void
}

/** What `--progress` takes. */
export const progressModes = ['auto', 'bar', 'percent', 'json', 'none'] as const
export type ProgressMode = (typeof progressModes)[number]

/** What the user says of it. */
export interface ProgressOptions {
  /** `-p` */
  percent?: boolean
  /** `-q` */
  quiet: boolean
  /** `--progress` */
  progress?: ProgressMode | undefined
}

/** What the verb says of it. */
export interface ProgressStyle {
  /** What is done, for JSON lines and the bar. */
  operation: string
  /** Percent that must have passed before QEMU prints again; by default 1. */
  step?: number
  /** QEMU adds up the steps of this verb, in single precision. */
  addsUp?: boolean
  /** Standard output carries the result, so a percentage goes to standard error. */
  outputTaken?: boolean
}

/** Chooses and starts a display. Loads the bar only when it is shown. */
export async function showProgress(
  context: Context,
  options: ProgressOptions,
  style: ProgressStyle,
): Promise<ProgressDisplay> {
  switch (chooseMode(context, options)) {
    case 'percent':
      return new PercentDisplay(style, style.outputTaken === true ? context.err : context.out)
    case 'json':
      return new JsonDisplay(context, style.operation)
    case 'bar': {
      const { BarDisplay } = await import('./bar.ts')
      return new BarDisplay(style.operation)
    }
    default:
      return new AskedDisplay(context)
  }
}

/** Shows how far something is that comes or goes over a network: on a terminal also when nobody asked. Standard output is free for the result. */
export async function withProgress<Result>(
  context: Context,
  options: ProgressOptions,
  operation: string,
  work: (display: ProgressDisplay) => Promise<Result>,
): Promise<Result> {
  const percent = options.percent || process.stderr.isTTY === true
  const display = await showProgress(context, { ...options, percent }, { operation, outputTaken: true })
  try {
    const result = await work(display)
    display.finish()
    return result
  } finally {
    display.end()
  }
}

function chooseMode({ persona }: Context, { percent, quiet, progress }: ProgressOptions): ProgressMode {
  if (quiet) return 'none'
  if (progress !== undefined && progress !== 'auto') return progress
  if (progress === undefined && percent !== true) return 'none'
  if (persona.progress === 'percent') return 'percent'
  return process.stderr.isTTY ? 'bar' : 'percent'
}

/** How far, in percent. */
export function percentOf({ done, total }: Progress): number {
  return total === 0 ? 0 : (done / total) * 100
}

/** Prints a percentage whenever enough has passed, as QEMU does (Source: measured; QEMU's `util/qemu-progress.c`). */
class PercentDisplay implements ProgressDisplay {
  private printed = 0
  private begun = false
  private sum = 0
  private counted = 0
  private readonly step: number
  private readonly output: TextOutput
  readonly onProgress: (progress: Progress) => void

  constructor({ step = 1, addsUp }: ProgressStyle, output: TextOutput) {
    this.step = step
    this.output = output
    this.onProgress = (progress) => this.show(addsUp === true ? this.add(progress) : percentOf(progress))
  }

  finish(): void {
    this.show(100)
  }

  end(): void {
    this.output.show('\n')
  }

  private add(progress: Progress): number {
    const share = Math.fround(Math.fround(progress.done - this.counted) / Math.fround(progress.total))
    this.counted = progress.done
    const percent = progress.total === 0 ? 0 : Math.fround(share * 100)
    this.sum = Math.min(100, Math.fround(this.sum + Math.fround(Math.fround(percent / 100) * 100)))
    return this.sum
  }

  private show(percent: number): void {
    if (percent === 0 ? this.begun : percent <= this.printed + this.step && percent !== 100) return
    this.begun = true
    this.printed = percent
    this.output.show(`${percentText(percent)}\r`)
  }
}

function percentText(percent: number): string {
  return `    (${twoDecimals(Math.fround(percent))}/100%)`
}

/** Says nothing until somebody sends SIGUSR1, then one line on standard error. */
class AskedDisplay implements ProgressDisplay {
  private current = 0
  private readonly stop: () => void
  readonly onProgress: (progress: Progress) => void

  constructor(context: Context) {
    this.onProgress = (progress) => {
      this.current = percentOf(progress)
    }
    this.stop = onProgressRequest(() => {
      context.err.show(`${percentText(this.current)}\n`)
    })
  }

  finish(): void {
    this.current = 100
  }

  end(): void {
    this.stop()
  }
}

const jsonPause = 200

/** One JSON object a line on standard error: `{"operation","done","total","percent"}`, bytes; at most five a second, and one at the end. */
class JsonDisplay implements ProgressDisplay {
  private readonly context: Context
  private readonly operation: string
  private last: Progress = { done: 0, total: 0 }
  private lineAt = Number.NEGATIVE_INFINITY
  private said = ''

  constructor(context: Context, operation: string) {
    this.context = context
    this.operation = operation
    this.onProgress = this.onProgress.bind(this)
  }

  onProgress(progress: Progress): void {
    this.last = progress
    const now = performance.now()
    if (now - this.lineAt < jsonPause) return
    this.lineAt = now
    this.line()
  }

  finish(): void {
    this.last = { done: this.last.total, total: this.last.total }
    this.line(true)
  }

  end(): void {}

  private line(finished = false): void {
    const percent = finished ? 100 : Math.round(percentOf(this.last) * 100) / 100
    const text = `${JSON.stringify({ operation: this.operation, ...this.last, percent })}\n`
    if (text === this.said) return
    this.said = text
    this.context.err.show(text)
  }
}
