/** Pulling the plug over more than one file: differencing images while they are written, images of several files, and commits into every format. For one file alone see
 *  `robustness.test.ts` of each format. */
import { allFormats, commitDisk, isWritable, type MemoryStore, openDisk } from '@moraine/engine'
import { nodeCodecs } from '@moraine/engine/node'
import { describe, expect, it } from 'vitest'
import { subject as parallels } from '../parallels/subject.ts'
import { subject as qed } from '../qed/subject.ts'
import { wholeOf } from '../support/block-subject.ts'
import { closing } from '../support/disk.ts'
import { JournalHost, memoryHost } from '../support/journal-host.ts'
import type { MemoryHost } from '../support/memory-host.ts'
import { churn, DiskModel } from '../support/model.ts'
import { expectOneOf, type Moment, possible } from '../support/moments.ts'
import { budget, Random, seed, timeFor } from '../support/random.ts'
import { subject as vdi } from '../vdi/subject.ts'
import { subject as vhd } from '../vhd/subject.ts'
import { subject as vhdx } from '../vhdx/subject.ts'

type Host = MemoryHost<MemoryStore>

/** What a cut may leave that costs nothing, by format. */
const harmless: Record<string, RegExp | undefined> = {
  parallels: parallels.harmless,
  qed: qed.harmless,
  vdi: vdi.harmless,
  vhd: vhd.harmless,
  vhdx: vhdx.harmless,
  // Tables have a copy, and one of the two may be older.
  vmdk: /the redundant copy of grain table \d+ differs/,
  qcow2: /^Leaked cluster|refcount=\d+ reference=0/,
}

/** The check finds nothing grave, and after a repair nothing at all; the content stays. */
async function expectSound(host: Host, name: string, format: string): Promise<void> {
  const has = allFormats.find((one) => one.name === format)?.check
  if (has === undefined) return
  const { lines } = await host.check(name, format)
  const grave = lines.filter((line) => harmless[format]?.test(line) !== true)
  expect(grave, `check of ${name}`).toEqual([])
  await host.check(name, format, 'all')
  const after = await host.check(name, format)
  expect([after.result.corruptions, after.result.checkErrors], `${after.lines}`).toEqual([0, 0])
}

const contentOf = async (host: Host, name: string, format: string): Promise<Uint8Array> =>
  closing(await host.open(name, format), wholeOf)

/** Cuts at random moments until the time is up, and says where something was found. */
async function cutAtRandom(
  journal: JournalHost,
  random: Random,
  run: { seed: number; end: number },
  look: (left: Host, time: number) => Promise<void>,
): Promise<void> {
  for (let cut = 0; cut < 3 || (Date.now() < run.end && cut < 16); cut++) {
    const time = cut === 0 ? journal.time : random.int(0, journal.time)
    const left = await journal.cut(() => random.next(), time)
    try {
      await look(left, time)
    } catch (error) {
      const where = `before entry ${time} of ${journal.time}`
      throw new Error(`MORAINE_SEED=${run.seed}, ${where}: ${(error as Error).message}`, { cause: error })
    }
  }
}

const size = 3 << 20

/** Files of an image: what is opened first is `top`. */
interface Scenario {
  name: string
  format: string
  make(host: Host): Promise<void>
}

/** A parent full of bytes and an empty child. */
function child(format: string, options = '', parentFormat = format): Scenario {
  return {
    name: `a ${format} over ${parentFormat === format ? 'one' : parentFormat}`,
    format,
    async make(host) {
      const parentOptions = parentFormat === 'vhd' ? 'force_size=on' : ''
      await host.create({ name: 'base', format: parentFormat, options: parentOptions, size })
      await closing(await host.openForWriting('base', parentFormat), (disk) => disk.write(0, new Random(5).bytes(size)))
      await host.create({ name: 'top', format, options, size, parent: { name: 'base', format: parentFormat } })
    },
  }
}

/** A descriptor that names extents, which are pieces of new images. */
function pieces(subformat: string, type: string): Scenario {
  return {
    name: `a vmdk of two files, ${subformat}`,
    format: 'vmdk',
    async make(host) {
      const lines: string[] = []
      const half = size / 2
      for (const name of ['one', 'two']) {
        await host.create({ name: `${name}.vmdk`, format: 'vmdk', options: `subformat=${subformat}`, size: half })
        const extent = [...host.files.keys()].find((file) => file.startsWith(`${name}-`))
        lines.push(`RW ${half / 512} ${type} "${extent}"${type === 'SPARSE' ? '' : ' 0'}`)
      }
      const head = ['# Disk DescriptorFile', 'version=1', 'CID=12345678', 'parentCID=ffffffff']
      // A descriptor over several sectors, with the identity on the edge of the first.
      const filler = `# ${'x'.repeat(471)}`
      const text = [head[0], head[1], filler, head[2], head[3], `createType="${subformat}"`, ...lines].join('\n')
      await host.create({ name: 'top', format: 'raw', size: 0 })
      await host.file('top').write(0, Buffer.from(`${text}\n`))
    },
  }
}

const scenarios: readonly Scenario[] = [
  child('vhd', 'force_size=on'),
  child('vhdx'),
  child('vdi'),
  child('vmdk'),
  child('vmdk', 'zeroed_grain=on'),
  child('qcow2', 'cluster_size=4k', 'vmdk'),
  child('qcow', '', 'vhd'),
  child('qed', 'cluster_size=4k', 'vdi'),
  pieces('twoGbMaxExtentSparse', 'SPARSE'),
  pieces('twoGbMaxExtentFlat', 'FLAT'),
  pieces('vmfs', 'VMFS'),
]

describe('power cuts of several files', () => {
  const runSeed = seed('chain cuts')

  it.each(scenarios.map((scenario) => [scenario.name, scenario] as const))(
    'while writing %s',
    async (_name, { format, make }) => {
      const random = new Random(runSeed)
      const end = Date.now() + budget(200)
      do {
        const host = memoryHost()
        await make(host)
        const journal = new JournalHost(host)
        const open = () => journal.openForWriting('top', format)
        const disk = await open()
        const model = new DiskModel(disk, await wholeOf(disk), open)
        const moments: Moment[] = []
        const note = (durable: boolean): void => {
          moments.push({ from: journal.time, bytes: model.bytes.slice(), durable })
        }
        note(true)
        for (const step of churn(random, 12, disk.size)) {
          await model.step(step)
          note(step.do === 'flush')
        }
        await model.disk.close()
        note(true)
        await cutAtRandom(journal, random, { seed: runSeed, end }, async (left, time) => {
          const bytes = await contentOf(left, 'top', format)
          expectOneOf(
            bytes,
            possible(moments, time).map((moment) => moment.bytes),
          )
          await expectSound(left, 'top', format)
          expect(Buffer.compare(await contentOf(left, 'top', format), bytes), 'content after a repair').toBe(0)
        })
      } while (Date.now() < end)
    },
    timeFor(200),
  )
})

interface Committed {
  base: string
  options: string
  top: string
  topOptions?: string
  /** The overlay records which content it was made over, and two files cannot change at once: between the two it is refused. */
  identified?: RegExp
}

const commits: readonly Committed[] = [
  { base: 'raw', options: '', top: 'qcow2' },
  { base: 'parallels', options: '', top: 'qcow2' },
  { base: 'vdi', options: 'static=on', top: 'qcow2' },
  { base: 'vhd', options: 'subformat=fixed,force_size=on', top: 'qcow2' },
  { base: 'vhdx', options: 'subformat=fixed', top: 'qcow2' },
  { base: 'vmdk', options: 'subformat=twoGbMaxExtentSparse', top: 'qcow2' },
  { base: 'qcow', options: '', top: 'qcow' },
  { base: 'qed', options: '', top: 'qed' },
  { base: 'vhd', options: 'force_size=on', top: 'vhd', topOptions: 'force_size=on' },
  { base: 'vdi', options: '', top: 'vdi', identified: /was changed since/ },
  { base: 'vhdx', options: '', top: 'vhdx', identified: /is another disk than/ },
  { base: 'vmdk', options: '', top: 'vmdk', identified: /is not the one that this image was made from/ },
]

describe('power cuts of commits', () => {
  const runSeed = seed('commit cuts')

  it.each(commits.map((row) => [`${row.top} into ${row.base} ${row.options}`.trim(), row] as const))(
    '%s',
    async (_name, { base, options, top, topOptions, identified }) => {
      const random = new Random(runSeed)
      const host = memoryHost()
      await host.create({ name: 'base', format: base, options, size })
      await closing(await host.openForWriting('base', base), (disk) => disk.write(100_000, random.bytes(900_000)))
      const old = await contentOf(host, 'base', base)
      await host.create({ name: 'top', format: top, options: topOptions, size, parent: { name: 'base', format: base } })
      await closing(await host.openForWriting('top', top), async (disk) => {
        for (const step of churn(random, 10, size)) if (step.do === 'write') await disk.write(step.at, random.bytes(1))
        await disk.write(0, random.bytes(200_000))
        await disk.write(1_500_000, random.bytes(1_300_000))
      })
      const wanted = await contentOf(host, 'top', top)
      const journal = new JournalHost(host)
      await commit(journal, top, base)
      const end = Date.now() + budget(200)
      let refused = 0
      await cutAtRandom(journal, random, { seed: runSeed, end }, async (left) => {
        expectOneOf(await contentOf(left, 'base', base), [old, wanted])
        await expectSound(left, 'base', base)
        await expectSound(left, 'top', top)
        try {
          const shown = await contentOf(left, 'top', top)
          expect(Buffer.compare(shown, wanted), 'what the overlay shows').toBe(0)
        } catch (error) {
          if (identified?.test((error as Error).message) !== true) throw error
          refused++
        }
      })
      const done = await journal.cut(() => 1)
      expect(Buffer.compare(await contentOf(done, 'base', base), wanted), 'the base in the end').toBe(0)
      expect(Buffer.compare(await contentOf(done, 'top', top), wanted), 'the overlay in the end').toBe(0)
      console.info(`commit of ${top} into ${base}: the overlay was refused ${refused} times`)
    },
    timeFor(200),
  )

  /** As the command does it: the base is opened once, and handed to the chain. */
  async function commit(host: JournalHost, top: string, base: string): Promise<void> {
    const under = await host.openForWriting('base', base)
    const gate = { resolve: host.gate.resolve, open: async () => under }
    const disk = await openDisk(host.file('top'), {
      formats: allFormats,
      format: top,
      mode: 'write',
      gate,
      codecs: nodeCodecs,
    })
    expect(isWritable(disk)).toBe(true)
    await commitDisk(disk, under)
    await disk.close()
  }
})
