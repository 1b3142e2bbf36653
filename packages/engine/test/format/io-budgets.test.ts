/** What each format asks of its files while it is used: requests and bytes, counted, against what was measured when this was written. A budget that is passed means that
 *  tables are read again, data is fetched twice, or a barrier stands where none is needed. Whoever needs less lowers the number. */
import { deflateSync } from 'node:zlib'
import {
  allFormats,
  type ByteStore,
  countingSource,
  type Disk,
  MemoryStore,
  planConversion,
  type RequestCounts,
} from '@moraine/engine'
import { describe, expect, it } from 'vitest'
import { bochsOf, cloopOf, dmgOf } from '../read-only/builders.ts'
import { closing, formatOf } from '../support/disk.ts'
import { MemoryHost } from '../support/memory-host.ts'
import { Random } from '../support/random.ts'

const mib = 1 << 20
/** The disk of most jobs, read and written in pieces. */
const size = 32 * mib
const piece = 2 * mib
/** A disk with 16 pieces of data, 64 KiB each. */
const wide = 256 * 1024 * mib
/** Small requests, at random places. */
const smalls = { count: 256, bytes: 4096 }

/** Most reads, and most bytes read besides the guest's. */
type Reads = readonly [requests: number, metadataBytes: number]
/** Most writes and zeros together, bytes of them besides the guest's, reads and bytes for them, barriers. */
type Writes = readonly [requests: number, metadataBytes: number, reads: number, bytesRead: number, barriers: number]

interface Row {
  format: string
  /** As for `-o`. */
  options?: string
  /** Opening for reading. */
  open: Reads
  /** Reading all of a full disk from front to back, in 16 pieces. */
  read: Reads
  /** Then 256 reads of 4 KiB; by default nothing but these. */
  again?: Reads
  /** Opening the wide disk and listing all its extents. */
  walk?: Reads
  /** Writing all of an empty disk from front to back, in 16 pieces, and a flush. */
  write?: Writes
  /** Opening the full disk for writing, 256 writes of 4 KiB, a flush and closing. */
  rewrite?: Writes
  /** The full disk in a format that is only read. */
  image?: (content: Uint8Array) => Uint8Array
}

/** A DMG of chunks of 256 KiB, packed with zlib. */
function dmgOfPieces(content: Uint8Array): Uint8Array {
  const chunk = 256 * 1024
  const pieces = Array.from({ length: content.length / chunk }, (_, i) => ({
    type: 0x8000_0005,
    size: chunk,
    stored: deflateSync(content.subarray(i * chunk, (i + 1) * chunk)),
  }))
  return dmgOf(pieces, 'plist')
}

const rows: readonly Row[] = [
  { format: 'raw', open: [0, 0], read: [16, 0], walk: [0, 0], write: [16, 0, 0, 0, 1], rewrite: [256, 0, 0, 0, 1] },
  {
    format: 'qcow2',
    open: [3, 65568],
    read: [17, 65536],
    walk: [19, 1118232],
    write: [19, 131080, 1, 65536, 3],
    rewrite: [256, 0, 5, 196640, 3],
  },
  {
    format: 'qcow',
    open: [1, 48],
    read: [33, 65664],
    walk: [33, 1114160],
    write: [33, 65664, 1, 128, 3],
    rewrite: [256, 0, 18, 65712, 2],
  },
  {
    format: 'qed',
    open: [1, 64],
    read: [18, 131072],
    walk: [66, 4259904],
    write: [22, 262216, 1, 65536, 3],
    rewrite: [256, 0, 3, 131136, 2],
  },
  {
    format: 'parallels',
    open: [1, 64],
    read: [17, 128],
    walk: [17, 1048640],
    write: [18, 192, 1, 128, 3],
    rewrite: [258, 128, 2, 192, 5],
  },
  {
    format: 'vdi',
    open: [1, 512],
    read: [17, 128],
    walk: [17, 1049088],
    write: [18, 640, 1, 128, 3],
    rewrite: [257, 512, 2, 640, 3],
  },
  {
    format: 'vdi',
    options: 'static=on',
    open: [1, 512],
    read: [17, 128],
    walk: [17, 1049088],
    write: [17, 512, 1, 128, 2],
    rewrite: [257, 512, 2, 640, 3],
  },
  {
    format: 'vhd',
    options: 'force_size=on',
    open: [4, 2112],
    read: [32, 8192],
    walk: [27, 534528],
    write: [35, 9280, 0, 0, 3],
    rewrite: [256, 0, 20, 10304, 2],
  },
  {
    format: 'vhd',
    options: 'subformat=fixed,force_size=on',
    open: [2, 1024],
    read: [16, 0],
    walk: [2, 1024],
    write: [16, 0, 0, 0, 1],
    rewrite: [256, 0, 2, 1024, 2],
  },
  {
    format: 'vhdx',
    open: [11, 204848],
    read: [17, 65536],
    walk: [13, 335920],
    write: [22, 28672, 1, 65536, 7],
    rewrite: [258, 8192, 12, 270384, 4],
  },
  {
    format: 'vhdx',
    options: 'subformat=fixed',
    open: [11, 204848],
    read: [17, 65536],
    walk: [13, 335920],
    write: [18, 8192, 1, 65536, 3],
    rewrite: [258, 8192, 12, 270384, 4],
  },
  {
    format: 'vmdk',
    open: [2, 10752],
    read: [19, 2056],
    walk: [261, 16853504],
    write: [19, 4608, 4, 12296, 2],
    rewrite: [257, 512, 6, 23048, 2],
  },
  {
    format: 'vmdk',
    options: 'subformat=monolithicFlat',
    open: [2, 684],
    read: [16, 0],
    walk: [2, 700],
    write: [17, 342, 1, 342, 2],
    rewrite: [257, 342, 3, 1026, 4],
  },
  {
    format: 'vmdk',
    options: 'subformat=twoGbMaxExtentSparse',
    open: [3, 1208],
    read: [19, 2056],
    walk: [770, 16913599],
    write: [19, 4444, 4, 2404, 3],
    rewrite: [257, 348, 7, 3612, 4],
  },
  {
    format: 'vmdk',
    options: 'subformat=twoGbMaxExtentFlat',
    open: [2, 692],
    read: [16, 0],
    walk: [2, 5309],
    write: [17, 346, 1, 346, 2],
    rewrite: [257, 346, 3, 1038, 4],
  },
  {
    format: 'vmdk',
    options: 'subformat=vmfs',
    open: [2, 660],
    read: [16, 0],
    walk: [2, 676],
    write: [17, 330, 1, 330, 2],
    rewrite: [257, 330, 3, 990, 4],
  },
  {
    format: 'vmdk',
    options: 'subformat=vmfsThin',
    open: [2, 712],
    read: [16, 0],
    walk: [2, 728],
    write: [17, 356, 1, 356, 2],
    rewrite: [257, 356, 3, 1068, 4],
  },
  {
    format: 'vmdk',
    options: 'subformat=streamOptimized',
    open: [2, 10752],
    read: [515, 270_000],
    again: [256, 15_900_000],
    walk: [261, 16853504],
    write: [20, 270_000, 4, 12296, 2],
  },
  { format: 'bochs', open: [1, 512], read: [1025, 10240], image: (content) => bochsOf(content, 65_536, 2) },
  {
    format: 'cloop',
    open: [1, 136],
    read: [513, 19_000],
    again: [256, 15_800_000],
    image: (content) => cloopOf(content, 65_536),
  },
  { format: 'dmg', open: [4, 10_000], read: [128, 12_000], again: [254, 65_600_000], image: dmgOfPieces },
]

/** A folder that counts what is asked of all its files together. */
class CountingHost extends MemoryHost {
  readonly #all: RequestCounts[]

  constructor() {
    const all: RequestCounts[] = []
    super((empty) => {
      const { source, counts } = countingSource<ByteStore>(empty)
      all.push(counts)
      return source
    })
    this.#all = all
  }

  /** What `work` asks for. */
  async during(work: () => Promise<unknown>): Promise<RequestCounts> {
    const before = this.#total()
    await work()
    const counts = this.#total()
    for (const key of Object.keys(counts) as (keyof RequestCounts)[]) counts[key] -= before[key]
    return counts
  }

  /** A file with bytes in it. */
  async put(name: string, bytes: Uint8Array): Promise<void> {
    await this.create({ name, format: 'raw', size: bytes.length })
    await this.file(name).write(0, bytes)
  }

  #total(): RequestCounts {
    const total = countingSource(new MemoryStore()).counts
    for (const counts of this.#all) {
      for (const key of Object.keys(total) as (keyof RequestCounts)[]) total[key] += counts[key]
    }
    return total
  }
}

const readsOf = (counts: RequestCounts, guest: number): Reads => [counts.reads, counts.bytesRead - guest]
const writesOf = (counts: RequestCounts, guest: number): Writes => [
  counts.writes + counts.zeros,
  counts.bytesWritten + counts.bytesZeroed - guest,
  counts.reads,
  counts.bytesRead,
  counts.flushes,
]

function expectWithin(job: string, found: readonly number[], most: readonly number[]): void {
  const words = `${job}: [${found}] where [${most}] is the budget`
  expect(
    found.every((count, i) => count <= (most[i] ?? 0)),
    words,
  ).toBe(true)
}

async function readAll(disk: Disk): Promise<void> {
  const into = new Uint8Array(piece)
  for (let at = 0; at < size; at += piece) await disk.read(at, into)
}

/** Places of the small requests. */
function* places(seed: number): Generator<number> {
  const random = new Random(seed)
  for (let i = 0; i < smalls.count; i++) yield random.int(0, size / smalls.bytes - 1) * smalls.bytes
}

describe('I/O budgets', () => {
  const content = new Random(1).bytes(piece)
  const whole = new Uint8Array(size)
  for (let at = 0; at < size; at += piece) whole.set(content, at)

  async function full(row: Row, host: CountingHost): Promise<{ name: string; writing: Writes | undefined }> {
    const { format, options } = row
    const name = `disk.${format}`
    if (row.image !== undefined) {
      await host.put(name, row.image(whole))
      return { name, writing: undefined }
    }
    await host.create({ name, format, options, size })
    const disk = await host.openForWriting(name, format)
    const writing = await host.during(async () => {
      for (let at = 0; at < size; at += piece) await disk.write(at, content)
      await disk.flush()
    })
    const idle = await host.during(() => disk.flush())
    expect([idle.writes, idle.zeros, idle.reads], 'a flush of nothing').toEqual([0, 0, 0])
    expect(idle.flushes, 'a flush of nothing').toBeLessThanOrEqual(host.files.size)
    await disk.close()
    return { name, writing: writesOf(writing, size) }
  }

  it('are there for every format that has images of its own', () => {
    const others = ['luks', 'luks2', 'iso', 'vhds', 'asif']
    const all = allFormats.map(({ name }) => name).filter((name) => !others.includes(name))
    expect([...new Set(rows.map(({ format }) => format))].sort()).toEqual(all.sort())
  })

  it.each(rows.map((row) => [`${row.format} ${row.options ?? ''}`.trim(), row] as const))('of %s', async (_n, row) => {
    const { format, options } = row
    const host = new CountingHost()
    const { name, writing } = await full(row, host)
    expectWithin('write', writing ?? [], row.write ?? [])

    if (row.rewrite !== undefined) {
      const rewriting = await host.during(async () => {
        await closing(await host.openForWriting(name, format), async (disk) => {
          for (const at of places(2)) await disk.write(at, content.subarray(0, smalls.bytes))
          await disk.flush()
        })
      })
      expectWithin('rewrite', writesOf(rewriting, smalls.count * smalls.bytes), row.rewrite)
    }

    let opened: Disk | undefined
    const opening = await host.during(async () => {
      opened = await host.open(name, format)
    })
    expectWithin('open', readsOf(opening, 0), row.open)
    await closing(opened as unknown as Disk, async (disk) => {
      expectWithin('read', readsOf(await host.during(() => readAll(disk)), size), row.read)
      const again = await host.during(async () => {
        const into = new Uint8Array(smalls.bytes)
        for (const at of places(3)) await disk.read(at, into)
      })
      expectWithin('again', readsOf(again, smalls.count * smalls.bytes), row.again ?? [smalls.count, 0])
    })

    // A conversion reads what reading it all does, once: every byte, and the tables.
    const converting = await host.during(async () => {
      await closing(await host.open(name, format), async (disk) => {
        const target = new MemoryHost((empty) => empty)
        await target.create({ name: 'out.raw', format: 'raw', size: disk.size })
        const plan = await planConversion(disk, { format: formatOf('raw') })
        await closing(await target.openForWriting('out.raw', 'raw'), (out) => plan.run(out))
      })
    })
    const most = size + row.open[1] + row.read[1]
    expect(converting.bytesRead, 'bytes that a conversion reads').toBeLessThanOrEqual(most)

    if (row.walk === undefined) return
    const wideHost = new CountingHost()
    await wideHost.create({ name, format, options, size: wide })
    await closing(await wideHost.openForWriting(name, format), async (disk) => {
      for (let i = 0; i < 16; i++) await disk.write((i * wide) / 16, content.subarray(0, 65_536))
    })
    const walking = await wideHost.during(async () => {
      await closing(await wideHost.open(name, format), async (disk) => {
        let end = 0
        for await (const batch of disk.extents(0, disk.size)) for (const { length } of batch) end += length
        expect(end).toBe(disk.size)
      })
    })
    expectWithin('walk', readsOf(walking, 0), row.walk)
  })
})
