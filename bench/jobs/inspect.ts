/** Judging images of 100 GiB: what is read of them must not grow with them. */
import { join } from 'node:path'
import { largeImages } from '../support/inputs.ts'
import { type Bench, type Contender, type Job, type Prepared, peakLimit } from '../support/job.ts'
import { program, runProgram } from '../support/process.ts'

/** One process that inspects all images through the built engine, and counts what it reads of each. */
function inspecting(bench: Bench, images: readonly string[]): Contender {
  const script = join(import.meta.dirname, '..', 'programs', 'inspect-reads.ts')
  const timed = program('moraine', [process.execPath, script, ...images], { scratch: bench.results })
  return {
    name: 'moraine',
    async run() {
      const sample = await timed.run()
      const { code, stdout, stderr } = await runProgram([process.execPath, script, ...images])
      if (code !== 0) throw new Error(`inspect-reads: exit ${code}\n${stderr}`)
      return { ...sample, readBytes: Number(stdout) }
    },
  }
}

/** qemu-img looks at one image at a time. */
function looking(bench: Bench, images: readonly string[]): Contender {
  const each = images.map((image) => program('qemu-img', ['qemu-img', 'info', image], { scratch: bench.results }))
  return {
    name: 'qemu-img',
    async run() {
      let seconds = 0
      for (const one of each) seconds += (await one.run()).seconds
      return { seconds }
    },
  }
}

async function prepare(bench: Bench): Promise<Prepared> {
  const images = await largeImages(bench)
  return { contenders: [inspecting(bench, images), looking(bench, images)], against: 'qemu-img' }
}

/** The jobs of this group. */
export const inspectJobs: Job[] = [
  {
    name: 'inspect/large',
    title: 'inspect of images of 100 GiB, one of each format',
    peakAtMost: peakLimit,
    readAtMost: 2 * 2 ** 20,
    prepare,
  },
]
