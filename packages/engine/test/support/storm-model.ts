/** What a disk may hold when many requests were under way at once: of requests that do not overlap exactly what they ask, of those that do what any of them leaves. */
import { type Disk, isMoraineError, type WritableDisk } from '@moraine/engine'
import type { Random } from './random.ts'

/** One request of a burst. */
export interface Request {
  what: 'write' | 'zero' | 'discard' | 'read' | 'extents' | 'flush' | 'snapshot'
  from: number
  to: number
  /** What a write brings, what a read has brought. */
  bytes?: Uint8Array
  state: 'under way' | 'done' | 'failed'
  error?: unknown
  /** Name of a snapshot. */
  name?: string
}

/** A stretch of the guest's disk that is looked at. */
export interface Stretch {
  at: number
  bytes: Uint8Array
}

/** A disk whose requests come in bursts. */
export class StormModel {
  readonly stretches: Stretch[]
  readonly snapshots = new Map<string, Stretch[]>()

  constructor(stretches: Stretch[]) {
    this.stretches = stretches
  }

  /** Starts a request; its promise never rejects. */
  start(disk: WritableDisk, request: Request, random: Random): Promise<void> {
    return run(disk, request, random).then(
      () => {
        request.state = 'done'
      },
      (error) => {
        request.state = 'failed'
        request.error = error
      },
    )
  }

  /** Looks at what came of a burst: errors, what was read; then all of the disk, which is taken over. */
  async settle(disk: Disk, burst: readonly Request[], mayFail: boolean): Promise<void> {
    for (const { what, from, to, state, error } of burst) {
      if (state === 'under way') throw new Error(`${what} [${from}, ${to}) has not come back`)
      if (state === 'done') continue
      if (!isMoraineError(error) || !mayFail) throw error
      if (error.kind !== 'io') throw error
    }
    for (const request of burst) {
      if (request.what !== 'read' || request.state === 'failed' || request.bytes === undefined) continue
      const { bytes, from } = request
      const old = this.#old(from, request.to)
      explain(`read at ${from}`, from, bytes, old, burst, true)
    }
    for (const { name } of burst) {
      if (name === undefined || !disk.info().snapshots.some((one) => one.name === name)) continue
      const snapshot = await disk.openSnapshot?.(name)
      if (snapshot === undefined) throw new Error('snapshots cannot be opened')
      const held = this.stretches.map(({ at, bytes }) => ({ at, bytes: new Uint8Array(bytes.length) }))
      for (const [i, { at, bytes }] of held.entries()) {
        await snapshot.read(at, bytes)
        explain(`snapshot ${name}`, at, bytes, this.stretches[i]?.bytes ?? bytes, burst, true)
      }
      this.snapshots.set(name, held)
    }
    for (const stretch of this.stretches) {
      const now = new Uint8Array(stretch.bytes.length).fill(0xee)
      await disk.read(stretch.at, now)
      explain('the disk', stretch.at, now, stretch.bytes, burst, false)
      stretch.bytes = now
    }
  }

  /** Compares the disk and its snapshots with what they were. */
  async compare(disk: Disk): Promise<void> {
    await compare('the disk', disk, this.stretches)
    for (const [name, held] of this.snapshots) {
      const snapshot = await disk.openSnapshot?.(name)
      if (snapshot === undefined) throw new Error(`there is no snapshot ${name}`)
      await compare(`snapshot ${name}`, snapshot, held)
    }
  }

  #old(from: number, to: number): Uint8Array {
    const stretch = this.stretches.find(({ at, bytes }) => at <= from && at + bytes.length >= to)
    if (stretch === undefined) throw new Error(`nobody looks at [${from}, ${to})`)
    return stretch.bytes.subarray(from - stretch.at, to - stretch.at)
  }
}

async function run(disk: WritableDisk, request: Request, random: Random): Promise<void> {
  const { what, from, to } = request
  const length = to - from
  switch (what) {
    case 'write':
      request.bytes = random.bytes(length)
      return disk.write(from, request.bytes)
    case 'zero':
      return disk.zero(from, length, random.bool() ? 'unmap' : 'allocate')
    case 'discard':
      return disk.discard(from, length)
    case 'read':
      request.bytes = new Uint8Array(length).fill(0xee)
      return disk.read(from, request.bytes)
    case 'flush':
      return disk.flush()
    case 'snapshot':
      return disk.snapshots?.create(request.name ?? '')
    case 'extents': {
      let at = from
      for await (const batch of disk.extents(from, length)) {
        for (const extent of batch) {
          if (extent.offset !== at || extent.length <= 0)
            throw new Error(`an extent begins at ${extent.offset}, not ${at}`)
          at += extent.length
        }
      }
      if (at !== to) throw new Error(`extents end at ${at}, not ${to}`)
      return
    }
  }
}

/** Throws where a byte is neither what it was nor what a request made it. `during`: it was looked at while the burst was under way. */
function explain(
  what: string,
  at: number,
  now: Uint8Array,
  old: Uint8Array,
  burst: readonly Request[],
  during: boolean,
): void {
  const end = at + now.length
  const over = burst.filter(
    (one) => (one.what === 'write' || one.what === 'zero' || one.what === 'discard') && one.from < end && one.to > at,
  )
  // Where nothing overlaps, whole stretches are compared.
  const edges = [...new Set([at, end, ...over.flatMap(({ from, to }) => [Math.max(at, from), Math.min(end, to)])])]
  edges.sort((a, b) => a - b)
  for (let i = 0; i + 1 < edges.length; i++) {
    const [from, to] = [edges[i] as number, edges[i + 1] as number]
    const here = over.filter((one) => one.from < to && one.to > from)
    const candidates: { name: string; bytes: Uint8Array }[] = []
    const mayStay = during || here.every((one) => one.state !== 'done' || one.what === 'discard')
    if (mayStay) candidates.push({ name: 'old', bytes: old.subarray(from - at, to - at) })
    for (const one of here) {
      const bytes =
        one.what === 'write' && one.bytes !== undefined
          ? one.bytes.subarray(from - one.from, to - one.from)
          : new Uint8Array(to - from)
      candidates.push({ name: one.what, bytes })
    }
    const part = now.subarray(from - at, to - at)
    if (candidates.some(({ bytes }) => Buffer.compare(bytes, part) === 0)) continue
    for (let k = 0; k < part.length; k++) {
      if (candidates.some(({ bytes }) => bytes[k] === part[k])) continue
      const words = here.map((one) => `${one.what} [${one.from}, ${one.to}) ${one.state}`).join(', ')
      const isOld = old[from - at + k] === part[k] ? 'what it was before' : `${part[k]}`
      throw new Error(
        `${what}: byte ${from + k} (${k} into [${from}, ${to})) is ${isOld}; requests there: ${words || 'none'}`,
      )
    }
  }
}

async function compare(what: string, disk: Disk, stretches: readonly Stretch[]): Promise<void> {
  for (const { at, bytes } of stretches) {
    const now = new Uint8Array(bytes.length).fill(0xee)
    await disk.read(at, now)
    if (Buffer.compare(now, bytes) === 0) continue
    const first = now.findIndex((byte, i) => byte !== bytes[i])
    throw new Error(`${what} differs at byte ${at + first}: ${now[first]}, not ${bytes[first]}`)
  }
}
