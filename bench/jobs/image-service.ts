/** The image service beside Debian's Glance: rates of requests, transfers, start and memory. */
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Deployments, deploy, type SeedImage, type Subject } from '../support/deployments.ts'
import { filesRaw, filesSize } from '../support/inputs.ts'
import type { Bench } from '../support/job.ts'
import { type Load, loadWith, type Rate } from '../support/load.ts'
import { runProgram } from '../support/process.ts'
import { heldBytes, peakBytes, processorSeconds } from '../support/process-tree.ts'
import { median } from '../support/result.ts'
import { detailOf, type ServiceRow } from '../support/service-result.ts'

/** Names of parts, as in `npm run bench image-service/list`. */
export const imageServiceParts: Readonly<Record<string, string>> = {
  'image-service/growth': 'lists of 100 among 1,000 and 10,000 images',
  'image-service/list': 'list of 100 among 10,000 images, beside Glance',
  'image-service/show': 'show, beside Glance',
  'image-service/create': 'create, beside Glance',
  'image-service/transfer': 'upload and download of 4 GiB, beside Glance; 32 transfers at once',
  'image-service/start': 'start to first answer, beside Glance',
}

interface Stage extends Deployments {
  bench: Bench
  rounds: number
  seconds: number
}

/** Measures the parts asked for, in their order. */
export async function measureImageService(
  bench: Bench,
  parts: ReadonlySet<string>,
  rounds: number,
): Promise<ServiceRow[]> {
  const has = (name: string) => parts.has(`image-service/${name}`)
  const deployments = await deploy(join(bench.results, 'image-service'), bench.moraine)
  const stage: Stage = { ...deployments, bench, rounds, seconds: Math.max(1, 5 * Math.min(1, bench.scale)) }
  try {
    const most = Math.max(200, Math.round(10_000 * bench.scale))
    const few = Math.round(most / 10)
    const images = seedImages(stage, most)
    const rows: ServiceRow[] = []
    console.error(`image-service: putting ${few} images into both catalogs`)
    await seed(stage, images.slice(0, few))
    const before = has('growth') ? await measurePages(stage, few) : []
    console.error(`image-service: putting ${most - few} images into both catalogs`)
    await seed(stage, images.slice(few))
    if (has('growth')) rows.push(...before, ...grown(before, await measurePages(stage, most)))
    if (has('list')) {
      const url = '/v2/images?limit=100'
      rows.push(...(await measureRates(stage, 'list', `list of 100 among ${most}`, { url }, { atLeast: 20 })))
    }
    if (has('show')) {
      const url = `/v2/images/${images.at(-1)?.id}`
      rows.push(...(await measureRates(stage, 'show', `show, among ${most}`, { url }, { atLeast: 15 })))
    }
    if (has('create')) {
      const load = { url: '/v2/images', method: 'POST' as const, body: creation, expect: 201 }
      rows.push(...(await measureRates(stage, 'create', 'create', load, { atLeast: 5, aim: 10 })))
    }
    if (has('start')) rows.push(await measureStart(stage))
    if (has('transfer')) rows.push(...(await measureTransfers(stage)), ...(await measureMany(stage)))
    return rows
  } finally {
    await deployments.stop()
  }
}

const creation = JSON.stringify({
  ...{ name: 'bench', disk_format: 'qcow2', container_format: 'bare', tags: ['bench', 'stable'] },
  ...{ architecture: 'x86_64', hw_disk_bus: 'scsi', os_distro: 'debian', os_version: '12' },
})

/** Five of them are the guest's, whatever the number of the others. */
function seedImages({ owner, guest }: Stage, count: number): SeedImage[] {
  return Array.from({ length: count }, (_, at) => ({
    id: randomUUID(),
    name: `image-${String(at).padStart(5, '0')}`,
    owner: at < 5 ? guest.project : owner.project,
  }))
}

async function seed({ moraine, glance }: Stage, images: readonly SeedImage[]): Promise<void> {
  await moraine.seed(images)
  await glance.seed(images)
  await sleep(1000)
}

const subjects = ({ moraine, glance }: Stage): [Subject, Subject] => [moraine, glance]

type Asked = Pick<Load, 'url'> & Partial<Load>

function rate(stage: Stage, subject: Subject, connections: number, { url, headers, ...more }: Asked): Promise<Rate> {
  return loadWith({
    ...{ expect: 200, connections, seconds: stage.seconds, pids: subject.pids, ...more },
    url: `${subject.url}${url}`,
    headers: { 'x-auth-token': stage.owner.token, 'content-type': 'application/json', ...headers },
  })
}

/** A row for each number of connections; the services take turns. */
async function measureRates(
  stage: Stage,
  name: string,
  title: string,
  asked: Asked,
  bounds: Pick<ServiceRow, 'atLeast' | 'aim'>,
): Promise<ServiceRow[]> {
  const rows: ServiceRow[] = []
  for (const subject of subjects(stage)) await rate(stage, subject, 1, { ...asked, seconds: 1 })
  for (const connections of [1, 8]) {
    console.error(`image-service/${name}: ${connections} connections`)
    const rates: Record<Subject['name'], Rate[]> = { moraine: [], Glance: [] }
    for (let round = 0; round < stage.rounds; round++) {
      const turns = round % 2 === 0 ? subjects(stage) : subjects(stage).reverse()
      for (const subject of turns) rates[subject.name].push(await rate(stage, subject, connections, asked))
    }
    const ours = median(rates.moraine.map(({ perSecond }) => perSecond))
    const theirs = median(rates.Glance.map(({ perSecond }) => perSecond))
    rows.push({
      ...{ name: `image-service/${name}-${connections}`, title: `${title}, ${connections} at once` },
      ...{ unit: 'requests/s', ours, theirs, ratio: ours / theirs, ...bounds },
      ...{ oursDetail: detailOf(rates.moraine), theirsDetail: detailOf(rates.Glance) },
    })
  }
  return rows
}

/** Milliseconds for a page of 100: the first one, one deep inside, and the list of a project that sees few. */
async function measurePages(stage: Stage, among: number): Promise<ServiceRow[]> {
  const marker = await middle(stage, among)
  const pages: [string, string, Partial<Load>][] = [
    ['first', 'first page of 100', { url: '/v2/images?limit=100' }],
    ['deep', 'page of 100 in the middle', { url: `/v2/images?limit=100&marker=${marker}` }],
    ['few', 'list of a project with 5 images', { headers: { 'x-auth-token': stage.guest.token } }],
  ]
  const rows: ServiceRow[] = []
  for (const [name, title, more] of pages) {
    console.error(`image-service/growth: ${title} among ${among}`)
    const rates: Rate[][] = []
    for (const subject of subjects(stage)) {
      const load = { url: '/v2/images?limit=100', ...more }
      await rate(stage, subject, 1, { ...load, seconds: 1 })
      rates.push([await rate(stage, subject, 1, load)])
    }
    const [ours = [], theirs = []] = rates
    const [{ p50: one } = { p50: Number.NaN }] = ours
    const [{ p50: other } = { p50: Number.NaN }] = theirs
    rows.push({
      ...{ name: `image-service/growth-${name}-${among}`, title: `${title}, among ${among}`, unit: 'ms' },
      ...{ ours: one, theirs: other, ratio: other / one },
      ...{ oursDetail: detailOf(ours), theirsDetail: detailOf(theirs) },
    })
  }
  return rows
}

/** How much longer a page may take among ten times as many images: what scatters between two runs. */
const growthAtMost = 1.25

function grown(before: readonly ServiceRow[], after: readonly ServiceRow[]): ServiceRow[] {
  return after.map((row, at) => ({ ...row, atMost: (before[at]?.ours ?? Number.NaN) * growthAtMost }))
}

/** The id of an image in the middle of the owner's list; both services have it there. */
async function middle({ moraine, owner }: Stage, among: number): Promise<string> {
  let next: string | undefined = '/v2/images?limit=100'
  let last = ''
  for (let seen = 0; next !== undefined && seen < among / 2; seen += 100) {
    const answer = await fetch(`${moraine.url}${next}`, { headers: { 'x-auth-token': owner.token } })
    const page = (await answer.json()) as { images: { id: string }[]; next?: string }
    last = page.images.at(-1)?.id ?? last
    next = page.next
  }
  return last
}

async function measureStart(stage: Stage): Promise<ServiceRow> {
  const seconds: Record<Subject['name'], number[]> = { moraine: [], Glance: [] }
  for (let round = 0; round < stage.rounds; round++) {
    for (const subject of subjects(stage)) {
      await subject.restart()
      seconds[subject.name].push(subject.startSeconds)
    }
  }
  const [ours, theirs] = [median(seconds.moraine), median(seconds.Glance)]
  const title = 'start to first answer'
  return { name: 'image-service/start', title, unit: 's', ours, theirs, ratio: theirs / ours, atMost: 1 }
}

async function newImage({ owner }: Stage, { url }: Subject): Promise<string> {
  const response = await fetch(`${url}/v2/images`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-auth-token': owner.token },
    body: JSON.stringify({ name: 'bench', disk_format: 'raw', container_format: 'bare' }),
  })
  if (!response.ok) throw new Error(`create: ${response.status} ${await response.text()}`)
  return ((await response.json()) as { id: string }).id
}

async function removeImage({ owner }: Stage, { url }: Subject, id: string): Promise<void> {
  await fetch(`${url}/v2/images/${id}`, { method: 'DELETE', headers: { 'x-auth-token': owner.token } })
}

/** Sends or fetches image data with curl; the seconds it took. */
async function transfer({ owner }: Stage, { url }: Subject, id: string, file?: string): Promise<number> {
  const sending = ['--header', 'Content-Type: application/octet-stream', '--upload-file', file ?? '']
  const { code, stderr, seconds } = await runProgram(
    [
      ...['curl', '--silent', '--show-error', '--fail', '--header', `X-Auth-Token: ${owner.token}`],
      ...(file === undefined ? ['--output', '/dev/null'] : sending),
      `${url}/v2/images/${id}/file`,
    ],
    { quiet: true },
  )
  if (code !== 0) throw new Error(`curl ended with ${code}\n${stderr}`)
  return seconds
}

/** A large image up and down again. */
async function measureTransfers(stage: Stage): Promise<ServiceRow[]> {
  const file = await filesRaw(stage.bench)
  const megabytes = filesSize(stage.bench) / 1e6
  const figures = () => ({ up: [] as number[], down: [] as number[], upCpu: [] as number[], downCpu: [] as number[] })
  const measured = { moraine: figures(), Glance: figures() }
  const peaks = { moraine: 0, Glance: 0 }
  for (const subject of subjects(stage)) await subject.restart()
  for (let round = 0; round < stage.rounds; round++) {
    for (const subject of subjects(stage)) {
      console.error(`image-service/transfer: ${subject.name}, round ${round + 1}`)
      const { up, down, upCpu, downCpu } = measured[subject.name]
      const id = await newImage(stage, subject)
      const first = processorSeconds(subject.pids)
      up.push(await transfer(stage, subject, id, file))
      const second = processorSeconds(subject.pids)
      down.push(await transfer(stage, subject, id))
      upCpu.push(second - first)
      downCpu.push(processorSeconds(subject.pids) - second)
      peaks[subject.name] = Math.max(peaks[subject.name], heldBytes(subject.pids))
      await removeImage(stage, subject, id)
    }
  }
  const row = (which: 'up' | 'down', title: string, atLeast: number, aim: number): ServiceRow => {
    const [ours, theirs] = [median(measured.moraine[which]), median(measured.Glance[which])]
    const detail = (name: Subject['name']) => ({
      processor: median(measured[name][`${which}Cpu`]) * 1000,
      heldBytes: peaks[name],
    })
    return {
      ...{
        name: `image-service/${which}load`,
        title,
        unit: 'MB/s',
        ours: megabytes / ours,
        theirs: megabytes / theirs,
      },
      ...{ ratio: theirs / ours, atLeast, aim, oursDetail: detail('moraine'), theirsDetail: detail('Glance') },
    }
  }
  const gibibytes = `${Number((filesSize(stage.bench) / 2 ** 30).toFixed(2))} GiB`
  return [row('up', `upload of ${gibibytes}`, 2, 3), row('down', `download of ${gibibytes}`, 1, 1.5)]
}

const manyTransfers = 32

/** The most memory of a fresh process while as many clients send, and then fetch, at once. */
async function measureMany(stage: Stage): Promise<ServiceRow[]> {
  const { moraine, bench } = stage
  const file = await filesRaw(bench)
  const part = join(bench.results, 'part')
  const partMiB = Math.max(8, Math.round(256 * bench.scale))
  const head = ['dd', `if=${file}`, `of=${part}`, 'bs=1M', `count=${partMiB}`, 'status=none']
  const made = await runProgram(head)
  if (made.code !== 0) throw new Error(`dd: ${made.stderr}`)
  await moraine.restart()
  const ids: string[] = []
  for (let at = 0; at < manyTransfers; at++) ids.push(await newImage(stage, moraine))
  const rows: ServiceRow[] = []
  for (const [name, title, sent] of [
    ['uploads', 'uploads', part],
    ['downloads', 'downloads', undefined],
  ] as const) {
    console.error(`image-service/transfer: ${manyTransfers} ${title} at once`)
    const before = processorSeconds(moraine.pids)
    const seconds = await Promise.all(ids.map((id) => transfer(stage, moraine, id, sent)))
    const processor = ((processorSeconds(moraine.pids) - before) * 1000) / manyTransfers
    const peak = Math.max(...moraine.pids.map(peakBytes))
    rows.push({
      ...{ name: `image-service/many-${name}`, title: `${manyTransfers} ${title} of ${partMiB} MiB at once, peak` },
      ...{ unit: 'MiB', ours: peak / 2 ** 20, atMost: 256 },
      oursDetail: { p50: median(seconds) * 1000, p99: Math.max(...seconds) * 1000, processor, heldBytes: peak },
    })
  }
  for (const id of ids) await removeImage(stage, moraine, id)
  return rows
}
