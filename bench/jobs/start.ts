/** Commands that are over at once, on small images: what is timed is the start. */
import { join } from 'node:path'
import type { Bench, Job, Prepared } from '../support/job.ts'
import { must, program } from '../support/process.ts'

async function prepare(bench: Bench, verb: 'info' | 'create' | 'map'): Promise<Prepared> {
  const image = join(bench.results, 'small.qcow2')
  await must('qemu-img', 'create', '-q', '-f', 'qcow2', image, '64M')
  const call = (name: string, command: string) => {
    const target = join(bench.results, `${name}.img`)
    return verb === 'create'
      ? program(name, [command, 'create', '-f', 'qcow2', target, '64M'], { scratch: bench.results, target })
      : program(name, [command, verb, image], { scratch: bench.results })
  }
  return {
    contenders: [call('moraine', bench.moraine), call('standalone', bench.standalone), call('qemu-img', 'qemu-img')],
    against: 'qemu-img',
  }
}

/** The jobs of this group. */
export const startJobs: Job[] = (['info', 'create', 'map'] as const).map((verb) => ({
  name: `start/${verb}`,
  title: `${verb}, a small qcow2`,
  judged: 'standalone',
  atMost: 1.3,
  aim: 1,
  leastRounds: 25,
  prepare: (bench) => prepare(bench, verb),
}))
