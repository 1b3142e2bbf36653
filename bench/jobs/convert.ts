/** Converting a disk of real files: plain and compressed, there and back. */
import { join } from 'node:path'
import { filesAs, filesRaw, filesSize } from '../support/inputs.ts'
import { type Bench, type Job, type Prepared, peakLimit } from '../support/job.ts'
import { must, program } from '../support/process.ts'

/** moraine, under Node and standalone, qemu-img and, where the bytes stay as they are, `cp` of the same extents, which is the floor. */
export async function contest(bench: Bench, source: string, options: string[], floor: boolean): Promise<Prepared> {
  const scratch = bench.results
  const out = (name: string) => join(bench.results, name)
  const convert = (name: string, command: string, target: string) =>
    program(name, [command, 'convert', ...options, source, target], {
      scratch,
      target,
    })
  const ours = out('moraine.img')
  return {
    contenders: [
      convert('moraine', bench.moraine, ours),
      convert('standalone', bench.standalone, out('standalone.img')),
      convert('qemu-img', 'qemu-img', out('qemu.img')),
      ...(floor
        ? [program('cp', ['cp', await filesRaw(bench), out('cp.img')], { scratch, target: out('cp.img') })]
        : []),
    ],
    against: 'qemu-img',
    bytes: filesSize(bench),
    async verify() {
      const formats = options.flatMap((option, at) => (options[at - 1] === '-O' ? [option] : []))
      await must('qemu-img', 'compare', '-f', 'raw', '-F', formats[0] ?? 'raw', await filesRaw(bench), ours)
    },
  }
}

const toQcow2 = ['-f', 'raw', '-O', 'qcow2']
const zstd = ['-o', 'compression_type=zstd']
const secret = ['--object', 'secret,id=s,data=password']

const jobs: Job[] = [
  {
    name: 'convert/raw-qcow2',
    title: 'convert raw → qcow2',
    atMost: 1,
    aim: 0.8,
    prepare: async (bench) => contest(bench, await filesRaw(bench), toQcow2, true),
  },
  {
    name: 'convert/qcow2-raw',
    title: 'convert qcow2 → raw',
    atMost: 1,
    aim: 0.8,
    prepare: async (bench) =>
      contest(bench, await filesAs(bench, 'files.qcow2', '-O', 'qcow2'), ['-f', 'qcow2', '-O', 'raw'], true),
  },
  {
    name: 'convert/raw-zlib',
    title: 'convert -c → qcow2 zlib',
    atMost: 0.4,
    aim: 0.25,
    sizeAtMost: 1.05,
    prepare: async (bench) => contest(bench, await filesRaw(bench), ['-c', ...toQcow2], false),
  },
  {
    name: 'convert/raw-zstd',
    title: 'convert -c → qcow2 zstd',
    atMost: 0.6,
    aim: 0.35,
    prepare: async (bench) => contest(bench, await filesRaw(bench), ['-c', ...toQcow2, ...zstd], false),
  },
  {
    name: 'convert/zlib-raw',
    title: 'convert qcow2 zlib → raw',
    atMost: 0.6,
    aim: 0.35,
    prepare: async (bench) =>
      contest(
        bench,
        await filesAs(bench, 'files-zlib.qcow2', '-c', '-O', 'qcow2'),
        ['-f', 'qcow2', '-O', 'raw'],
        false,
      ),
  },
  {
    name: 'convert/zstd-raw',
    title: 'convert qcow2 zstd → raw',
    atMost: 0.6,
    aim: 0.35,
    prepare: async (bench) =>
      contest(
        bench,
        await filesAs(bench, 'files-zstd.qcow2', '-c', '-O', 'qcow2', ...zstd),
        ['-f', 'qcow2', '-O', 'raw'],
        false,
      ),
  },
  {
    name: 'convert/luks-raw',
    title: 'convert qcow2 with LUKS → raw',
    atMost: 1.5,
    aim: 1,
    prepare: async (bench) => {
      const options = ['-o', 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10']
      const file = await filesAs(bench, 'files-luks.qcow2', ...secret, '-O', 'qcow2', ...options)
      const source = `driver=qcow2,encrypt.key-secret=s,file.filename=${file}`
      return contest(bench, source, [...secret, '--image-opts', '-O', 'raw'], false)
    },
  },
]

/** The jobs of this group. */
export const convertJobs: Job[] = jobs.map((job) => ({ ...job, peakAtMost: peakLimit }))
