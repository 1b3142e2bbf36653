/** What xorriso and genisoimage write, moraine reads: trees, contents, attributes, boot catalogues, hybrid and bridge images. */
import { readFileSync, writeFileSync } from 'node:fs'
import { countingSource, type IsoFileSystem, type IsoNames, MemoryStore, openIsoFileSystem } from '@moraine/engine'
import { openFile } from '@moraine/engine/node'
import { expect, it } from 'vitest'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith, runOk } from '../support/process.ts'
import {
  describeFiles,
  expectedFiles,
  kindAndContent,
  plantTree,
  sourceSha,
  type Tree,
  treeTime,
} from './support/iso.ts'

const folder = temporaryFolder()
const long = (length: number, end = ''): string => 'abcdefghi-'.repeat(30).slice(0, length - end.length) + end

// genisoimage spoils targets whose parts pass 250 bytes together.
const target = `${'../'.repeat(40)}${long(60)}/${long(60)}`

const tree: Tree = {
  'user-data': '#cloud-config\n',
  'meta-data': '{}',
  empty: '',
  'grüße/ünïcödé-名前.txt': 'name',
  [`names/${long(250, '.text')}`]: 'long',
  [`names/B${long(120)}`]: 'still long',
  'names/UPPER.TXT;1': 'as on a disc',
  'names/dots..and spaces .tar.gz': 'dots',
  'a/b/c/d/e/f/g/h/i/j/k/deep': 'eleven down',
  'a/bare/': '',
  'a/link': '-> ../user-data',
  'a/far': `-> ${target}`,
  absolute: '-> /etc/hostname',
  big: new Uint8Array(300_001).map((_, at) => at * 7),
  ...Object.fromEntries(Array.from({ length: 200 }, (_, at) => [`many/file-${at}-with-a-name`, `${at}`])),
}
const modes = { 'user-data': 0o600, empty: 0o755, big: 0o444 }

async function withFiles<T>(file: string, names: IsoNames | undefined, work: (files: IsoFileSystem) => Promise<T>) {
  const source = await openFile(file)
  const warnings: string[] = []
  try {
    const result = await work(await openIsoFileSystem(source, { names, warn: (text) => warnings.push(text) }))
    return { result, warnings }
  } finally {
    await source.close()
  }
}

async function make(program: 'xorriso' | 'genisoimage', ...args: string[]): Promise<string> {
  const file = folder.fresh('.iso')
  const all = ['-quiet', '-input-charset', 'utf-8', '-o', file, ...args]
  await runOk(program, program === 'xorriso' ? ['-as', 'mkisofs', ...all] : all)
  return file
}

function planted(): string {
  const path = folder.file('planted')
  if (!made) plantTree(path, tree, modes)
  made = true
  return path
}
let made = false

describeWith(['xorriso', 'genisoimage', 'mkzftree'], 'images of other programs', () => {
  it.each([
    ['xorriso', ['-R', '-J', '-joliet-long']],
    ['xorriso', ['-R']],
    ['xorriso', ['-R', '-iso-level', '3', '-untranslated_name_len', '0']],
    ['genisoimage', ['-R', '-J', '-joliet-long']],
    ['genisoimage', ['-R', '-U', '-udf', '-J', '-joliet-long']],
  ] as const)('%s %s: Rock Ridge', async (program, args) => {
    const file = await make(program, ...args, planted())
    const { result, warnings } = await withFiles(file, undefined, async (files) => {
      expect(files.names).toBe('rock-ridge')
      expect((await files.checkPathTables()).faults).toEqual([])
      const found = await describeFiles(files, kindAndContent)
      const user = await files.find('user-data')
      expect([user.mode, user.modified]).toEqual([0o100600, treeTime])
      expect((await files.find('/empty')).mode).toBe(0o100755)
      expect((await files.find('a/link')).path).toBe('/user-data')
      expect((await files.find('a/link', { follow: false })).target).toBe('../user-data')
      expect((await files.find('a/bare')).mode).toBe(0o40755)
      await expect(files.find('a/far')).rejects.toMatchObject({ kind: 'missing' })
      expect(files.descriptors.udf).toBe(args.join().includes('-udf') ? 'NSR02' : undefined)
      return found
    })
    // genisoimage moves what is deep, and leaves the folder that it moved it to.
    delete result['/rr_moved']
    expect(result).toEqual(expectedFiles(tree))
    expect(warnings).toEqual([])
  })

  it('Joliet, and plain names as Linux shows them', async () => {
    const small: Tree = { 'user-data': 'u', 'Some Folder/Readme.txt': 'r', 'Some Folder/noextension': 'n' }
    plantTree(folder.file('small'), small)
    const file = await make('xorriso', '-J', '-R', folder.file('small'))
    const joliet = await withFiles(file, 'joliet', (files) => describeFiles(files, kindAndContent))
    expect(joliet.result).toEqual(expectedFiles(small))
    const plain = await withFiles(file, 'plain', async (files) => {
      expect((await files.find('/SOME_FOL/README.TXT')).size).toBe(1)
      return Object.keys(await describeFiles(files, kindAndContent))
    })
    expect(plain.result.sort()).toEqual(['/some_fol', '/some_fol/noextens', '/some_fol/readme.txt', '/user_dat'])
    const bare = await make('genisoimage', folder.file('small'))
    const { result } = await withFiles(bare, undefined, async (files) => files.names)
    expect(result).toBe('plain')
    await expect(withFiles(bare, 'joliet', async () => {})).rejects.toMatchObject({ kind: 'missing', field: 'names' })
    await expect(withFiles(bare, 'rock-ridge', async () => {})).rejects.toMatchObject({ kind: 'missing' })
  })

  it('boot catalogues for BIOS and EFI, with a boot information table, and a hybrid MBR', async () => {
    const boot: Tree = {
      'boot/bios.img': new Uint8Array(10_000).fill(7),
      'boot/efi.img': new Uint8Array(65_536).fill(9),
    }
    plantTree(folder.file('boot'), boot)
    const mbr = folder.file('mbr.bin')
    writeFileSync(mbr, new Uint8Array(432))
    const bios = ['-b', 'boot/bios.img', '-no-emul-boot', '-boot-load-size', '4', '-boot-info-table']
    const efi = ['-eltorito-alt-boot', '-e', 'boot/efi.img', '-no-emul-boot', '-isohybrid-gpt-basdat']
    const file = await make(
      'xorriso',
      '-R',
      '-c',
      'boot.cat',
      '-isohybrid-mbr',
      mbr,
      ...bios,
      ...efi,
      folder.file('boot'),
    )
    const { warnings } = await withFiles(file, undefined, async (files) => {
      const catalog = await files.bootCatalog()
      expect(catalog?.valid).toBe(true)
      const place = async (path: string) => (await files.find(path)).extents[0]?.offset
      expect(catalog?.images).toMatchObject([
        { platform: 'bios', bootable: true, emulation: 'none', sectors: 4, length: 10_000, bootInfoTable: 'valid' },
        { platform: 'efi', bootable: true, length: 65_536 },
      ])
      expect(catalog?.images.map(({ offset }) => offset)).toEqual([
        await place('boot/bios.img'),
        await place('boot/efi.img'),
      ])
      const area = await files.systemArea()
      expect(area.gpt).toBe(true)
      expect(area.mbr?.length).toBeGreaterThan(0)
    })
    expect(warnings).toEqual([])
  })

  it('files that zisofs packed', async () => {
    const content = new Uint8Array(200_000).map((_, at) => (at < 100_000 ? at / 100 : 0))
    plantTree(folder.file('plain-tree'), { packed: content })
    await runOk('mkzftree', [folder.file('plain-tree'), folder.file('packed-tree')])
    const file = await make('genisoimage', '-R', '-z', folder.file('packed-tree'))
    await withFiles(file, undefined, async (files) => {
      const entry = await files.find('packed')
      expect(entry.packed).toEqual({ algorithm: 'pz', blockBits: 15, size: content.length })
      const source = await files.open(entry)
      expect(await sourceSha(source)).toBe(await sourceSha(MemoryStore.from(content)))
      const part = new Uint8Array(70_000)
      await source.read(60_000, part)
      expect(part).toEqual(content.slice(60_000, 130_000))
    })
  })

  it('reads little: a file out of a large image, and in place', async () => {
    const file = await make('xorriso', '-R', planted())
    const source = await openFile(file)
    const counted = countingSource(source)
    const files = await openIsoFileSystem(counted.source)
    const entry = await files.open(await files.find('a/b/c/d/e/f/g/h/i/j/k/deep'))
    expect(await sourceSha(entry)).toBe(await sourceSha(MemoryStore.from(Buffer.from('eleven down'))))
    expect(counted.counts.reads).toBeLessThan(20)
    expect(counted.counts.bytesRead).toBeLessThan(260_000)
    await source.close()
    expect(readFileSync(file).length).toBeGreaterThan(counted.counts.bytesRead)
  })
})
