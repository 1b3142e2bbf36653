/** `bench`: a run of equal requests, and how long it took. */
import { type Disk, isMoraineError, isWritable, throwIfCancelled, type WritableDisk } from '@moraine/engine'
import { readCacheMode } from '../cache.ts'
import { closing } from '../closing.ts'
import type { WritePlan } from '../dry-run.ts'
import { explain, Failure, usageFailure } from '../failure.ts'
import { readInteger, readSize, type Warn } from '../numbers.ts'
import { openForWriting, openImage } from '../open.ts'
import { type Context, defineVerb } from '../verb.ts'
import { forceShare, format, imageOpts, object, outputFormat, quiet, rehearsal, trust, wantsJson } from './common.ts'

const largest = 0x7fff_ffff

export const verb = defineVerb({
  name: 'bench',
  summary: 'Time a run of equal requests',
  operands: 'FILE',
  syntax:
    '[-c count] [-d depth] [-f fmt] [--flush-interval=flush_interval] [-i aio] [-n] [--no-drain] [-o offset] [--pattern=pattern] [-q] ' +
    '[-s buffer_size] [-S step_size] [-t cache] [-w] [-U] filename',
  about:
    'Sends requests of one size, one after the other, a number of them at the same time, and says how long it took. With -w it writes: what the image holds is lost.',
  examples: [
    ['moraine bench disk.qcow2', '75000 reads of 4 KiB, 64 at a time'],
    ['moraine bench -w -c 1000 -s 1M -t none scratch.qcow2', '1000 writes of 1 MiB'],
  ],
  options: {
    object,
    ...trust,
    imageOpts,
    forceShare,
    quiet,
    format,
    count: {
      short: 'c',
      newer: ['count'],
      argument: 'COUNT',
      help: 'Requests; 75000 by default.',
      parse: integer('request count'),
    },
    depth: {
      short: 'd',
      newer: ['depth'],
      argument: 'DEPTH',
      help: 'Requests at a time; 64 by default.',
      parse: integer('queue depth'),
    },
    flushInterval: {
      long: 'flush-interval',
      argument: 'COUNT',
      help: 'With -w: flush after so many requests.',
      parse: integer('flush interval'),
    },
    noDrain: { long: 'no-drain', help: 'With --flush-interval: do not wait for requests before a flush.' },
    aio: {
      short: 'i',
      newer: ['aio'],
      argument: 'AIO',
      help: 'How the system is asked: threads, native or io_uring. Taken and without effect: requests go through a pool of threads.',
      parse(text: string): string {
        if (!['threads', 'native', 'io_uring'].includes(text)) throw new Failure(`Invalid aio option: ${text}`)
        return text
      },
    },
    native: { short: 'n', newer: ['native'], help: 'As -i native.' },
    offset: {
      short: 'o',
      newer: ['offset'],
      argument: 'OFFSET',
      help: 'Where the first request begins.',
      parse: size('offset'),
    },
    pattern: {
      long: 'pattern',
      argument: 'BYTE',
      help: 'With -w: the byte that is written.',
      parse(text: string): number {
        const byte = readInteger(text)
        if (byte === undefined || byte < 0 || byte > 255) throw new Failure('Invalid pattern byte specified')
        return byte
      },
    },
    bufferSize: {
      short: 's',
      newer: ['buffer-size'],
      argument: 'SIZE',
      help: 'Bytes of a request; 4096 by default.',
      parse: size('buffer size', BigInt(largest)),
    },
    step: {
      short: 'S',
      newer: ['step-size'],
      argument: 'SIZE',
      help: 'Bytes from one request to the next; the size of a request by default.',
      parse: size('step_size', BigInt(largest)),
    },
    cache: {
      short: 't',
      newer: ['cache'],
      argument: 'CACHE',
      help: 'Cache mode: none, writeback (the default), writethrough, directsync or unsafe.',
      parse: cacheOf,
    },
    write: { short: 'w', newer: ['write'], help: 'Write, instead of reading. The content of the image is lost.' },
    dryRun: { ...rehearsal.dryRun, help: 'With -w: only tell what would be written, and what would be lost.' },
    output: { ...outputFormat, extension: true },
  },
  async run(values, operands, context) {
    const cache = values.cache ?? 'writeback'
    const [filename] = operands
    if (filename === undefined || operands.length > 1) throw usageFailure('Expecting one image file name')
    const { write, flushInterval = 0, depth = 64 } = values
    if (!write && flushInterval > 0) throw new Failure('--flush-interval is only available in write tests')
    if (flushInterval > 0 && flushInterval < depth) throw new Failure("Flush interval can't be smaller than depth")
    if ((values.native || values.aio === 'native') && cache !== 'none' && cache !== 'directsync') {
      throw new Failure(
        `Could not open '${filename}': aio=native was specified, but it requires cache.direct=on, which was not specified.`,
      )
    }
    const { format, forceShare, imageOpts: opts } = values
    const json = wantsJson(values.output)
    if (values.dryRun && !write) throw usageFailure('--dry-run goes with -w: what only reads changes nothing')
    const disk =
      write && !values.dryRun
        ? await openForWriting(context, filename, { use: 'write', format, forceShare, imageOpts: opts, cache })
        : await openImage(context, filename, { use: 'read', format, forceShare, imageOpts: opts, cache })
    return await closing(disk, async () => {
      const bytes = values.bufferSize ?? 4096
      const plan: Plan = {
        count: values.count ?? 75_000,
        depth,
        bytes,
        offset: values.offset ?? 0,
        step: values.step === undefined || values.step === 0 ? bytes : values.step,
        flushInterval,
        drains: !values.noDrain,
        write,
        pattern: values.pattern ?? 0,
      }
      if (values.dryRun) {
        const { printPlan } = await import('../dry-run.ts')
        printPlan(context, writePlanOf(filename, context.persona.nameOf(disk.format), disk.size, plan), json)
        return 0
      }
      if (json) {
        const seconds = await runRequests(context, disk, plan)
        context.out.write(
          `${JSON.stringify(reportOf(filename, context.persona.nameOf(disk.format), plan, seconds), undefined, 4)}\n`,
        )
        return 0
      }
      context.out.write(
        `Sending ${plan.count} ${write ? 'write' : 'read'} requests, ${bytes} bytes each, ${depth} in parallel ` +
          `(starting at offset ${plan.offset}, step size ${plan.step})\n`,
      )
      if (flushInterval > 0) {
        context.out.write(`Sending flush every ${flushInterval} requests\n`)
      }
      context.out.flush()
      const seconds = await runRequests(context, disk, plan)
      context.out.write(`Run completed in ${seconds.toFixed(3)} seconds.\n`)
      return 0
    })
  },
})

function integer(what: string) {
  return (text: string): number => {
    const value = readInteger(text)
    if (value !== undefined && value >= 0 && value <= largest) return value
    throw new Failure(`Invalid ${what} specified`)
  }
}

function size(what: string, most?: bigint) {
  return (text: string, warn: Warn): number => Number(readSize(what, text, warn, { most }))
}

function cacheOf(text: string) {
  try {
    return readCacheMode('cache', text)
  } catch {
    throw new Failure('Invalid cache mode')
  }
}

/** What is sent. Sizes in bytes. */
interface Plan {
  count: number
  depth: number
  bytes: number
  offset: number
  step: number
  /** Requests between two flushes; 0: none. */
  flushInterval: number
  /** Whether a flush waits for what was sent before it. */
  drains: boolean
  write: boolean
  pattern: number
}

function reportOf(filename: string, format: string, plan: Plan, seconds: number) {
  return {
    filename,
    format,
    operation: plan.write ? 'write' : 'read',
    requests: plan.count,
    depth: plan.depth,
    'buffer-size': plan.bytes,
    offset: plan.offset,
    'step-size': plan.step,
    'flush-interval': plan.flushInterval === 0 ? undefined : plan.flushInterval,
    seconds: Number(seconds.toFixed(6)),
    'requests-per-second': seconds > 0 ? Math.round(plan.count / seconds) : undefined,
    'bytes-per-second': seconds > 0 ? Math.round((plan.count * plan.bytes) / seconds) : undefined,
  }
}

function writePlanOf(target: string, format: string, size: number, plan: Plan): WritePlan {
  const { count, bytes, offset, step, pattern } = plan
  const end = offset + (count - 1) * step + bytes
  const range =
    end <= size ? `from byte ${offset} on, up to ${end}` : `from byte ${offset} on, and around the end of the disk`
  return {
    operation: 'bench -w',
    target,
    format,
    'virtual-size': size,
    writes:
      count === 0
        ? []
        : [`${count} requests of ${bytes} bytes 0x${pattern.toString(16)}, one every ${step} bytes, ${range}`],
    lost: count === 0 ? [] : [`what lies there: up to ${Math.min(size, count * bytes)} bytes`],
  }
}

/** Sends all requests; the seconds it took. */
async function runRequests(context: Context, disk: Disk, plan: Plan): Promise<number> {
  if (plan.depth === 0) throw new Failure('Invalid queue depth specified')
  const begun = performance.now()
  const stretch = plan.flushInterval > 0 ? plan.flushInterval : plan.count
  let offset = plan.offset
  const flushes: Promise<void>[] = []
  const lanes = new Lanes(context, disk, plan)
  for (let done = 0; done < plan.count; done += stretch) {
    const many = Math.min(stretch, plan.count - done)
    offset = await lanes.send(many, offset)
    if (plan.flushInterval === 0 || !isWritable(disk) || many < stretch) continue
    const flush = disk.flush()
    if (plan.drains) await flush
    else {
      flush.catch(() => {}) // Waited for below; a request may fail before.
      flushes.push(flush)
    }
  }
  await Promise.all(flushes)
  return (performance.now() - begun) / 1000
}

/** Requests of which a fixed number is under way, each with a buffer of its own. */
class Lanes {
  readonly #context: Context
  readonly #disk: Disk
  readonly #plan: Plan
  readonly #buffers: Uint8Array[] = []

  constructor(context: Context, disk: Disk, plan: Plan) {
    this.#context = context
    this.#disk = disk
    this.#plan = plan
  }

  /** Sends `count` requests from `offset` on, around the end of the disk. Returns where the next one goes. */
  async send(count: number, offset: number): Promise<number> {
    const { step, depth, bytes, pattern } = this.#plan
    let next = offset
    let left = count
    const lane = async (index: number): Promise<void> => {
      const buffer = this.#buffers[index] ?? new Uint8Array(bytes).fill(pattern)
      this.#buffers[index] = buffer
      while (left > 0) {
        left--
        const at = next
        next += step
        if (this.#disk.size > 0) next %= this.#disk.size
        await this.#one(at, buffer)
      }
    }
    await Promise.all(Array.from({ length: Math.min(depth, count) }, (_, index) => lane(index)))
    return next
  }

  async #one(offset: number, buffer: Uint8Array): Promise<void> {
    const { signal, persona } = this.#context
    throwIfCancelled(signal, this.#disk.name)
    try {
      if (this.#plan.write) await (this.#disk as WritableDisk).write(offset, buffer)
      else await this.#disk.read(offset, buffer)
    } catch (error) {
      if (!isMoraineError(error) || error.kind === 'cancelled') throw error
      // QEMU says the words of the code, which is that of any error unless the host had another.
      const told = error.kind === 'io' && error.code !== undefined && error.code !== 'EIO'
      const reason = told ? error.reason : 'Input/output error'
      throw new Failure(`Failed request: ${persona.details ? explain(error, persona) : reason}`)
    }
  }
}
