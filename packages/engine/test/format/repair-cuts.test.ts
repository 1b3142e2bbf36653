/** Pulling the plug while an image is repaired: what is left can be repaired, and every block shows what it showed before or what the
 *  repair makes of it: never bytes of another. For
 *  qcow2 see `qcow2/power-cut.test.ts`. */
import { isMoraineError, type MemoryStore } from '@moraine/engine'
import { describe, expect, it } from 'vitest'
import { closing } from '../support/disk.ts'
import { bend, JournalHost, memoryHost } from '../support/journal-host.ts'
import type { MemoryHost } from '../support/memory-host.ts'
import { budget, Random, seed, timeFor } from '../support/random.ts'
import { setEntry } from '../vhdx/structure.ts'

interface Damaged {
  format: string
  options: string
  size: number
  /** Bytes of a block, cluster or grain; the first, the second and the fourth hold data. */
  block: number
  /** Leaks in the middle of the file stay. */
  leaksStay?: true
  damages: Record<string, (bytes: Uint8Array, view: DataView) => void>
}

const big = (view: DataView, at: number) => Number(view.getBigUint64(at))
const little = (view: DataView, at: number) => Number(view.getBigUint64(at, true))

type Damage = Damaged['damages'][string]

function alsoBoth(shared: Damage, lost: Damage): Damaged['damages'] {
  return {
    'one place twice': shared,
    'an entry that leads nowhere': lost,
    both(bytes, view) {
      shared(bytes, view)
      lost(bytes, view)
    },
  }
}

/** Entries of 32 bits: the third shows what the second does, the fifth leads just behind the file, where a copy may come to lie. */
function entries32(at: (view: DataView) => number, isLittle: boolean, behind: (bytes: Uint8Array) => number) {
  const shared: Damage = (_bytes, view) =>
    view.setUint32(at(view) + 8, view.getUint32(at(view) + 4, isLittle), isLittle)
  const lost: Damage = (bytes, view) => view.setUint32(at(view) + 16, behind(bytes), isLittle)
  return alsoBoth(shared, lost)
}

function entries64(at: (view: DataView) => number, isLittle: boolean, behind: (bytes: Uint8Array) => number) {
  const shared: Damage = (_bytes, view) =>
    view.setBigUint64(at(view) + 16, view.getBigUint64(at(view) + 8, isLittle), isLittle)
  const lost: Damage = (bytes, view) => view.setBigUint64(at(view) + 32, BigInt(behind(bytes)), isLittle)
  return alsoBoth(shared, lost)
}

const subjects: readonly Damaged[] = [
  {
    format: 'vhd',
    options: 'force_size=on',
    size: 10 << 20,
    block: 2 << 20,
    damages: {
      ...entries32(
        () => 1536,
        false,
        (bytes) => Math.ceil(bytes.length / 512),
      ),
      'no footer at the end': (bytes) => void bytes.fill(0, bytes.length - 512),
      'no footer at the start': (bytes) => void bytes.fill(0, 0, 512),
      'a wrong checksum of the header': (bytes) => void bytes.fill(1, 512 + 36, 512 + 40),
    },
  },
  {
    format: 'vdi',
    options: '',
    size: 5 << 20,
    block: 1 << 20,
    damages: {
      ...entries32(
        (view) => view.getUint32(340, true),
        true,
        () => 77,
      ),
      'a wrong count': (_bytes, view) => view.setUint32(388, 1, true),
    },
  },
  {
    format: 'vhdx',
    options: 'block_size=1M',
    size: 5 << 20,
    block: 1 << 20,
    damages: {
      ...entries64(
        (view) => little(view, 196_608 + 16 + 16),
        true,
        (bytes) => Math.ceil(bytes.length / (1 << 20)) * (1 << 20) + 6,
      ),
      'no second header': (bytes) => void bytes.fill(0, 131_072, 131_072 + 4096),
      'no second region table': (bytes) => void bytes.fill(0, 262_144, 262_144 + 4096),
      'a state that is none': (bytes) => setEntry(bytes, 2, 4n),
    },
  },
  {
    format: 'parallels',
    options: 'cluster_size=64k',
    size: 640 << 10,
    block: 64 << 10,
    damages: {
      ...entries32(
        () => 64,
        true,
        (bytes) => Math.ceil(bytes.length / 65_536) + 1,
      ),
      'not closed': (_bytes, view) => view.setUint32(44, 0x746f_6e59, true),
    },
  },
  {
    format: 'qed',
    options: 'cluster_size=4k,table_size=1',
    size: 640 << 10,
    block: 4096,
    leaksStay: true,
    damages: {
      ...entries64(
        (view) => little(view, 4096),
        true,
        (bytes) => Math.ceil(bytes.length / 4096) * 4096,
      ),
      'not closed': (_bytes, view) => view.setUint32(16, 2, true),
      'a second table over the first': (_bytes, view) =>
        view.setBigUint64(4096 + 8, view.getBigUint64(4096, true), true),
    },
  },
  {
    format: 'qcow',
    options: '',
    size: 640 << 10,
    block: 4096,
    damages: entries64(
      (view) => big(view, 48),
      false,
      (bytes) => Math.ceil(bytes.length / 4096) * 4096,
    ),
  },
  {
    format: 'vmdk',
    options: '',
    size: 80 << 20,
    block: 65_536,
    damages: {
      ...entries32(
        () => 35 * 512,
        true,
        (bytes) => Math.ceil(bytes.length / 65_536) * 128,
      ),
      'no directory': (bytes) => void bytes.fill(0, 34 * 512, 34 * 512 + 12),
      'no redundant directory': (bytes) => void bytes.fill(0, 21 * 512, 21 * 512 + 12),
      'both tables lead behind the file': (bytes, view) => {
        for (const table of [22, 35]) {
          view.setUint32(table * 512 + 8, view.getUint32(table * 512 + 4, true), true)
          view.setUint32(table * 512 + 16, Math.ceil(bytes.length / 65_536) * 128, true)
        }
      },
    },
  },
]

function same(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === undefined || b === undefined ? a === b : Buffer.compare(a, b) === 0
}

describe('power cuts of repairs', () => {
  const runSeed = seed('repair cuts')

  async function make({ format, options, size, block }: Damaged): Promise<MemoryHost<MemoryStore>> {
    const host = memoryHost()
    await host.create({ name: 'image', format, options, size })
    await closing(await host.openForWriting('image', format), async (disk) => {
      for (const at of [0, 1, 3]) await disk.write(at * block, new Random(at + 1).bytes(block))
    })
    return host
  }

  /** The first blocks; undefined where one cannot be read. */
  async function blocksOf(
    host: MemoryHost<MemoryStore>,
    { format, block, size }: Damaged,
  ): Promise<(Uint8Array | undefined)[]> {
    return closing(await host.open('image', format, 'check'), async (disk) => {
      const blocks: (Uint8Array | undefined)[] = []
      for (let at = 0; at < Math.min(size, 16 * block); at += block) {
        const bytes = new Uint8Array(block)
        blocks.push(
          await disk.read(at, bytes).then(
            () => bytes,
            (error: unknown) => {
              if (!isMoraineError(error, 'corrupt')) throw error
              return undefined
            },
          ),
        )
      }
      return blocks
    })
  }

  for (const subject of subjects) {
    const { format } = subject
    it.each(Object.entries(subject.damages))(
      `of ${format}: %s`,
      async (_name, damage) => {
        const host = await make(subject)
        await bend(host.file('image'), damage)
        const before = await blocksOf(host, subject)
        const found = await host.check('image', format)
        const journal = new JournalHost(host)
        await journal.check('image', format, 'all')
        expect(journal.time, `something was repaired: ${found.lines}`).toBeGreaterThan(0)
        const repaired = await journal.cut(() => 0.5)
        const blocks = await blocksOf(repaired, subject)
        const expectEither = async (left: MemoryHost<MemoryStore>): Promise<void> => {
          for (const [at, now] of (await blocksOf(left, subject)).entries()) {
            const may = [before[at], blocks[at]].some((bytes) => same(bytes, now))
            if (!may) throw new Error(`block ${at} shows what it never held`)
          }
        }
        const random = new Random(runSeed)
        const end = Date.now() + budget(150)
        for (let cut = 0; cut < 6 || Date.now() < end; cut++) {
          const time = random.int(0, journal.time)
          const left = await journal.cut(() => random.next(), time)
          try {
            await expectEither(left)
            await left.check('image', format, 'all')
            const { result, lines } = await left.check('image', format)
            const leaks = subject.leaksStay === true ? 0 : result.leaks
            expect([result.corruptions, result.checkErrors, leaks], `${lines}`).toEqual([0, 0, 0])
            await expectEither(left)
          } catch (error) {
            const where = `cut ${cut}, before entry ${time} of ${journal.time}`
            throw new Error(`MORAINE_SEED=${runSeed}, ${where}: ${(error as Error).message}`, { cause: error })
          }
        }
      },
      timeFor(150),
    )
  }
})
