/** The engine in a process of its own, driven by JSON lines: tests of hostile input see hangs, crashes and peak memory from outside. */
import { createHash } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { createInterface } from 'node:readline'
import {
  allFormats,
  checkImage,
  type Disk,
  findFormat,
  isMoraineError,
  isWritable,
  mapDisk,
  openDisk,
  planConversion,
} from '@moraine/engine'
import { fileGate, nodeCodecs, openFile } from '@moraine/engine/node'

import type { Answer, Job } from './engine.ts'
import { Random } from './random.ts'

const chunk = 1 << 20
/** Bytes of guest content that `read` hashes whole; of a larger disk it reads what is stored, up to this much. */
const readWhole = 128 * 1024 * 1024

function open(job: Job, purpose: 'use' | 'info' | 'check', mode: 'read' | 'write' = 'read'): Promise<Disk> {
  return openFile(job.file, { mode, sync: 'unsafe' }).then((source) =>
    openDisk(source, {
      formats: allFormats,
      format: job.format ?? 'qcow2',
      mode,
      purpose,
      gate: fileGate(),
      codecs: nodeCodecs,
    }),
  )
}

async function using<T>(opening: Promise<Disk>, work: (disk: Disk) => Promise<T>): Promise<T> {
  const disk = await opening
  let result: T
  try {
    result = await work(disk)
  } catch (error) {
    await disk.close().catch(() => {})
    throw error
  }
  await disk.close()
  return result
}

/** sha256 of the guest's bytes; of a disk past 128 MiB, of offsets and bytes of its first stored extents. */
async function digest(disk: Disk): Promise<string> {
  const hash = createHash('sha256')
  const bytes = new Uint8Array(chunk)
  if (disk.size <= readWhole) {
    for (let at = 0; at < disk.size; at += chunk) {
      const part = bytes.subarray(0, Math.min(chunk, disk.size - at))
      await disk.read(at, part)
      hash.update(part)
    }
    return hash.digest('hex')
  }
  let left = readWhole
  const end = Date.now() + 5000
  for await (const batch of disk.extents(0, disk.size)) {
    for (const extent of batch) {
      if (!extent.data) continue
      for (let at = 0; at < extent.length && left > 0; at += chunk) {
        const part = bytes.subarray(0, Math.min(chunk, extent.length - at))
        await disk.read(extent.offset + at, part)
        hash.update(`${extent.offset + at} `).update(part)
        left -= part.length
      }
    }
    if (left <= 0 || Date.now() > end) break
  }
  return `extents ${hash.digest('hex')}`
}

const checked = (job: Job, repair: 'none' | 'leaks' | 'all') =>
  using(open(job, 'check', repair === 'none' ? 'read' : 'write'), (disk) => {
    const format = findFormat(allFormats, job.format ?? 'qcow2')
    if (format === undefined) throw new Error(`there is no format ${job.format}`)
    return checkImage(format, disk, { repair, thorough: job.thorough, report: () => {} })
  })

async function write(job: Job): Promise<unknown> {
  const random = new Random(job.seed ?? 1)
  return using(open(job, 'use', 'write'), async (disk) => {
    if (!isWritable(disk)) throw new Error('a disk opened for writing cannot be written')
    const reach = Math.min(disk.size, 1 << 22)
    if (reach === 0) return 'nothing to write'
    for (let i = 0; i < 12; i++) {
      const offset = random.int(0, reach - 1)
      const length = random.int(1, Math.min(reach - offset, 200_000))
      const what = random.int(0, 5)
      if (what < 3) await disk.write(offset, random.bytes(length))
      else if (what === 3) await disk.zero(offset, length, random.bool() ? 'unmap' : 'allocate')
      else if (what === 4) await disk.discard(offset, length)
      else await disk.flush()
    }
    return 'written'
  })
}

const jobs: Record<string, (job: Job) => Promise<unknown>> = {
  idle: async () => 'idle',
  info: (job) => using(open(job, 'info'), async (disk) => ({ ...disk.info(), size: disk.size })),
  open: (job) => using(open(job, 'use'), async (disk) => ({ size: disk.size })),
  read: (job) => using(open(job, 'use'), digest),
  map: (job) =>
    using(open(job, 'use'), async (disk) => {
      const entries: unknown[] = []
      for await (const batch of mapDisk(disk)) {
        for (const entry of batch) if (entries.length < 2000) entries.push(entry)
      }
      return entries
    }),
  check: (job) => checked(job, 'none'),
  repair: (job) => checked(job, 'all'),
  snapshots: (job) =>
    using(open(job, 'use'), async (disk) => {
      const shas: string[] = []
      for (const { id } of disk.info().snapshots.slice(0, 8)) {
        if (disk.openSnapshot === undefined) throw new Error('snapshots are listed but cannot be opened')
        shas.push(await digest(await disk.openSnapshot(id)))
      }
      return shas
    }),
  convert: (job) =>
    using(open(job, 'use'), async (disk) => {
      const target = job.target
      if (target === undefined) throw new Error('convert wants a target')
      const raw = allFormats.find(({ name }) => name === 'raw')
      if (raw === undefined) throw new Error('there is no raw format')
      if (disk.size > 1 << 30) return 'too large to convert here'
      const plan = await planConversion(disk, { format: raw })
      const store = await openFile(target, { mode: 'write', create: true, sync: 'unsafe' })
      await store.resize(disk.size)
      return using(openDisk(store, { formats: allFormats, format: 'raw', mode: 'write' }), async (out) => {
        if (!isWritable(out)) throw new Error('a disk opened for writing cannot be written')
        await plan.run(out)
        return digest(out)
      })
    }),
  write,
}

/** The most memory this process has held since the last reset, in bytes. */
function peak(): number {
  try {
    const found = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))
    if (found?.[1] !== undefined) return Number(found[1]) * 1024
  } catch {
    // not Linux
  }
  return process.resourceUsage().maxRSS * 1024
}

/** Forgets the peak, where the system can. */
function resetPeak(): void {
  try {
    writeFileSync('/proc/self/clear_refs', '5')
  } catch {
    // not Linux: the peak is that of the process
  }
}

const stringify = (value: unknown): string =>
  JSON.stringify(value, (_key, item: unknown) => (typeof item === 'bigint' ? `${item}` : item))

/** Loaded when one is asked for. */
let largeJobs: Record<string, (job: Job) => Promise<unknown>> | undefined

async function answer(job: Job, idle: number): Promise<Answer> {
  if (!(job.op in jobs)) largeJobs ??= (await import('./engine-large.ts')).largeJobs
  // Collecting takes longer than most jobs.
  if (process.memoryUsage.rss() > idle + 16 * 1024 * 1024) globalThis.gc?.()
  resetPeak()
  const start = performance.now()
  const startCpu = process.cpuUsage()
  let outcome: Partial<Answer>
  try {
    // Names of data files are relative to the working folder.
    if (job.file !== '') process.chdir(dirname(job.file))
    const work = jobs[job.op] ?? largeJobs?.[job.op]
    if (work === undefined) throw new Error(`nobody does ${job.op}`)
    outcome = { result: await work(job) }
  } catch (error) {
    const moraine = isMoraineError(error)
    const { name, message, stack } = error as Error
    outcome = { error: { name, message, stack: stack ?? '', moraine } }
    if (moraine && outcome.error !== undefined) {
      const { kind, field, path, offset, reason, code } = error
      Object.assign(outcome.error, { kind, field, path, offset, reason, code })
    }
  }
  // On a busy machine the clock also counts what others did; an operation that waits for ever runs into the caller's own limit.
  const { user, system } = process.cpuUsage(startCpu)
  const ms = Math.min(performance.now() - start, (user + system) / 1000)
  return { id: job.id, ms, over: peak() - idle, ...outcome }
}

process.on('unhandledRejection', (error) => {
  console.error('unhandled rejection', error)
  process.exit(70)
})

globalThis.gc?.()
const idle = process.memoryUsage.rss()
process.stdout.write('ready\n')
for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${stringify(await answer(JSON.parse(line) as Job, idle))}\n`)
}
