/** Reading and writing through the engine: a qcow2 image with preallocated metadata against raw. */
import { join } from 'node:path'
import type { Bench, Contender, Job, Prepared } from '../support/job.ts'
import { must, runProgram } from '../support/process.ts'

const size = ({ scale }: Bench) => Math.max(64, Math.round(1024 * scale)) * 2 ** 20

/** Each run is a fresh process over the built engine, so that one format does not profit from code that the other has warmed; it
 *  times its loop itself, without its start. */
function loop(bench: Bench, name: string, format: string, what: string): Contender {
  const image = join(bench.results, `loop.${format}`)
  const script = join(import.meta.dirname, '..', 'programs', 'engine-loop.ts')
  return {
    name,
    async run() {
      const { code, stdout, stderr } = await runProgram([process.execPath, script, format, image, what])
      if (code !== 0) throw new Error(`engine-loop ${format} ${what}: exit ${code}\n${stderr}`)
      return { seconds: Number(stdout) }
    },
  }
}

async function prepare(bench: Bench, what: string): Promise<Prepared> {
  const bytes = size(bench)
  const image = (format: string) => join(bench.results, `loop.${format}`)
  await must(bench.moraine, 'create', '-q', '-f', 'raw', image('raw'), String(bytes))
  await must(
    bench.moraine,
    'create',
    '-q',
    '-f',
    'qcow2',
    '-o',
    'preallocation=metadata',
    image('qcow2'),
    String(bytes),
  )
  // Reads find data, and writes find host blocks that are there, in both.
  for (const format of ['raw', 'qcow2']) await loop(bench, format, format, 'write-2m').run()
  return { contenders: [loop(bench, 'moraine', 'qcow2', what), loop(bench, 'raw', 'raw', what)], against: 'raw' }
}

/** The jobs of this group. */
export const engineJobs: Job[] = (
  [
    ['read-2m', 'engine: sequential 2 MiB reads'],
    ['write-2m', 'engine: sequential 2 MiB writes'],
    ['read-4k', 'engine: random 4 KiB reads'],
    ['write-4k', 'engine: random 4 KiB writes'],
  ] as const
).map(([what, title]) => ({
  name: `engine/${what}`,
  title: `${title}, preallocated qcow2`,
  atMost: 1.15,
  aim: 1.05,
  // A request at a time waits for threads to wake, which takes 15 or 40 microseconds as chance has it.
  leastRounds: 15,
  prepare: (bench) => prepare(bench, what),
}))
