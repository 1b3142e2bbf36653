/** Copying what an NBD server exports: from qemu-nbd on a UNIX socket to a raw file, and back into an export. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { copyFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { filesRaw, filesSize } from '../support/inputs.ts'
import { type Bench, type Job, type Prepared, peakLimit } from '../support/job.ts'
import { must, program } from '../support/process.ts'

/** What serves. */
const server = 'qemu-nbd'

/** qemu-nbd on an image, until it is stopped. */
async function serve(socket: string, file: string, ...more: string[]): Promise<() => Promise<void>> {
  await rm(socket, { force: true })
  const child = spawn(server, ['-t', '-e', '8', '-f', 'raw', '-k', socket, ...more, file], { stdio: 'ignore' })
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  for (let tries = 0; !existsSync(socket); tries++) {
    if (tries > 400) throw new Error(`${server} does not listen`)
    await sleep(25)
  }
  return async () => {
    child.kill('SIGTERM')
    await ended
  }
}

async function fromExport(bench: Bench): Promise<Prepared> {
  const scratch = bench.results
  const out = (name: string) => join(scratch, name)
  const source = await filesRaw(bench)
  const stop = await serve(out('nbd.sock'), source, '-r')
  const uri = `nbd+unix:///?socket=${out('nbd.sock')}`
  const convert = (name: string, command: string) =>
    program(name, [command, 'convert', '-f', 'raw', '-O', 'raw', uri, out(`${name}.raw`)], {
      scratch,
      target: out(`${name}.raw`),
    })
  return {
    contenders: [
      convert('moraine', bench.moraine),
      convert('standalone', bench.standalone),
      convert('qemu-img', 'qemu-img'),
      // It writes into a file that is there, and makes it as long as it must be.
      program(
        'nbdcopy',
        [
          'sh',
          '-c',
          `: > "$2" && truncate -s ${filesSize(bench)} "$2" && nbdcopy "$1" "$2"`,
          'sh',
          uri,
          out('nbdcopy.raw'),
        ],
        {
          scratch,
          target: out('nbdcopy.raw'),
        },
      ),
    ],
    against: 'qemu-img',
    bytes: filesSize(bench),
    verify: async () => void (await must('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', source, out('moraine.raw'))),
    close: stop,
  }
}

async function intoExport(bench: Bench): Promise<Prepared> {
  const scratch = bench.results
  const out = (name: string) => join(scratch, name)
  const source = await filesRaw(bench)
  await copyFile(source, out('target.raw'))
  const stop = await serve(out('nbd.sock'), out('target.raw'))
  const uri = `nbd+unix:///?socket=${out('nbd.sock')}`
  const convert = (name: string, command: string) =>
    program(name, [command, 'convert', '-n', '-f', 'raw', '-O', 'raw', source, uri], { scratch })
  return {
    contenders: [
      convert('moraine', bench.moraine),
      convert('standalone', bench.standalone),
      convert('qemu-img', 'qemu-img'),
      program('nbdcopy', ['nbdcopy', source, uri], { scratch }),
    ],
    against: 'qemu-img',
    bytes: filesSize(bench),
    verify: async () => void (await must('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', source, uri)),
    close: stop,
  }
}

/** The jobs of this group. */
export const nbdJobs: Job[] = [
  {
    name: 'nbd/read',
    title: 'convert nbd+unix → raw',
    atMost: 1.2,
    aim: 1,
    peakAtMost: peakLimit,
    prepare: fromExport,
  },
  {
    name: 'nbd/write',
    title: 'convert -n raw → nbd+unix',
    atMost: 1.2,
    aim: 1,
    peakAtMost: peakLimit,
    prepare: intoExport,
  },
]
