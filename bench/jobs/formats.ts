/** Converting the disk of real files to every other format that is written, and back. */
import { filesAs, filesRaw } from '../support/inputs.ts'
import { type Job, peakLimit } from '../support/job.ts'
import { contest } from './convert.ts'

/** One way to write a disk. Names and options are qemu-img's. */
interface Written {
  format: string
  /** The part of a job's name. */
  short: string
  title: string
  options?: string[]
  /** Ratios of writing and of reading: what must hold, and what is hoped for. */
  write?: [atMost: number, aim: number]
  read?: [atMost: number, aim: number]
}

const usual: [number, number] = [1, 0.7]

const written: Written[] = [
  // qemu-img writes the grains one by one, each with its table.
  { format: 'vmdk', short: 'vmdk', title: 'VMDK monolithicSparse', write: [1, 0.3] },
  {
    format: 'vmdk',
    short: 'vmdk-stream',
    title: 'VMDK streamOptimized',
    options: ['subformat=streamOptimized'],
    write: [0.3, 0.2],
    read: [0.6, 0.6],
  },
  { format: 'vdi', short: 'vdi', title: 'VDI' },
  { format: 'vpc', short: 'vhd', title: 'VHD dynamic' },
  { format: 'vpc', short: 'vhd-fixed', title: 'VHD fixed', options: ['subformat=fixed'] },
  { format: 'vhdx', short: 'vhdx', title: 'VHDX' },
  { format: 'qcow', short: 'qcow', title: 'qcow' },
  { format: 'qed', short: 'qed', title: 'QED' },
  { format: 'parallels', short: 'parallels', title: 'Parallels' },
]

function pair({ format, short, title, options = [], write = usual, read = usual }: Written): Job[] {
  const flags = options.flatMap((option) => ['-o', option])
  return [
    {
      name: `formats/raw-${short}`,
      title: `convert raw → ${title}`,
      atMost: write[0],
      aim: write[1],
      peakAtMost: peakLimit,
      prepare: async (bench) => contest(bench, await filesRaw(bench), ['-f', 'raw', '-O', format, ...flags], false),
    },
    {
      name: `formats/${short}-raw`,
      title: `convert ${title} → raw`,
      atMost: read[0],
      aim: read[1],
      peakAtMost: peakLimit,
      prepare: async (bench) =>
        contest(
          bench,
          await filesAs(bench, `files.${short}`, '-O', format, ...flags),
          ['-f', format, '-O', 'raw'],
          false,
        ),
    },
  ]
}

/** The jobs of this group. */
export const formatJobs: Job[] = written.flatMap(pair)
