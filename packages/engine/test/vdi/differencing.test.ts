/** Differencing VDI images: the parent by UUID, as VirtualBox names and registers it; what is discarded; copies of whole blocks. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { allFormats, type Disk, openDisk } from '@moraine/engine'
import { fileGate, nodeCodecs, openFile } from '@moraine/engine/node'
import { beforeEach, describe, expect, it } from 'vitest'
import { checkFile, closing, createFile, mapOf, openImage, openWritable, withWritable } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { Random } from '../support/random.ts'

const folder = temporaryFolder()
const size = (3 << 20) + 1024

/** The UUID at a place of the header, as VirtualBox writes it in names. */
function uuidAt(file: string, at: number): string {
  const b = readFileSync(file).subarray(at, at + 16)
  const hex = [...[3, 2, 1, 0], ...[5, 4], ...[7, 6], ...[8, 9], ...[10, 11, 12, 13, 14, 15]]
    .map((i) => (b[i] as number).toString(16).padStart(2, '0'))
    .join('')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

/** Makes `child` an image over `parent`, as it is now. */
function link(child: string, parent: string): void {
  const bytes = readFileSync(child)
  const above = readFileSync(parent)
  bytes.writeUInt32LE(4, 76)
  above.copy(bytes, 424, 392, 408)
  above.copy(bytes, 440, 408, 424)
  writeFileSync(child, bytes)
}

async function bytesOf(disk: Disk): Promise<Uint8Array> {
  const bytes = new Uint8Array(disk.size)
  await disk.read(0, bytes)
  return bytes
}

/** A machine's folder: base image, folder of snapshots with a child. */
let machine: string
let base: string
let child: string
let content: Uint8Array

beforeEach(async () => {
  machine = join(folder.fresh(), 'Machine & Co')
  mkdirSync(join(machine, 'Snapshots'), { recursive: true })
  base = join(machine, 'Disk one.vdi')
  await createFile(base, 'vdi', size)
  content = new Random(5).bytes(size)
  await withWritable(base, 'vdi', (disk) => disk.write(0, content))
  child = join(machine, 'Snapshots', 'child.vdi')
  await createFile(child, 'vdi', size)
  link(child, base)
  const location = 'Disk one.vdi'
  const other = '<HardDisk uuid="{11111111-2222-3333-4444-555555555555}" location="x.vdi" format="VDI"/>'
  const registry = `<HardDisk uuid="{${uuidAt(base, 392)}}" location="${location}" format="VDI" type="Normal">${other}</HardDisk>`
  writeFileSync(join(machine, 'Machine & Co.vbox'), `<?xml version="1.0"?><VirtualBox>${registry}</VirtualBox>`)
})

describe('differencing vdi images', () => {
  it('show the parent that the registry of the machine names', async () => {
    await closing(await openImage(child, 'vdi'), async (disk) => {
      expect(disk.parent?.name).toBe(`${machine}/Snapshots/../Disk one.vdi`)
      expect(Buffer.compare(await bytesOf(disk), content)).toBe(0)
      expect((await mapOf(disk)).map(({ depth, data }) => ({ depth, data }))).toEqual([{ depth: 1, data: true }])
    })
  })

  it('show the parent that lies beside them under its UUID', async () => {
    const beside = join(machine, 'Snapshots', `{${uuidAt(base, 392)}}.vdi`)
    writeFileSync(beside, readFileSync(base))
    await closing(await openImage(child, 'vdi'), async (disk) => {
      expect(disk.parent?.name).toBe(beside)
      expect(Buffer.compare(await bytesOf(disk), content)).toBe(0)
    })
  })

  it('say which parent is missing', async () => {
    writeFileSync(join(machine, 'Machine & Co.vbox'), '<VirtualBox/>')
    await expect(openImage(child, 'vdi')).rejects.toMatchObject({
      kind: 'missing',
      message: expect.stringContaining(uuidAt(base, 392)),
    })
    // info opens no other file, and tells the parent.
    const info = await closing(await openImage(child, 'vdi', 'info'), async (disk) => disk.info())
    expect(info.backing).toEqual({ name: `{${uuidAt(base, 392)}}.vdi`, format: 'vdi' })
  })

  it('refuse another image in the place of the parent, and a parent that was changed', async () => {
    const beside = join(machine, 'Snapshots', `{${uuidAt(base, 392)}}.vdi`)
    await createFile(beside, 'vdi', size)
    await expect(openImage(child, 'vdi')).rejects.toMatchObject({ kind: 'invalid', field: 'uuid_link' })
    writeFileSync(beside, readFileSync(base))
    await withWritable(beside, 'vdi', (disk) => disk.write(0, new Uint8Array(1)))
    await expect(openImage(child, 'vdi')).rejects.toMatchObject({ kind: 'invalid', field: 'uuid_parent_modification' })
  })

  it('are not their own parent, nor opened past a closed gate', async () => {
    const beside = join(machine, 'Snapshots', `{${uuidAt(base, 392)}}.vdi`)
    writeFileSync(beside, readFileSync(child))
    // The file under the parent's name is an image over the same parent: it finds itself.
    await expect(openImage(beside, 'vdi')).rejects.toMatchObject({ kind: 'invalid' })
    const closed = openDisk(await openFile(child), { formats: allFormats, format: 'vdi', codecs: nodeCodecs })
    await expect(closed).rejects.toMatchObject({ kind: 'denied' })
  })

  it('copy what the parent shows around a write, and leave the parent alone', async () => {
    const before = readFileSync(base)
    const bytes = content.slice()
    const random = new Random(6)
    await closing(await openWritable(child, 'vdi'), async (disk) => {
      for (const [at, length] of [
        [1_500_000, 3000],
        [1_048_570, 12],
        [size - 5, 5],
        [2_200_000, 70_000],
      ] as const) {
        const part = random.bytes(length)
        bytes.set(part, at)
        await disk.write(at, part)
      }
      // Several at once, in one block that has no place yet.
      const parts = [0, 300_000, 600_000].map((at) => ({ at, part: random.bytes(1000) }))
      await Promise.all(parts.map(({ at, part }) => disk.write(at, part)))
      for (const { at, part } of parts) bytes.set(part, at)
      expect(Buffer.compare(await bytesOf(disk), bytes)).toBe(0)
    })
    await closing(await openImage(child, 'vdi'), async (disk) => {
      expect(Buffer.compare(await bytesOf(disk), bytes)).toBe(0)
    })
    expect(Buffer.compare(before, readFileSync(base))).toBe(0)
    expect((await checkFile(child, 'vdi')).lines).toEqual([])
  })

  it('hide the parent with discarded blocks', async () => {
    const bytes = content.slice()
    await closing(await openWritable(child, 'vdi'), async (disk) => {
      await disk.zero(500_000, 2_000_000, 'unmap')
      bytes.fill(0, 500_000, 2_500_000)
      expect(Buffer.compare(await bytesOf(disk), bytes)).toBe(0)
    })
    // Block 1 lies in the range whole.
    expect(readFileSync(child).readUInt32LE(512 + 4)).toBe(0xffff_fffe)
    await closing(await openImage(child, 'vdi'), async (disk) => {
      expect(Buffer.compare(await bytesOf(disk), bytes)).toBe(0)
    })
    expect((await checkFile(child, 'vdi')).lines).toEqual([])
  })

  it('stand in a chain of three', async () => {
    const top = join(machine, 'Snapshots', 'top.vdi')
    const middle = join(machine, 'Snapshots', `{${uuidAt(child, 392)}}.vdi`)
    writeFileSync(middle, readFileSync(child))
    await withWritable(middle, 'vdi', (disk) => disk.write(10, new Uint8Array(10).fill(9)))
    await createFile(top, 'vdi', size)
    link(top, middle)
    const bytes = content.slice().fill(9, 10, 20)
    await closing(await openImage(top, 'vdi'), async (disk) => {
      expect(Buffer.compare(await bytesOf(disk), bytes)).toBe(0)
      expect((await mapOf(disk)).map(({ depth }) => depth)).toEqual([1, 2])
    })
    expect(fileGate().resolve({ from: top, name: 'x' })).toBe(join(machine, 'Snapshots', 'x'))
  })
})
