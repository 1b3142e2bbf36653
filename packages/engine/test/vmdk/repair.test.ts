/** Repairs of VMDK: directories and tables from their copies and the other way round, entries that point nowhere, what is used twice. */

import { writeFileSync } from 'node:fs'
import { checkImage, type MemoryStore, type WritableDisk } from '@moraine/engine'
import { describe, expect, it } from 'vitest'
import { createIn, openForWritingIn, openIn, type Subject, wholeOf } from '../support/block-subject.ts'
import { closing, formatOf } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { bytesSha, expectClean, guestSha } from '../support/qemu.ts'
import { Random, seed } from '../support/random.ts'
import { subject } from './subject.ts'

const size = 80 << 20
const sector = 512
/** Two tables (a third begins), directories in sectors 21 and 34: 12 sectors for three tables behind each. */
const place = { redundantDirectory: 21, redundantTable: 22, directory: 34, table: 35 } as const
const grain = 65_536

async function make(options = ''): Promise<{ store: MemoryStore; content: Uint8Array }> {
  const store = await createIn(subject as Subject, { options, size })
  const content = new Uint8Array(size)
  await closing(await openForWritingIn(subject, store), async (disk: WritableDisk) => {
    for (const at of [0, 3, 40, 513, 1030]) {
      const bytes = new Random(at + 1).bytes(grain)
      await disk.write(at * grain, bytes)
      content.set(bytes, at * grain)
    }
  })
  return { store, content }
}

async function bend(store: MemoryStore, edit: (view: DataView) => void): Promise<void> {
  const bytes = store.bytes()
  edit(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength))
  await store.write(0, bytes)
}

async function check(store: MemoryStore, repair: 'none' | 'all') {
  const lines: string[] = []
  const disk = repair === 'none' ? openIn(subject, store, 'check') : openForWritingIn(subject, store, 'check')
  const result = await closing(await disk, (opened) =>
    checkImage(formatOf('vmdk'), opened, { repair, thorough: true, report: (line) => lines.push(line) }),
  )
  return { ...result, lines }
}

async function content(store: MemoryStore): Promise<Uint8Array> {
  return closing(await openIn(subject, store), wholeOf)
}

const u32 = (view: DataView, at: number): number => view.getUint32(at, true)
const set = (view: DataView, at: number, value: number): void => view.setUint32(at, value, true)
const entry = (table: number, index: number): number => table * sector + index * 4
const far = 0x7000_0000

interface Damage {
  name: string
  edit(view: DataView): void
  /** How many corruptions; undefined where that is chance. */
  found: number | undefined
  line: RegExp
  /** Grains whose bytes are lost: they read as zeros. */
  lost?: number[]
  /** Grains that show what another one holds. */
  same?: [grain: number, as: number][]
}

const damages: Damage[] = [
  {
    name: 'a directory that is lost',
    edit: (view) => {
      for (const i of [0, 1, 2]) set(view, entry(place.directory, i), 0)
    },
    found: 3,
    line: /grain directory entry 0 is empty, the redundant one is not/,
  },
  {
    name: 'a directory that points outside the file',
    edit: (view) => set(view, entry(place.directory, 1), far),
    found: 1,
    line: /grain directory entry 1 points outside the file/,
  },
  {
    name: 'a redundant directory that is lost',
    edit: (view) => {
      for (const i of [0, 1, 2]) set(view, entry(place.redundantDirectory, i), 0)
    },
    found: 3,
    line: /redundant grain directory entry 0 is empty, the other is not/,
  },
  {
    name: 'a redundant directory that points outside the file',
    edit: (view) => set(view, entry(place.redundantDirectory, 0), far),
    found: 1,
    line: /redundant grain directory entry 0 points outside the file/,
  },
  {
    name: 'entries that point outside the file, in one table',
    edit: (view) => {
      set(view, entry(place.table, 3), far)
      set(view, entry(place.table, 40), far + 1)
    },
    found: 2,
    line: /grain 3 points outside the file/,
  },
  {
    name: 'an entry that points outside the file, in both tables',
    edit: (view) => {
      for (const table of [place.table, place.redundantTable]) set(view, entry(table, 3), far)
    },
    found: 1,
    line: /grain 3 points outside the file/,
    lost: [3],
  },
  {
    name: 'a copy that differs',
    edit: (view) => set(view, entry(place.redundantTable, 7), 128),
    found: 1,
    line: /the redundant copy of grain table 0 differs/,
  },
  {
    name: 'a copy of zeros',
    edit: (view) => {
      for (let i = 0; i < 512; i++) set(view, entry(place.redundantTable, i), 0)
    },
    found: 1,
    line: /the redundant copy of grain table 0 differs/,
  },
  {
    name: 'a grain of two places',
    edit: (view) => {
      for (const table of [place.table, place.redundantTable]) {
        set(view, entry(table, 9), u32(view, entry(table, 3)))
      }
    },
    found: 1,
    line: /grain 9 lies over another/,
    same: [[9, 3]],
  },
  {
    name: 'grains that overlap in part',
    edit: (view) => {
      for (const table of [place.table, place.redundantTable]) {
        set(view, entry(table, 9), u32(view, entry(table, 3)) + 1)
      }
    },
    found: 2,
    line: /grain 9 lies over another/,
  },
  {
    name: 'a directory that points at a grain and at the descriptor',
    edit: (view) => {
      set(view, entry(place.directory, 0), u32(view, entry(place.table, 3)))
      set(view, entry(place.directory, 1), 3)
    },
    found: undefined,
    line: /grain directory entry 1 points outside the file/,
  },
  {
    name: 'one table for two',
    edit: (view) => {
      set(view, entry(place.directory, 1), place.table)
      set(view, entry(place.redundantDirectory, 1), place.redundantTable)
    },
    found: 4,
    line: /grain table 1 is that of other grains, too/,
    lost: [513],
    same: [
      [512, 0],
      [515, 3],
      [552, 40],
    ],
  },
]

describe('repairs of VMDK', () => {
  it('find nothing in a sound image, whatever its grains', async () => {
    for (const options of ['', 'zeroed_grain=on', 'subformat=streamOptimized']) {
      const { store } = await make(options)
      expect(await check(store, 'none'), options).toMatchObject({ corruptions: 0, lines: [] })
      if (options !== 'subformat=streamOptimized') {
        const before = store.bytes().slice()
        expect(await check(store, 'all')).toMatchObject({ corruptions: 0, corruptionsFixed: 0 })
        expect(Buffer.compare(store.bytes(), before), 'nothing is written').toBe(0)
      }
    }
  })

  it.each(damages.map((damage) => [damage.name, damage] as const))('%s', async (_name, damage) => {
    const made = await make()
    const { store } = made
    await bend(store, damage.edit)
    const found = await check(store, 'none')
    if (damage.found === undefined) expect(found.corruptions).toBeGreaterThan(0)
    else expect(found.corruptions, `${found.lines}`).toBe(damage.found)
    expect(found.lines.join('\n')).toMatch(damage.line)
    const fixed = await check(store, 'all')
    expect([fixed.corruptions, fixed.corruptionsFixed], `${fixed.lines}`).toEqual([0, found.corruptions])
    expect(await check(store, 'none')).toMatchObject({ corruptions: 0, lines: [] })
    const expected = made.content.slice()
    for (const lost of damage.lost ?? []) expected.fill(0, lost * grain, (lost + 1) * grain)
    for (const [at, as] of damage.same ?? [])
      expected.set(made.content.subarray(as * grain, (as + 1) * grain), at * grain)
    const now = await content(store)
    if (damage.name === 'grains that overlap in part') {
      expect(Buffer.compare(now.subarray(0, 9 * grain), expected.subarray(0, 9 * grain))).toBe(0)
    } else expect(Buffer.compare(now, expected)).toBe(0)
    // What is written next into one of two goes nowhere else.
    await closing(await openForWritingIn(subject, store), (disk) =>
      disk.write(9 * grain, new Uint8Array(grain).fill(9)),
    )
    now.fill(9, 9 * grain, 10 * grain)
    expect(Buffer.compare(await content(store), now)).toBe(0)
  })

  it('mend random damage so that a second check finds nothing', async () => {
    const random = new Random(seed('vmdk repair'))
    for (let round = 0; round < 12; round++) {
      const { store } = await make(random.bool() ? '' : 'zeroed_grain=on')
      await bend(store, (view) => {
        for (let i = 0; i < 6; i++) {
          const table = random.pick([place.directory, place.redundantDirectory, place.table, place.redundantTable])
          const value = random.pick([0, 1, far, place.table, 128, 256, 300, random.int(0, 2000)])
          set(view, entry(table, random.int(0, table === place.directory ? 2 : 60)), value)
        }
      })
      await check(store, 'all').catch((error) => expect(error).toMatchObject({ kind: 'limit' }))
      const after = await check(store, 'none')
      expect(after.corruptions, `${after.lines}`).toBe(0)
    }
  })
})

describeWith(['qemu-img'], 'repaired VMDK images and QEMU', () => {
  const folder = temporaryFolder()
  it.each(damages.map((damage) => [damage.name, damage] as const))('%s', async (_name, damage) => {
    const { store } = await make()
    await bend(store, damage.edit)
    await check(store, 'all')
    const file = folder.fresh('.vmdk')
    writeFileSync(file, store.bytes())
    await expectClean(file, 'vmdk')
    expect(await guestSha(file, 'vmdk')).toBe(bytesSha(await content(store)))
  })
})
