/** The image service: upload and download by curl, against the speed of hashing alone. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Service, startService } from '../../scripts/support/service.ts'
import { filesRaw, filesSize } from '../support/inputs.ts'
import type { Bench, Contender, Job, Prepared } from '../support/job.ts'
import { must, runProgram } from '../support/process.ts'

const start = (bench: Bench) => startService(bench.moraine, join(bench.results, 'service'))

/** Most memory the service has held, by the kernel's count. Linux only. */
function peakOf({ pid }: Service): number | undefined {
  const found = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return found?.[1] === undefined ? undefined : Number(found[1]) * 1024
}

async function createImage({ url }: Service): Promise<string> {
  const response = await fetch(`${url}/v2/images`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'bench', disk_format: 'raw', container_format: 'bare' }),
  })
  if (!response.ok) throw new Error(`create: ${response.status} ${await response.text()}`)
  return ((await response.json()) as { id: string }).id
}

const curl = ['curl', '--silent', '--show-error', '--fail']

const upload = (service: Service, id: string, file: string) =>
  runProgram(
    [
      ...curl,
      '--header',
      'Content-Type: application/octet-stream',
      '--upload-file',
      file,
      `${service.url}/v2/images/${id}/file`,
    ],
    { quiet: true },
  )

/** Checks curl's exit, and adds the service's peak. */
async function sampleOf(service: Service, what: string, running: ReturnType<typeof runProgram>) {
  const { code, stderr, seconds } = await running
  if (code !== 0) throw new Error(`${what}: curl ended with ${code}\n${stderr}`)
  return { seconds, peakBytes: peakOf(service) }
}

function hashing(file: string): Contender {
  const script = join(import.meta.dirname, '..', 'programs', 'hash.ts')
  return {
    name: 'hashing',
    async run() {
      const { code, stderr, seconds } = await runProgram([process.execPath, script, file])
      if (code !== 0) throw new Error(`hashing: exit ${code}\n${stderr}`)
      return { seconds }
    },
  }
}

async function prepareUpload(bench: Bench): Promise<Prepared> {
  const file = await filesRaw(bench)
  const service = await start(bench)
  let last: string | undefined
  const run = async () => {
    if (last !== undefined) await fetch(`${service.url}/v2/images/${last}`, { method: 'DELETE' })
    last = await createImage(service)
    return sampleOf(service, 'upload', upload(service, last, file))
  }
  return {
    contenders: [{ name: 'moraine', run }, hashing(file)],
    against: 'hashing',
    bytes: filesSize(bench),
    async verify() {
      const image = (await (await fetch(`${service.url}/v2/images/${last}`)).json()) as Record<string, unknown>
      const [sha512] = (await must('sha512sum', file)).split(' ')
      if (image.status !== 'active' || image.os_hash_value !== sha512)
        throw new Error('the upload is not what was sent')
    },
    close: () => service.stop(),
  }
}

async function prepareDownload(bench: Bench): Promise<Prepared> {
  const file = await filesRaw(bench)
  const service = await start(bench)
  const id = await createImage(service)
  await sampleOf(service, 'upload', upload(service, id, file))
  // Written to where writing costs nothing, so that the service is what is measured.
  const run = () =>
    sampleOf(
      service,
      'download',
      runProgram([...curl, '--output', '/dev/null', `${service.url}/v2/images/${id}/file`], { quiet: true }),
    )
  return {
    contenders: [{ name: 'moraine', run }, hashing(file)],
    against: 'hashing',
    bytes: filesSize(bench),
    close: () => service.stop(),
  }
}

/** The jobs of this group. */
export const serviceJobs: Job[] = [
  { name: 'service/upload', title: 'service: upload', prepare: prepareUpload },
  { name: 'service/download', title: 'service: download', prepare: prepareDownload },
]
