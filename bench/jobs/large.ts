/** Images of 1 TiB: one that is almost empty, and one with all its metadata present. */
import { join } from 'node:path'
import { metadataQcow2, sparseRaw } from '../support/inputs.ts'
import { type Bench, type Job, type Prepared, peakLimit } from '../support/job.ts'
import { must, program } from '../support/process.ts'

async function convertSparse(bench: Bench, format: string): Promise<Prepared> {
  const source = await sparseRaw(bench)
  const target = (name: string) => join(bench.results, `${name}.img`)
  const convert = (name: string, command: string) =>
    program(name, [command, 'convert', '-f', 'raw', '-O', format, source, target(name)], {
      scratch: bench.results,
      target: target(name),
    })
  return {
    contenders: [convert('moraine', bench.moraine), convert('qemu-img', 'qemu-img')],
    against: 'qemu-img',
    async verify() {
      await must('qemu-img', 'compare', '-f', 'raw', '-F', format, source, target('moraine'))
    },
  }
}

async function metadata(bench: Bench, verb: string, files: 1 | 2): Promise<Prepared> {
  const images = (await metadataQcow2(bench)).slice(0, files)
  const look = (name: string, command: string) =>
    program(name, [command, verb, ...(verb === 'map' ? ['--output=json'] : []), ...images], { scratch: bench.results })
  return { contenders: [look('moraine', bench.moraine), look('qemu-img', 'qemu-img')], against: 'qemu-img' }
}

/** The jobs of this group. */
export const largeJobs: Job[] = [
  {
    name: 'large/sparse-qcow2',
    title: 'convert 1 TiB sparse raw → qcow2',
    atMost: 1,
    aim: 0.5,
    peakAtMost: peakLimit,
    prepare: (bench) => convertSparse(bench, 'qcow2'),
  },
  {
    name: 'large/sparse-raw',
    title: 'convert 1 TiB sparse raw → raw',
    atMost: 1,
    aim: 0.5,
    peakAtMost: peakLimit,
    prepare: (bench) => convertSparse(bench, 'raw'),
  },
  ...(['compare', 'check', 'map'] as const).map((verb) => ({
    name: `large/${verb}`,
    title: `${verb} of 1 TiB qcow2, all metadata`,
    atMost: 1,
    aim: 0.5,
    plusStart: true,
    peakAtMost: peakLimit,
    prepare: (bench: Bench) => metadata(bench, verb, verb === 'compare' ? 2 : 1),
  })),
]
