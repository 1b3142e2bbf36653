/** Differencing VHDX images: what they show of their parent, how the parent is found, what is written into them. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { allFormats, type Disk, type Gate, JournalStore, MemoryStore, openDisk } from '@moraine/engine'
import { openFile } from '@moraine/engine/node'
import { beforeEach, describe, expect, it } from 'vitest'
import { checkFile, closing, createFile, mapOf, openImage, openWritable, withWritable } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { DiskModel, type Step } from '../support/model.ts'
import { type Moment, possible } from '../support/moments.ts'
import { Random, seed } from '../support/random.ts'
import { itemAt, locatorOf, setEntry, setItem } from './structure.ts'

const folder = temporaryFolder()
const mib = 1 << 20
const size = 5 * mib + 4096

async function bytesOf(disk: Disk): Promise<Uint8Array> {
  const bytes = new Uint8Array(disk.size)
  await disk.read(0, bytes)
  return bytes
}

let place: string
let parent: string
let child: string
let content: Uint8Array

/** A parent full of bytes and an empty child beside it; `sector` is the logical one. */
async function makePair(sector: number): Promise<void> {
  place = folder.fresh()
  mkdirSync(place)
  parent = join(place, 'parent.vhdx')
  child = join(place, 'child.avhdx')
  await createFile(parent, 'vhdx', size, 'block_size=1M')
  const bytes = readFileSync(parent)
  setItem(bytes, 'logicalSectorSize', sector)
  setItem(bytes, 'physicalSectorSize', 4096)
  writeFileSync(parent, bytes)
  content = new Random(sector).bytes(size)
  await withWritable(parent, 'vhdx', (disk) => disk.write(0, content))
  await createFile(child, 'vhdx', size, '', { name: 'parent.vhdx', format: 'vhdx' })
}

beforeEach(() => makePair(512))

function churn(random: Random, count: number): Step[] {
  return Array.from({ length: count }, (): Step => {
    const at = random.int(0, size - 1)
    const length = random.int(0, 200_000)
    switch (random.int(0, 6)) {
      case 0:
        return { do: 'zero', at, length, mode: random.bool() ? 'unmap' : 'allocate' }
      case 1:
        return { do: 'discard', at, length }
      case 2:
        return random.bool() ? { do: 'flush' } : { do: 'reopen' }
      case 3:
        return { do: 'several', at, seed: random.int(0, 1e9) }
      default:
        return { do: 'write', at, length, seed: random.int(0, 1e9) }
    }
  })
}

describe('differencing vhdx images', () => {
  it('show the parent, and tell it', async () => {
    await closing(await openImage(child, 'vhdx'), async (disk) => {
      expect(Buffer.compare(await bytesOf(disk), content)).toBe(0)
      expect((await mapOf(disk)).map(({ depth, data }) => ({ depth, data }))).toEqual([{ depth: 1, data: true }])
      expect(disk.info()).toMatchObject({ clusterSize: mib, backing: { name: 'parent.vhdx', format: 'vhdx' } })
    })
    const id = (file: string) =>
      readFileSync(file)
        .subarray(itemAt(readFileSync(file), 'virtualDiskId'))
        .subarray(0, 16)
    expect(id(child)).toEqual(id(parent))
  })

  it.each([512, 4096])('hold what is written into them, sectors of %i', async (sector) => {
    await makePair(sector)
    const before = readFileSync(parent)
    const random = new Random(seed(`vhdx differencing ${sector}`))
    const open = () => openWritable(child, 'vhdx')
    const model = new DiskModel(await open(), content.slice(), open)
    for (const step of churn(random, 60)) {
      await model.step(step)
      if (random.bool(0.2)) await model.compare()
    }
    await model.compare()
    await model.disk.close()
    await closing(await openImage(child, 'vhdx'), async (disk) => {
      expect(Buffer.compare(await bytesOf(disk), model.bytes)).toBe(0)
    })
    expect((await checkFile(child, 'vhdx')).lines).toEqual([])
    expect(Buffer.compare(before, readFileSync(parent)), 'the parent is as it was').toBe(0)
  })

  it.each([512, 4096])('take two requests to one sector at the same time, sectors of %i', async (sector) => {
    await makePair(sector)
    await withWritable(child, 'vhdx', async (disk) => {
      const at = mib + 8 * sector
      const half = sector / 2
      await disk.write(at, new Uint8Array(sector).fill(1))
      // The sector is in the file, and the one behind it is not.
      await Promise.all([
        disk.write(at + half, new Uint8Array(half + sector - 1).fill(2)),
        disk.zero(at, half - 1, 'unmap'),
        disk.write(at + half - 1, new Uint8Array([3])),
      ])
      const wanted = content.slice(at, at + 2 * sector)
      wanted.fill(0, 0, half - 1)
      wanted[half - 1] = 3
      wanted.fill(2, half, 2 * sector - 1)
      const bytes = new Uint8Array(2 * sector)
      await disk.read(at, bytes)
      expect(Buffer.compare(bytes, wanted)).toBe(0)
    })
    expect((await checkFile(child, 'vhdx')).lines).toEqual([])
  })

  it('mark what they hold by sectors, the lowest bit first, and whole blocks by their entry', async () => {
    await withWritable(child, 'vhdx', async (disk) => {
      await disk.write(mib + 512 * 3, new Uint8Array(1024).fill(1))
      await disk.write(2 * mib, new Uint8Array(mib).fill(2))
      await disk.zero(3 * mib, mib, 'unmap')
    })
    const bytes = readFileSync(child)
    const table = Number(bytes.readBigUInt64LE(196_608 + 16 + 16))
    const entry = (index: number) => bytes.readBigUInt64LE(table + index * 8)
    expect([0, 1, 2, 3, 4].map((block) => Number(entry(block) & 7n))).toEqual([0, 7, 6, 2, 0])
    expect(entry(3)).toBe(2n)
    const bitmap = entry(4096)
    expect(bitmap & 7n).toBe(6n)
    // Block 1 begins at sector 2048.
    expect(bytes[Number(bitmap & ~0xfffffn) + 2048 / 8]).toBe(0b0001_1000)
    const map = await closing(await openImage(child, 'vhdx'), mapOf)
    expect(map.map(({ start, length, depth, zero }) => [start, length, depth, zero])).toEqual([
      [0, mib + 1536, 1, false],
      [mib + 1536, 1024, 0, false],
      [mib + 2560, mib - 2560, 1, false],
      [2 * mib, mib, 0, false],
      [3 * mib, mib, 0, true],
      [4 * mib, mib + 4096, 1, false],
    ])
  })

  it.each([
    [0, 'parent'],
    [1, 'zeros'],
    [2, 'zeros'],
    [3, 'zeros'],
    [5, 'zeros'],
    [4, 'corrupt'],
    [7, 'corrupt'],
  ])('a block of state %i shows %s', async (state, shown) => {
    const bytes = readFileSync(child)
    setEntry(bytes, 1, BigInt(state))
    writeFileSync(child, bytes)
    await closing(await openImage(child, 'vhdx'), async (disk) => {
      const part = new Uint8Array(1000)
      const read = disk.read(mib + 5, part)
      if (shown === 'corrupt') return expect(read).rejects.toMatchObject({ kind: 'corrupt' })
      await read
      const wanted = shown === 'parent' ? content.subarray(mib + 5, mib + 1005) : new Uint8Array(1000)
      return expect(Buffer.compare(part, wanted)).toBe(0)
    })
  })

  it('stand in a chain of three', async () => {
    await withWritable(child, 'vhdx', (disk) => disk.write(512, new Uint8Array(512).fill(9)))
    const top = join(place, 'top.avhdx')
    await createFile(top, 'vhdx', size + mib, '', { name: 'child.avhdx', format: 'vhdx' })
    await closing(await openImage(top, 'vhdx'), async (disk) => {
      const bytes = new Uint8Array(size + mib)
      bytes.set(content)
      bytes.fill(9, 512, 1024)
      expect(Buffer.compare(await bytesOf(disk), bytes)).toBe(0)
      expect((await mapOf(disk)).map(({ depth }) => depth)).toEqual([2, 1, 2, 0])
    })
  })
})

describe('the parent of a vhdx image', () => {
  function relink(pairs: Record<string, string>): void {
    const bytes = readFileSync(child)
    setItem(bytes, 'parentLocator', locatorOf(pairs))
    writeFileSync(child, bytes)
  }
  const linkage = (): string => {
    const image = readFileSync(parent)
    const current = image.readBigUInt64LE(65_536 + 8) > image.readBigUInt64LE(131_072 + 8) ? 65_536 : 131_072
    const b = [...image.subarray(current + 32, current + 48)].map((byte) => byte.toString(16).padStart(2, '0'))
    const of = (...at: number[]) => at.map((i) => b[i]).join('')
    return `{${of(3, 2, 1, 0)}-${of(5, 4)}-${of(7, 6)}-${of(8, 9)}-${of(10, 11, 12, 13, 14, 15)}}`
  }

  it.each(['relative_path', 'volume_path', 'absolute_win32_path'])('is found by %s', async (key) => {
    const there = join(place, 'sub folder')
    mkdirSync(there)
    writeFileSync(join(there, 'p.vhdx'), readFileSync(parent))
    const name = key === 'relative_path' ? '.\\sub folder\\p.vhdx' : join(there, 'p.vhdx')
    relink({ parent_linkage: linkage().toUpperCase(), [key]: name })
    await closing(await openImage(child, 'vhdx'), async (disk) => {
      expect(Buffer.compare(await bytesOf(disk), content)).toBe(0)
    })
  })

  it('is looked for under the next name where one leads to nothing, or to another disk', async () => {
    await createFile(join(place, 'other.vhdx'), 'vhdx', size, 'block_size=1M')
    for (const first of ['..\\nothing.vhdx', 'other.vhdx']) {
      relink({ absolute_win32_path: parent, parent_linkage: linkage(), relative_path: first })
      await closing(await openImage(child, 'vhdx'), async (disk) => {
        expect(Buffer.compare(await bytesOf(disk), content)).toBe(0)
      })
    }
  })

  it('may have the identity of the second linkage', async () => {
    const other = '{00000000-0000-0000-0000-000000000001}'
    relink({ parent_linkage: other, parent_linkage2: linkage(), relative_path: 'parent.vhdx' })
    await closing(await openImage(child, 'vhdx'), (disk) => bytesOf(disk))
  })

  it('is refused when it was written since', async () => {
    await withWritable(parent, 'vhdx', (disk) => disk.write(0, new Uint8Array(1)))
    await expect(openImage(child, 'vhdx')).rejects.toMatchObject({ kind: 'invalid', field: 'parent_linkage' })
    // Nothing else is opened to tell the facts.
    await closing(await openImage(child, 'vhdx', 'info'), async (disk) => expect(disk.size).toBe(size))
  })

  it('is named when it is missing, and goes through the gate', async () => {
    relink({ parent_linkage: linkage(), relative_path: '..\\lost\\p.vhdx', volume_path: '\\\\?\\Volume{1}\\p.vhdx' })
    await expect(openImage(child, 'vhdx')).rejects.toMatchObject({
      kind: 'missing',
      message: expect.stringContaining('lost/p.vhdx'),
    })
    const asked: string[] = []
    const gate: Gate = {
      resolve: ({ name }) => name,
      open: async ({ name, role, mode }) => {
        asked.push(`${role} ${mode} ${name}`)
        return openFile(parent)
      },
    }
    const disk = await openDisk(await openFile(child), { formats: allFormats, gate })
    await disk.close()
    expect(asked).toEqual(['parent read ../lost/p.vhdx'])
    await expect(openDisk(await openFile(child), { formats: allFormats })).rejects.toMatchObject({ kind: 'denied' })
  })

  it('is not the image itself, nor one with other sectors', async () => {
    relink({ parent_linkage: linkage(), relative_path: 'child.avhdx' })
    await expect(openImage(child, 'vhdx')).rejects.toMatchObject({ kind: 'invalid' })
    relink({ parent_linkage: linkage(), relative_path: 'parent.vhdx' })
    const bytes = readFileSync(parent)
    setItem(bytes, 'logicalSectorSize', 4096)
    writeFileSync(parent, bytes)
    await expect(openImage(child, 'vhdx')).rejects.toMatchObject({ kind: 'invalid', field: 'logical sector size' })
  })

  it.each([
    ['no linkage', { relative_path: 'parent.vhdx' }, 'corrupt'],
    ['no name', { parent_linkage: '{1}' }, 'corrupt'],
  ])('is not looked for with %s', async (_name, pairs, kind) => {
    relink(pairs as unknown as Record<string, string>)
    await expect(openImage(child, 'vhdx', 'info')).rejects.toMatchObject({ kind })
  })

  it('is not looked for by a locator of another type, or by texts outside of it', async () => {
    const bytes = readFileSync(child)
    const at = itemAt(bytes, 'parentLocator')
    const bent = (edit: (copy: Buffer) => void) => {
      const copy = Buffer.from(bytes)
      edit(copy)
      writeFileSync(child, copy)
      return openImage(child, 'vhdx', 'info')
    }
    await expect(bent((copy) => copy.fill(1, at, at + 16))).rejects.toMatchObject({ kind: 'unsupported' })
    await expect(bent((copy) => copy.writeUInt16LE(0xffff, at + 18))).rejects.toMatchObject({ kind: 'corrupt' })
    await expect(bent((copy) => copy.writeUInt32LE(0xffff_fff0, at + 20))).rejects.toMatchObject({ kind: 'corrupt' })
  })
})

describe('power cuts of differencing vhdx images', () => {
  it('leave what was flushed, or what was written later', async () => {
    const runSeed = seed('vhdx differencing power-cut')
    const random = new Random(runSeed)
    const below = MemoryStore.from(readFileSync(parent), 'parent.vhdx')
    const gate: Gate = { resolve: ({ name }) => name, open: async () => below }
    const journal = new JournalStore(MemoryStore.from(readFileSync(child), 'child.avhdx'))
    const open = (store: JournalStore | MemoryStore, mode: 'read' | 'write') =>
      openDisk(store, { formats: allFormats, format: 'vhdx', gate, mode })
    const reopen = async () => (await open(journal, 'write')) as DiskModel['disk']
    const model = new DiskModel(await reopen(), content.slice(), reopen)
    const moments: Moment[] = []
    const note = (durable: boolean) =>
      moments.push({ from: journal.entries.length, bytes: model.bytes.slice(), durable })
    note(true)
    for (const step of churn(random, 25)) {
      await model.step(step)
      note(step.do === 'flush' || step.do === 'reopen')
    }
    await model.disk.close()
    note(true)
    for (let i = 0; i < 25; i++) {
      const time = i === 0 ? journal.entries.length : random.int(1, journal.entries.length)
      const since = possible(moments, time)
      const image = await journal.cut(() => random.next(), time)
      for (const mode of ['read', 'write'] as const) {
        const bytes = await closing(await open(image, mode), bytesOf)
        const at = bytes.findIndex((byte, index) => !since.some((moment) => moment.bytes[index] === byte))
        if (at >= 0) throw new Error(`MORAINE_SEED=${runSeed}, before entry ${time}, ${mode}: byte ${at} was never so`)
      }
    }
  })
})
