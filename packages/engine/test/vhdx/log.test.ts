/** The log of VHDX images: replayed in memory or on disk, as QEMU replays it; and the identifiers that tell of writing. */
import { readFileSync, writeFileSync } from 'node:fs'
import { type Disk, JournalStore, MemoryStore } from '@moraine/engine'
import { describe, expect, it } from 'vitest'
import { checkIn, createIn, openForWritingIn, openIn, wholeOf } from '../support/block-subject.ts'
import { closing } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { bytesSha, guestSha, tryQemuImg } from '../support/qemu.ts'
import { Random, seed } from '../support/random.ts'
import { fixChecksum } from './structure.ts'
import { subject } from './subject.ts'

const folder = temporaryFolder()
const kind = { options: 'block_size=1M', size: 6 << 20 }
const slots = [65_536, 131_072]

/** The header that counts: its place, number and identifiers in hex. */
function headerOf(image: Uint8Array) {
  const view = new DataView(image.buffer, image.byteOffset)
  const number = (at: number): bigint => view.getBigUint64(at + 8, true)
  const [first = 0, second = 0] = slots
  const at = number(first) > number(second) ? first : second
  const guid = (offset: number): string => Buffer.from(image.subarray(at + offset, at + offset + 16)).toString('hex')
  return { at, sequence: number(at), fileWrite: guid(16), dataWrite: guid(32), log: guid(48) }
}

const noLog = '0'.repeat(32)

/** Writes into an image on a journal; cuts of it whose log is alive. */
async function liveLogs(random: Random, most: number): Promise<MemoryStore[]> {
  const journal = new JournalStore(await createIn(subject, kind))
  await closing(await openForWritingIn(subject, journal), async (disk) => {
    for (let i = 0; i < 4; i++) {
      await disk.write(random.int(0, kind.size - 700_000), random.bytes(700_000))
      await disk.flush()
    }
  })
  const images: MemoryStore[] = []
  for (let time = 1; time <= journal.entries.length && images.length < most; time++) {
    const image = await journal.cut(() => random.next(), time)
    if (headerOf(image.bytes()).log !== noLog) images.push(image)
  }
  expect(images.length).toBeGreaterThan(2)
  return images
}

describe('the log of a vhdx image', () => {
  it('is replayed in memory as on disk, and reading changes nothing', async () => {
    for (const image of await liveLogs(new Random(seed('vhdx log')), 12)) {
      const before = image.bytes()
      const read = await closing(await openIn(subject, image), wholeOf)
      expect(Buffer.compare(image.bytes(), before), 'the file after reading').toBe(0)
      const told = await checkIn(subject, image, 'none')
      expect([told.result.corruptions, told.lines.length]).toEqual([0, 1])
      const { result } = await checkIn(subject, image, 'all')
      expect([result.corruptions, result.corruptionsFixed]).toEqual([0, 1])
      expect(headerOf(image.bytes()).log).toBe(noLog)
      expect(Buffer.compare(await closing(await openIn(subject, image), wholeOf), read)).toBe(0)
    }
  })

  it('counts for nothing when its entry is damaged, or of another time', async () => {
    const [image] = await liveLogs(new Random(seed('vhdx damaged log')), 3)
    if (image === undefined) throw new Error('no image')
    const bytes = image.bytes()
    for (const at of [4, 16, 32, 4096 + 100]) {
      const bent = bytes.slice()
      bent[(1 << 20) + at] = (bent[(1 << 20) + at] as number) ^ 0x55
      const store = MemoryStore.from(bent)
      await closing(await openIn(subject, store), (disk: Disk) => wholeOf(disk))
      const { result } = await checkIn(subject, store, 'all')
      expect([result.corruptions, result.corruptionsFixed]).toEqual([0, 0])
    }
  })

  it('refuses a file that is shorter than it was', async () => {
    const [image] = await liveLogs(new Random(seed('vhdx cut log')), 3)
    if (image === undefined) throw new Error('no image')
    const bytes = image.bytes().subarray(0, 8 << 20)
    await expect(openIn(subject, MemoryStore.from(bytes))).rejects.toMatchObject({
      kind: 'corrupt',
      field: 'flushed file offset',
    })
  })

  it('refuses an entry that would write past the end', async () => {
    const [image] = await liveLogs(new Random(seed('vhdx far log')), 3)
    if (image === undefined) throw new Error('no image')
    const bytes = image.bytes()
    const log = 1 << 20
    const view = new DataView(bytes.buffer)
    view.setBigUint64(log + 64 + 16, 1n << 50n, true)
    fixChecksum(bytes, log, view.getUint32(log + 8, true))
    await expect(openIn(subject, MemoryStore.from(bytes))).rejects.toMatchObject({
      kind: 'corrupt',
      field: 'log entry',
    })
  })
})

describeWith(['qemu-img'], 'the log of a vhdx image and QEMU', () => {
  it('is replayed to the same bytes', async () => {
    for (const image of await liveLogs(new Random(seed('vhdx log and QEMU')), 6)) {
      const read = await closing(await openIn(subject, image), wholeOf)
      const file = folder.fresh('.vhdx')
      writeFileSync(file, image.bytes())
      const { code, stderr } = await tryQemuImg(['check', '-r', 'all', '-f', 'vhdx', file])
      expect(code, stderr).toBe(0)
      expect(headerOf(readFileSync(file)).log).toBe(noLog)
      expect(await guestSha(file, 'vhdx')).toBe(bytesSha(read))
    }
  })
})

describe('the identifiers of a vhdx image', () => {
  it('stay when it is opened for writing and nothing is written', async () => {
    const store = await createIn(subject, kind)
    const before = store.bytes()
    const disk = await openForWritingIn(subject, store)
    await disk.flush()
    await disk.close()
    expect(Buffer.compare(store.bytes(), before)).toBe(0)
  })

  it('change with the first write, once, in both headers', async () => {
    const store = await createIn(subject, kind)
    const before = headerOf(store.bytes())
    const disk = await openForWritingIn(subject, store)
    await disk.write(0, new Uint8Array(512).fill(1))
    const during = headerOf(store.bytes())
    expect(during.fileWrite).not.toBe(before.fileWrite)
    expect(during.dataWrite).not.toBe(before.dataWrite)
    await disk.write(3 << 20, new Uint8Array(512).fill(1))
    await disk.close()
    const bytes = store.bytes()
    const after = headerOf(bytes)
    expect([after.fileWrite, after.dataWrite, after.log]).toEqual([during.fileWrite, during.dataWrite, noLog])
    const [first, second] = slots.map((at) => Buffer.from(bytes.subarray(at + 16, at + 80)).toString('hex'))
    expect(first).toBe(second)
  })

  it('are written over the damaged header first, and the sound one is kept', async () => {
    for (const at of slots) {
      const store = await createIn(subject, kind)
      await store.write(at + 100, new Uint8Array(1).fill(1))
      const disk = await openForWritingIn(subject, store)
      await disk.write(0, new Uint8Array(512).fill(1))
      await disk.close()
      expect((await checkIn(subject, store, 'none')).lines).toEqual([])
    }
  })
})
