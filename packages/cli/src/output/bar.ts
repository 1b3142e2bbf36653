/** A progress bar on a terminal. */
import type { Progress } from '@moraine/engine'
import progress from 'cli-progress'
import { onProgressRequest } from '../signals.ts'
import type { ProgressDisplay } from './progress.ts'
import { sizeText } from './size.ts'

/** A bar with percentage, sizes, speed and the time left, on standard error. */
export class BarDisplay implements ProgressDisplay {
  private readonly bar: progress.SingleBar
  private readonly started = performance.now()
  private readonly stopAsking: () => void
  private total = 0
  readonly onProgress: (progress: Progress) => void

  constructor(operation: string) {
    this.bar = new progress.SingleBar({
      format: (options, { progress: share, eta, value, total }) => {
        const bar = progress.Format.BarFormat(share, { ...options, barsize: 30 })
        const percent = `${Math.floor(share * 100)}%`.padStart(4)
        if (total === 0) return `${operation} [${bar}] ${percent}`
        const seconds = (performance.now() - this.started) / 1000
        const speed = seconds > 0 ? `  ${sizeText(value / seconds)}/s` : ''
        const left = share < 1 && Number.isFinite(eta) ? `  ${durationText(eta)} left` : ''
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
    this.onProgress = (event) => this.show(event)
    this.stopAsking = onProgressRequest(() => this.bar.render())
  }

  finish(): void {
    this.show({ done: this.total, total: this.total })
  }

  end(): void {
    this.stopAsking()
    this.bar.stop()
  }

  private show({ done, total }: Progress): void {
    if (total !== this.total) {
      this.total = total
      this.bar.setTotal(total)
    }
    this.bar.update(done)
  }
}

function durationText(seconds: number): string {
  if (seconds < 60) return `${Math.ceil(seconds)} s`
  if (seconds < 3600) return `${Math.ceil(seconds / 60)} min`
  return `${(seconds / 3600).toFixed(1)} h`
}
