/** A progress bar on a terminal. */
import type { Progress } from '@moraine/engine'
import { Format, SingleBar } from 'cli-progress'
import { onProgressRequest } from '../signals.ts'
import { type ProgressDisplay, percentOf } from './progress.ts'
import { sizeText } from './size.ts'

/** A bar with percentage, sizes, speed and the time left, on standard error. */
export class BarDisplay implements ProgressDisplay {
  private readonly bar: SingleBar
  private readonly started = performance.now()
  private readonly stopAsking: () => void
  private total = 0
  readonly onProgress: (progress: Progress) => void

  constructor(operation: string) {
    this.bar = new SingleBar({
      format: (options, { progress, eta, value, total }) => {
        const bar = Format.BarFormat(progress, { ...options, barsize: 30 })
        const percent = `${Math.floor(progress * 100)}%`.padStart(4)
        if (total === 0) return `${operation} [${bar}] ${percent}`
        const seconds = (performance.now() - this.started) / 1000
        const speed = seconds > 0 ? `  ${sizeText(value / seconds)}/s` : ''
        const left = progress < 1 && Number.isFinite(eta) ? `  ${durationText(eta)} left` : ''
        return `${operation} [${bar}] ${percent}  ${sizeText(value)} of ${sizeText(total)}${speed}${left}`
      },
      barCompleteChar: '=',
      barIncompleteChar: ' ',
      clearOnComplete: false,
      hideCursor: null,
      fps: 10,
      linewrap: null,
      stream: process.stderr,
    })
    this.bar.start(0, 0)
    this.onProgress = (progress) => this.show(progress)
    this.stopAsking = onProgressRequest(() => this.bar.render())
  }

  finish(): void {
    this.show({ done: this.total, total: this.total })
  }

  end(): void {
    this.stopAsking()
    this.bar.stop()
  }

  private show(progress: Progress): void {
    if (progress.total !== this.total) {
      this.total = progress.total
      this.bar.setTotal(progress.total)
    }
    this.bar.update(percentOf(progress) === 0 ? 0 : progress.done)
  }
}

function durationText(seconds: number): string {
  if (seconds < 60) return `${Math.ceil(seconds)} s`
  if (seconds < 3600) return `${Math.ceil(seconds / 60)} min`
  return `${(seconds / 3600).toFixed(1)} h`
}
