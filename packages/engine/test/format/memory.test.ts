/** How much memory the engine takes for disks of terabytes, for each format: a process of its own does the job, and its peak is looked at. What is not bounded grows with the
 *  table, with the disk, with what is stored or with what is wrong, and each of these is large here: a list of one entry for each cluster alone would take more than is allowed. */
import { rmSync, writeFileSync } from 'node:fs'
import { type FileHandle, open, readdir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { CheckResult } from '@moraine/engine'
import { afterAll, describe, expect, it } from 'vitest'
import { cloopOf, dmgOf } from '../read-only/builders.ts'
import { createFile } from '../support/disk.ts'
import { EngineChild, type Job } from '../support/engine.ts'
import { temporaryFolder } from '../support/folder.ts'
import { type Filling, largeFormats, makeLarge } from '../support/large-images.ts'
import { isDrawn } from '../support/random.ts'

const mib = 2 ** 20
const gib = 2 ** 30

/** What a job may take over the idle process. Of it 16 MiB are tables that are kept (`Limits.cacheBytes`) and 48 MiB what a check counts in (`checkBytes`); the rest is
 *  what waits for the collector. */
const most = 112 * mib

/** A stream gives a new MiB away at each step, of which V8 lets 64 lie before it looks. */
const mostOfStream = 144 * mib

// Young objects may take 100 MiB before V8 looks for garbage among them; what an image makes the engine hold is the question here.
const engine = new EngineChild(['--max-semi-space-size=2'])
afterAll(() => engine.end())

/** Each case takes seconds: in CI fewer of them are drawn than of others. */
const isMeasured = (title: string): boolean => isDrawn(`memory ${title}`) && isDrawn(`memory, once more ${title}`)

/** Jobs that find less to do the second time. */
const once: readonly Job['op'][] = ['repair', 'commit', 'rebase']

/** Does a job and looks at its peak; the kind of error that came of it, or its result. What jobs before it left is not counted: it is done again in a fresh process. */
async function within(job: Omit<Job, 'id'>): Promise<unknown> {
  const allowed = job.op === 'stream' ? mostOfStream : most
  if (once.includes(job.op)) await engine.stop()
  let answer = await engine.run(job, 60_000)
  if (answer.over > allowed && !once.includes(job.op)) {
    await engine.stop()
    answer = await engine.run(job, 60_000)
  }
  const { over, error, result } = answer
  if (error !== undefined && !error.moraine) throw new Error(`${job.op}: ${error.stack}`)
  const words = `${job.op}: ${Math.round(over / mib)} MiB over the idle process, where ${Math.round(allowed / mib)} are allowed`
  expect(over <= allowed, words).toBe(true)
  return error?.kind ?? result
}

describe('peak memory for tables of millions of entries', () => {
  const folder = temporaryFolder()
  const jobs: Record<Filling, readonly Job['op'][]> = {
    full: ['walk', 'check', 'repair'],
    lost: ['check', 'repair'],
    same: ['repair'],
  }
  const rows = largeFormats.flatMap((large) =>
    (Object.keys(jobs) as Filling[]).map((filling) => [`${large.format}, ${filling}`, large, filling] as const),
  )

  it.each(rows.filter(([title]) => isMeasured(title)))('%s', async (_title, large, filling) => {
    const file = folder.fresh(`.${large.format}`)
    await makeLarge(file, large, filling)
    for (const op of jobs[filling]) {
      const told = await within({ op, file, format: large.format, thorough: true })
      if (filling === 'full') expect(typeof told, `${op}: ${told}`).not.toBe('string')
      else if (filling === 'lost') {
        const { corruptions, corruptionsFixed } = told as CheckResult
        expect(op === 'check' ? corruptions : corruptionsFixed, `${op}: ${told}`).toBeGreaterThan(1e6)
      }
      // A place of its own for each would take more room than there is; qcow2 has nothing to copy but counts.
      else expect(told === 'limit' || large.format === 'qcow2', `${op}: ${told}`).toBe(true)
    }
    rmSync(file)
  })
})

/** A kind of image with pieces of data all over it. */
interface Kind {
  format: string
  options?: string
  /** Bytes; 1 TiB by default. */
  size?: number
  /** It is written once, and packed. */
  packed?: true
  /** Jobs that such images refuse. */
  refuses?: readonly Job['op'][]
  /** Options of an overlay of the same format; absent where there is none. */
  overlay?: string
}

const kinds: readonly Kind[] = [
  { format: 'raw', refuses: ['check'] },
  { format: 'qcow2', overlay: '' },
  { format: 'qcow2', options: 'cluster_size=4k,extended_l2=off' },
  { format: 'qcow', overlay: '' },
  { format: 'qed', overlay: '' },
  { format: 'vmdk', overlay: '' },
  { format: 'vmdk', options: 'subformat=monolithicFlat', refuses: ['stream'] },
  { format: 'vmdk', options: 'subformat=twoGbMaxExtentSparse', size: 256 * gib, refuses: ['stream', 'resize'] },
  { format: 'vmdk', options: 'subformat=twoGbMaxExtentFlat', size: 256 * gib, refuses: ['stream', 'resize'] },
  { format: 'vmdk', options: 'subformat=vmfsThin', refuses: ['stream'] },
  { format: 'vmdk', options: 'subformat=streamOptimized', packed: true, refuses: ['resize'] },
  { format: 'vhd', overlay: '' },
  { format: 'vhd', options: 'subformat=fixed' },
  { format: 'vhdx', options: 'block_size=1M', overlay: 'block_size=1M' },
  { format: 'vhdx', options: 'block_size=1M,subformat=fixed', size: 64 * gib },
  { format: 'vdi', overlay: '' },
  { format: 'vdi', options: 'static=on', size: 64 * gib },
  { format: 'parallels' },
]

describe('peak memory for data that is spread', () => {
  const folder = temporaryFolder()
  const rows = kinds.map((kind) => [`${kind.format} ${kind.options ?? ''}`.trim(), kind] as const)

  it.each(rows.filter(([title]) => isMeasured(`spread ${title}`)))('%s', async (_title, kind) => {
    const { format, options = '', size = 1024 * gib, refuses = [] } = kind
    const file = folder.fresh(`.${format}`)
    const other = folder.fresh('.qcow2')
    const does = async (job: Omit<Job, 'id' | 'file' | 'format'>, path = file): Promise<void> => {
      const told = await within({ ...job, file: path, format })
      expect([job.op, typeof told === 'string' && told !== 'done'], `${job.op}: ${told}`).toEqual([
        job.op,
        refuses.includes(job.op),
      ])
    }
    if (kind.packed === true) {
      const raw = folder.fresh('.raw')
      await createFile(raw, 'raw', size)
      for (const op of ['spread', 'transform'] as const) {
        expect(await within({ op, file: raw, format: 'raw', pieces: 256, target: file, to: format, options })).toBe(
          'done',
        )
      }
    } else {
      await createFile(file, format, size, options)
      await does({ op: 'spread', pieces: 256 })
    }
    await does({ op: 'walk' })
    await does({ op: 'check' })
    await does({ op: 'measure', options })
    await does({ op: 'transform', target: other, to: 'qcow2' })
    await does({ op: 'compare', target: other, to: 'qcow2' })
    await does({ op: 'stream', options, pieces: 256 })
    await does({ op: 'resize', size: size + gib })
    if (kind.overlay !== undefined) {
      const overlay = folder.fresh(`.${format}`)
      await createFile(overlay, format, size + gib, kind.overlay, { name: file, format })
      await does({ op: 'spread', pieces: 192, seed: 2 }, overlay)
      await does({ op: 'walk' }, overlay)
      await does({ op: 'rebase' }, overlay)
      await does({ op: 'commit', target: file }, overlay)
    }
  })
})

/** L2 tables of a disk of 512 GiB, all of them holes. */
const tablesOfHoles = 1024
/** Images that say they need more than anybody has. Each file is mostly holes. */
const greedy: readonly {
  name: string
  format: string
  ops: readonly Job['op'][]
  make(path: string): Promise<void>
}[] = [
  {
    name: 'a chain of 12 disks, each with all its tables',
    format: 'qcow2',
    ops: ['walk'],
    async make(path) {
      for (let depth = 12; depth >= 0; depth--) {
        const name = depth === 0 ? path : `${path}.${depth}`
        await createFile(
          name,
          'qcow2',
          tablesOfHoles * 512 * mib,
          '',
          depth < 12 ? { name: `${path}.${depth + 1}`, format: 'qcow2' } : undefined,
        )
        await changed(name, async (file) => {
          const l1 = Buffer.alloc(tablesOfHoles * 8)
          for (let i = 0; i < tablesOfHoles; i++) l1.writeBigUInt64BE(BigInt(mib + i * 65_536) | (1n << 63n), i * 8)
          await file.write(l1, 0, l1.length, Number((await bytesAt(file, 40, 8)).readBigUInt64BE()))
          await file.truncate(mib + tablesOfHoles * 65_536)
        })
      }
    },
  },
  {
    name: 'small blocks that say they take 128 MiB each',
    format: 'cloop',
    ops: ['read', 'walk'],
    make: (path) => cloopOfHoles(path, 512, 4096, 128 * mib),
  },
  {
    name: 'a VMDK of 256 extents with all their tables',
    format: 'vmdk',
    ops: ['walk', 'check'],
    async make(path) {
      await createFile(path, 'vmdk', 512 * gib, 'subformat=twoGbMaxExtentSparse')
      const folder = dirname(path)
      const extents = (await readdir(folder)).filter((name) => /-s\d+\.vmdk$/.test(name))
      expect(extents.length).toBe(256)
      for (const name of extents) {
        await changed(join(folder, name), async (file) => {
          const directory = (await bytesAt(file, 0, 512)).readUInt32LE(56) * 512
          const first = (await bytesAt(file, directory, 4)).readUInt32LE() * 512
          const table = Buffer.alloc(64 * 2048)
          const start = Math.ceil((await file.stat()).size / 65_536) * 128
          // Apart from each other, so that each is an extent of its own.
          for (let i = 0; i < 32_768; i += 16) table.writeUInt32LE(start + i * 8, i * 4)
          await file.write(table, 0, table.length, first)
          await file.truncate((start + 2048 * 128) * 512)
        })
      }
    },
  },
  {
    name: 'tables of 16 MiB',
    format: 'qed',
    ops: ['spread', 'walk', 'check', 'repair'],
    make: (path) => createFile(path, 'qed', 2 ** 44, 'cluster_size=1M,table_size=16'),
  },
  {
    name: 'an L1 table of 32 MiB',
    format: 'qcow2',
    ops: ['open', 'walk', 'check'],
    make: (path) => createFile(path, 'qcow2', 2 ** 43, 'cluster_size=4k'),
  },
  {
    name: 'four hundred thousand chunks',
    format: 'dmg',
    ops: ['open', 'walk'],
    async make(path) {
      writeFileSync(
        path,
        dmgOf(
          Array.from({ length: 400_000 }, () => ({ type: 0, size: 512 })),
          'fork',
        ),
      )
    },
  },
]

describe('peak memory for images that ask for too much', () => {
  const folder = temporaryFolder()

  it.each(greedy.filter(({ name }) => isMeasured(name)).map((row) => [row.name, row] as const))(
    '%s',
    async (_name, { format, ops, make }) => {
      const path = folder.fresh(`.${format}`)
      await make(path)
      for (const op of ops) await within({ op, file: path, format, thorough: true, pieces: 2 })
    },
  )
})

async function changed(path: string, change: (file: FileHandle) => Promise<void>): Promise<void> {
  const file = await open(path, 'r+')
  try {
    await change(file)
  } finally {
    await file.close()
  }
}

async function bytesAt(file: FileHandle, at: number, length: number): Promise<Buffer> {
  return (await file.read(Buffer.alloc(length), 0, length, at)).buffer
}

/** A cloop image of `blocks` blocks, each of which says that it takes `packed` bytes of the file. */
async function cloopOfHoles(path: string, blockSize: number, blocks: number, packed: number): Promise<void> {
  const image = cloopOf(new Uint8Array(blocks * blockSize), blockSize)
  for (let i = 0; i <= blocks; i++) image.writeBigUInt64BE(BigInt(65_536 + i * packed), 136 + i * 8)
  writeFileSync(path, image)
  await changed(path, (file) => file.truncate(65_536 + blocks * packed))
}
