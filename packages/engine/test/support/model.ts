/** A disk as a model: the guest's bytes in an array, changed beside the image, compared with it whenever wanted. */
import { isWritable, MoraineError, type WritableDisk } from '@moraine/engine'
import { nodeCodecs } from '@moraine/engine/node'
import { Random } from './random.ts'

/** One step. Positions and lengths are taken modulo the disk's size, so that any numbers do. */
export type Step =
  | { do: 'write'; at: number; length: number; seed: number }
  | { do: 'zero'; at: number; length: number; mode: 'unmap' | 'allocate' }
  | { do: 'discard'; at: number; length: number }
  | { do: 'pack'; at: number; value: number }
  | { do: 'several'; at: number; seed: number }
  | { do: 'flush' }
  | { do: 'reopen' }
  | { do: 'snapshot' }
  | { do: 'apply'; which: number }
  | { do: 'delete'; which: number }
  | { do: 'resize'; clusters: number; tail: number }

/** Longest piece of one step, in bytes. */
const longest = 300_000

/** What a step may be refused for, as the format itself has these bounds. */
const bounds: { kind: string; words: RegExp }[] = [
  { kind: 'unsupported', words: /v2 image which has snapshots|version 2 image|Failed to zero out new clusters/ },
  // A narrow count cannot hold what snapshots share.
  { kind: 'limit', words: /reference count of cluster \d+ leaves its range .* \+ 1; rule: 0 to (1|3|15)\)/ },
]

/** Random changes of content, with a flush now and then. `more`: further kinds of steps, each as often as a flush. */
export function churn(random: Random, count: number, size: number, more: readonly ('discard' | 'pack')[] = []): Step[] {
  return Array.from({ length: count }, (): Step => {
    const at = random.int(0, size - 1)
    const length = random.int(0, 50_000)
    switch (random.pick(['write', 'write', 'write', 'zero', 'zero', 'several', 'flush', ...more] as const)) {
      case 'write':
        return { do: 'write', at, length, seed: random.int(0, 1e9) }
      case 'zero':
        return { do: 'zero', at, length, mode: random.bool() ? 'unmap' : 'allocate' }
      case 'several':
        return { do: 'several', at, seed: random.int(0, 1e9) }
      case 'discard':
        return { do: 'discard', at, length }
      case 'pack':
        return { do: 'pack', at, value: random.int(0, 254) }
      default:
        return { do: 'flush' }
    }
  })
}

/** The model beside an open disk. */
export class DiskModel {
  disk: WritableDisk
  bytes: Uint8Array
  readonly snapshots: { id: string; bytes: Uint8Array }[] = []
  /** Steps that the format refused. */
  refused = 0
  private readonly open: () => Promise<WritableDisk>

  /** `open` opens the image again; `bytes` is what it holds at the start. */
  constructor(disk: WritableDisk, bytes: Uint8Array, open: () => Promise<WritableDisk>) {
    this.disk = disk
    this.bytes = bytes
    this.open = open
  }

  /** Does one step on both. */
  async step(step: Step): Promise<void> {
    try {
      await this.try(step)
    } catch (error) {
      const { kind, message } = error as MoraineError
      const known = bounds.some((bound) => bound.kind === kind && bound.words.test(message))
      if (!(error instanceof MoraineError) || !known) throw error
      this.refused++
    }
  }

  private async try(step: Step): Promise<void> {
    const { disk } = this
    const size = this.bytes.length
    if ('at' in step && size === 0) return
    switch (step.do) {
      case 'write': {
        const { at, length } = this.range(step)
        const bytes = new Random(step.seed).bytes(length)
        await disk.write(at, bytes)
        this.bytes.set(bytes, at)
        return
      }
      case 'zero': {
        const { at, length } = this.range(step)
        await disk.zero(at, length, step.mode)
        this.bytes.fill(0, at, at + length)
        return
      }
      case 'discard': {
        const { at, length } = this.range(step)
        await disk.discard(at, length)
        await this.discarded(at, length)
        return
      }
      case 'pack':
        return this.pack(step.at, step.value)
      case 'several':
        return this.several(step.at, step.seed)
      case 'flush':
        return disk.flush()
      case 'reopen':
        await disk.close()
        this.disk = await this.open()
        return
      case 'snapshot':
        if (disk.snapshots === undefined || this.snapshots.length >= 4) return
        await disk.snapshots.create(`s${this.snapshots.length}`)
        this.snapshots.push({ id: disk.info().snapshots.at(-1)?.id ?? '', bytes: this.bytes.slice() })
        return
      case 'apply': {
        const snapshot = this.snapshots[step.which % Math.max(1, this.snapshots.length)]
        if (snapshot === undefined) return
        await disk.snapshots?.apply(snapshot.id)
        this.bytes = snapshot.bytes.slice()
        return
      }
      case 'delete': {
        const which = step.which % Math.max(1, this.snapshots.length)
        const snapshot = this.snapshots[which]
        if (snapshot === undefined) return
        await disk.snapshots?.delete(snapshot.id)
        this.snapshots.splice(which, 1)
        return
      }
      case 'resize': {
        const next = Math.min((step.clusters % 40) * 4096 * 5 + (step.tail % 8) * 512, 2 << 20)
        await disk.resize(next, 'off', true)
        const bytes = new Uint8Array(next)
        bytes.set(this.bytes.subarray(0, next))
        this.bytes = bytes
        return
      }
    }
  }

  private range(step: { at: number; length: number }): { at: number; length: number } {
    const size = this.bytes.length
    const at = step.at % size
    return { at, length: Math.min(1 + (step.length % longest), size - at) }
  }

  /** What was discarded reads as zeros or as before. */
  private async discarded(at: number, length: number): Promise<void> {
    const now = new Uint8Array(length)
    await this.disk.read(at, now)
    for (let i = 0; i < length; i++) {
      if (now[i] !== 0 && now[i] !== this.bytes[at + i])
        throw new Error(`discarded byte ${at + i} is neither 0 nor what it was`)
    }
    this.bytes.set(now, at)
  }

  /** Packs one cluster, where the image can and the cluster is free. */
  private async pack(where: number, value: number): Promise<void> {
    const { disk } = this
    const unit = disk.packedUnit
    if (unit === undefined || disk.writePacked === undefined) return
    const at = Math.floor((where % this.bytes.length) / unit) * unit
    for await (const batch of disk.extents(at, Math.min(unit, this.bytes.length - at))) {
      if (batch.some((extent) => extent.depth === 0 && (extent.data || extent.host !== undefined))) return
    }
    // Past the disk's end there are zeros, as QEMU pads them: the disk may grow.
    const bytes = new Uint8Array(unit).fill(value, 0, this.bytes.length - at)
    if (value % unit < this.bytes.length - at) bytes[value % unit] = value + 1
    const zstd = disk.info().details?.data['compression-type'] === 'zstd'
    const packed = nodeCodecs[zstd ? 'zstd' : 'deflate']?.pack?.(bytes, unit)
    if (packed === undefined) return
    try {
      await disk.writePacked(at, packed)
    } catch (error) {
      // A zero cluster that keeps its place is allocated, though it holds no data.
      if (error instanceof MoraineError && error.kind === 'invalid') return
      throw error
    }
    this.bytes.set(bytes.subarray(0, Math.min(unit, this.bytes.length - at)), at)
  }

  /** Several writes, zeros and reads at once, none over another. */
  private async several(at: number, seed: number): Promise<void> {
    const random = new Random(seed)
    const jobs: Promise<void>[] = []
    let offset = at % this.bytes.length
    for (let i = 0; i < 8 && offset < this.bytes.length; i++) {
      const length = Math.min(random.int(1, 60_000), this.bytes.length - offset)
      const start = offset
      if (random.bool(0.7)) {
        const bytes = random.bytes(length)
        jobs.push(this.disk.write(start, bytes))
        this.bytes.set(bytes, start)
      } else {
        jobs.push(this.disk.zero(start, length, random.bool() ? 'unmap' : 'allocate'))
        this.bytes.fill(0, start, start + length)
      }
      offset += length + random.int(0, 3000)
    }
    const results = await Promise.allSettled(jobs)
    for (const result of results) if (result.status === 'rejected') throw result.reason
  }

  /** Compares every byte, in several reads. */
  async compare(): Promise<void> {
    if (this.disk.size !== this.bytes.length)
      throw new Error(`the disk has ${this.disk.size} bytes, not ${this.bytes.length}`)
    await same(this.disk, this.bytes, 'the disk')
  }

  /** Compares the snapshots too. */
  async compareSnapshots(): Promise<void> {
    for (const { id, bytes } of this.snapshots) {
      const snapshot = await this.disk.openSnapshot?.(id)
      if (snapshot === undefined) throw new Error('snapshots cannot be opened')
      if (isWritable(snapshot)) throw new Error('a snapshot can be written')
      await same(snapshot, bytes, `snapshot ${id}`)
    }
  }
}

async function same(
  disk: { size: number; read(at: number, into: Uint8Array): Promise<void> },
  bytes: Uint8Array,
  what: string,
): Promise<void> {
  if (disk.size !== bytes.length) throw new Error(`${what} has ${disk.size} bytes, not ${bytes.length}`)
  const part = new Uint8Array(100_000)
  for (let at = 0; at < bytes.length; at += part.length) {
    const now = part.subarray(0, Math.min(part.length, bytes.length - at))
    now.fill(0xee)
    await disk.read(at, now)
    const wanted = bytes.subarray(at, at + now.length)
    if (Buffer.compare(now, wanted) === 0) continue
    const first = now.findIndex((byte, i) => byte !== wanted[i])
    throw new Error(`${what} differs at byte ${at + first}: ${now[first]}, not ${wanted[first]}`)
  }
}
