/** Storms: random requests to a disk, many at once, over a host that is slow, out of order and sometimes broken; then everything is looked at. One seed tells all of it. */
import {
  allFormats,
  type ByteStore,
  checkImage,
  createImage,
  type Disk,
  type Gate,
  isMoraineError,
  isWritable,
  MemoryStore,
  type OpenOptions,
  openDisk,
  type WritableDisk,
} from '@moraine/engine'
import { nodeCodecs, nodeCrypto } from '@moraine/engine/node'
import { closing, formatOf, optionsOf } from './disk.ts'
import { memoryHost } from './journal-host.ts'
import type { MemoryHost } from './memory-host.ts'
import { Random } from './random.ts'
import { type Request, StormModel } from './storm-model.ts'
import { Storm, StormStore } from './storm-store.ts'

/** A kind of image that is stormed. */
export interface StormKind {
  name: string
  format: string
  /** As for `-o`. */
  options?: string
  /** Bytes. */
  size: number
  /** Where requests go, when it is not all of the disk: `count` stretches of `length` bytes, one each `stride`: so that more tables are asked for than are kept. */
  spread?: { count: number; stride: number; length: number }
  parent?: { format: string; options?: string; size?: number }
  encrypted?: true
  /** It has internal snapshots. */
  snapshots?: true
  /** It can grow. */
  grows?: true
  /** Findings of a check that cost nothing and are no fault of a storm. */
  harmless?: RegExp
  /** What a failed call may leave besides. */
  afterFaults?: RegExp
  /** QEMU's name, where it reads such images. */
  qemu?: string
}

/** What came of a storm. */
export interface StormResult {
  files: MemoryHost<MemoryStore>
  model: StormModel
  /** Bytes of the guest's disk. */
  size: number
  calls: number
  struck: number
}

const secrets = new Map([['s', new TextEncoder().encode('storm')]])
const sector = 512

/** The files of one storm. */
class StormFolder {
  readonly files = memoryHost()
  readonly storm: Storm
  readonly #kind: StormKind
  readonly #gate: Gate

  constructor(kind: StormKind, storm: Storm) {
    this.#kind = kind
    this.storm = storm
    this.#gate = {
      resolve: (request) => this.files.gate.resolve(request),
      open: async ({ name }) => new StormStore(this.files.file(name.slice(name.lastIndexOf('/') + 1)), storm),
    }
  }

  get name(): string {
    return `top.${this.#kind.format}`
  }

  async create(random: Random): Promise<Uint8Array | undefined> {
    const { format, options = '', size, parent, encrypted } = this.#kind
    let below: Uint8Array | undefined
    if (parent !== undefined) {
      const name = `base.${parent.format}`
      below = random.bytes(parent.size ?? size)
      await this.files.create({ name, format: parent.format, options: parent.options, size: below.length })
      await closing(await this.files.openForWriting(name, parent.format), (disk) => disk.write(0, below as Uint8Array))
    }
    if (encrypted === undefined) {
      const under = parent === undefined ? undefined : { name: `base.${parent.format}`, format: parent.format }
      await this.files.create({ name: this.name, format, options, size, parent: under })
    } else {
      const store = new MemoryStore({ name: this.name })
      this.files.files.set(this.name, store)
      const sibling = (): Promise<ByteStore> => Promise.reject(new Error('no second file'))
      await createImage({ store, sibling, crypto: nodeCrypto, secrets }, formatOf(format), {
        size: BigInt(size),
        options: optionsOf(format, options),
      })
    }
    return below
  }

  async open(mode: 'read' | 'write', purpose?: OpenOptions['purpose']): Promise<Disk> {
    const { format, encrypted } = this.#kind
    return openDisk(new StormStore(this.files.file(this.name), this.storm), {
      formats: allFormats,
      format,
      mode,
      purpose,
      gate: this.#gate,
      codecs: nodeCodecs,
      crypto: nodeCrypto,
      secrets,
      encryption: encrypted && { keySecret: 's' },
      // As little as each cache goes down to.
      limits: { cacheBytes: 1 },
    })
  }

  async openForWriting(): Promise<WritableDisk> {
    const disk = await this.open('write')
    if (!isWritable(disk)) throw new Error('a disk opened for writing cannot be written')
    return disk
  }

  async check(): Promise<string[]> {
    const format = formatOf(this.#kind.format)
    if (format.check === undefined) return []
    const lines: string[] = []
    const result = await closing(await this.open('read', 'check'), (disk) =>
      checkImage(format, disk, { repair: 'none', thorough: true, report: (line) => lines.push(line) }),
    )
    const found = result.corruptions + result.leaks + result.checkErrors
    return found > 0 && lines.length === 0 ? [JSON.stringify(result)] : lines
  }
}

/** Storms one image. `kind` and `seed` tell all.
 *  @throws Error for whatever is not as it must be. */
export async function rage(kind: StormKind, seed: number): Promise<StormResult> {
  const random = new Random(seed)
  const storm = new Storm(random)
  const folder = new StormFolder(kind, storm)
  const below = await folder.create(random)
  storm.calm = true
  storm.mixes = kind.encrypted === true
  let disk = await folder.openForWriting()
  const model = new StormModel(stretchesOf(kind, disk.size, below))
  // What nobody has written is noise in some encrypted images.
  if (disk.noise === 'everywhere') for (const { at, bytes } of model.stretches) await disk.read(at, bytes)
  if (random.bool()) await packSome(disk, model, random)
  const breaks = random.bool(0.4)
  const overlaps = random.bool(0.25)
  for (let session = 0; session < 2; session++) {
    for (let round = random.int(1, 4); round > 0; round--) {
      storm.calm = false
      storm.strict = !overlaps
      storm.faultRate = breaks && random.bool(0.7) ? random.pick([0.002, 0.01, 0.05]) : 0
      const burst = plan(kind, model, random, overlaps)
      await play(disk, model, burst, random)
      storm.calm = true
      await flushCalmly(disk, breaks)
      await model.settle(disk, burst, breaks)
      expectNoFaults(storm)
      await between(kind, disk, model, random)
      expectNoFaults(storm)
    }
    storm.strict = false
    if (random.bool(0.4)) {
      storm.calm = false
      storm.faultRate = 0
      const burst = plan(kind, model, random, overlaps).filter(({ what }) => what !== 'snapshot')
      const running = burst.map((request) => model.start(disk, request, random))
      await disk.close()
      await Promise.all(running)
      storm.calm = true
      disk = await folder.openForWriting()
      await named('what was asked beside the closing', model.settle(disk, burst, true))
      await disk.close()
    } else await disk.close()
    const mild = storm.struck > 0 ? kind.afterFaults : undefined
    const lines = (await folder.check()).filter((line) => !kind.harmless?.test(line) && !mild?.test(line))
    if (lines.length > 0) throw new Error(`check: ${lines.slice(0, 5).join('; ')} (${lines.length})`)
    disk = await folder.openForWriting()
    await model.compare(disk)
  }
  const { size } = disk
  await disk.close()
  return { files: folder.files, model, size, calls: storm.calls, struck: storm.struck }
}

/** Says of an error where it was found. */
async function named(where: string, work: Promise<void>): Promise<void> {
  try {
    await work
  } catch (error) {
    throw new Error(`${where}: ${(error as Error).message}`, { cause: error })
  }
}

/** A failed flush is done again, and then must work. */
async function flushCalmly(disk: WritableDisk, mayFail: boolean): Promise<void> {
  try {
    await disk.flush()
  } catch (error) {
    if (!mayFail || !isMoraineError(error, 'io')) throw error
    await disk.flush()
  }
}

function expectNoFaults({ faults }: Storm): void {
  if (faults.length > 0) throw new Error(`${faults.length} faults; first: ${faults[0]}`)
}

function stretchesOf({ spread }: StormKind, size: number, below: Uint8Array | undefined): StormModel['stretches'] {
  const { count, stride, length } = spread ?? { count: 1, stride: size, length: size }
  return Array.from({ length: count }, (_, i) => {
    const at = i * stride
    const bytes = new Uint8Array(Math.min(length, size - at))
    if (below !== undefined) bytes.set(below.subarray(at, at + bytes.length))
    return { at, bytes }
  })
}

/** Packs units here and there, where the format has such and they have no place yet: requests replace them. */
async function packSome(disk: WritableDisk, model: StormModel, random: Random): Promise<void> {
  const { packedUnit: unit, packedCodec: codec } = disk
  if (unit === undefined || codec === undefined || disk.compression === 'always') return
  for (let count = random.int(1, 40); count > 0; count--) {
    const { at, bytes } = random.pick(model.stretches)
    const skip = random.int(0, Math.floor(bytes.length / unit) - 1) * unit
    const content = new Uint8Array(unit).fill(random.int(1, 255), random.int(0, unit / 2))
    const packed = nodeCodecs[codec]?.pack?.(content, unit)
    if (packed === undefined) continue
    try {
      await disk.writePacked?.(at + skip, packed)
      bytes.set(content, skip)
    } catch (error) {
      // It has a place.
      if (!isMoraineError(error, 'invalid')) throw error
    }
  }
}

/** Starts all requests, a few turns apart at most, and waits for all. */
async function play(disk: WritableDisk, model: StormModel, burst: readonly Request[], random: Random): Promise<void> {
  const running: Promise<void>[] = []
  for (const request of burst) {
    running.push(model.start(disk, request, random))
    for (let turns = random.pick([0, 0, 0, 1, 3, 10]); turns > 0; turns--) {
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  const late = setTimeout(() => {}, 20_000)
  await Promise.race([
    Promise.all(running),
    new Promise((_, reject) => {
      late.refresh()
      setTimeout(
        () => reject(new Error(`hangs: ${burst.filter(({ state }) => state === 'under way').length}`)),
        20_000,
      ).unref()
    }),
  ])
  clearTimeout(late)
}

/** Requests of one burst. */
function plan(kind: StormKind, model: StormModel, random: Random, overlaps: boolean): Request[] {
  const burst: Request[] = []
  const count = random.int(2, 60)
  const few = random.bool(0.3) ? random.int(1, 4) : model.stretches.length
  const longest = random.pick([512, 4096, 70_000, 300_000])
  const weights = random.pick([
    ['write', 'write', 'write', 'read', 'zero', 'discard', 'flush', 'extents'],
    ['write', 'write', 'write', 'read'],
    ['write', 'zero', 'discard', 'flush'],
  ] as const)
  for (let i = 0; i < count; i++) {
    let what: Request['what'] = random.pick(weights)
    if (kind.snapshots && model.snapshots.size + burst.filter(({ name }) => name).length < 4 && random.bool(0.05)) {
      what = 'snapshot'
    }
    if (what === 'flush') burst.push({ what, from: 0, to: 0, state: 'under way' })
    else if (what === 'snapshot') {
      burst.push({ what, from: 0, to: 0, state: 'under way', name: `s${random.int(0, 1e9)}` })
    } else {
      const stretch = model.stretches[random.int(0, few - 1) % model.stretches.length]
      // Who overlaps shares whole sectors: the rest of a sector may be read to be written.
      const range = rangeOf(stretch, burst, random, { longest, whole: overlaps })
      if (range === undefined) continue
      const isFree = burst.every(({ from, to }) => from >= range.to || to <= range.from)
      if (isFree || overlaps) burst.push({ what, ...range, state: 'under way' })
    }
  }
  return burst
}

/** A range of a stretch, often beside another request. */
function rangeOf(
  stretch: StormModel['stretches'][number] | undefined,
  burst: readonly Request[],
  random: Random,
  { longest, whole }: { longest: number; whole: boolean },
): { from: number; to: number } | undefined {
  if (stretch === undefined || stretch.bytes.length === 0) return undefined
  const { at, bytes } = stretch
  const unit = whole || random.bool(0.8) ? sector : 1
  let from = at + Math.floor(random.int(0, bytes.length - 1) / unit) * unit
  if (random.bool(0.5)) {
    const beside = burst.filter((one) => one.to > at && one.to < at + bytes.length)
    if (beside.length > 0) from = random.pick(beside).to
  }
  const length = Math.ceil(random.int(1, longest) / unit) * unit
  return { from, to: Math.min(at + bytes.length, from + length) }
}

/** What is done between bursts: growing, snapshots applied and deleted, closing nothing. */
async function between(kind: StormKind, disk: WritableDisk, model: StormModel, random: Random): Promise<void> {
  if (kind.grows && random.bool(0.15)) {
    const before = disk.size
    await disk.resize(before + sector * random.int(1, 2000))
    const first = model.stretches[0]
    if (kind.spread === undefined && first !== undefined) {
      const grown = new Uint8Array(disk.size)
      grown.set(first.bytes)
      first.bytes = grown
    } else model.stretches.push({ at: before, bytes: new Uint8Array(Math.min(disk.size - before, 65_536)) })
    await model.compare(disk)
  }
  const names = [...model.snapshots.keys()]
  if (names.length === 0 || !random.bool(0.4)) return
  const name = random.pick(names)
  const held = model.snapshots.get(name) ?? []
  const sameSize =
    held.reduce((sum, { bytes }) => sum + bytes.length, 0) ===
    model.stretches.reduce((sum, { bytes }) => sum + bytes.length, 0)
  if (sameSize && random.bool()) {
    await disk.snapshots?.apply(name)
    for (const [i, stretch] of model.stretches.entries()) stretch.bytes = (held[i]?.bytes ?? stretch.bytes).slice()
  } else {
    await disk.snapshots?.delete(name)
    model.snapshots.delete(name)
  }
  await model.compare(disk)
}
