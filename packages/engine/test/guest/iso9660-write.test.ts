/** What moraine writes, xorriso, isoinfo and Linux read: trees, contents, attributes, boot images, files of more than 4 GiB. */
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import {
  describeGuest,
  MemoryStore,
  type NewEntry,
  type NewVolumeOptions,
  openIsoFileSystem,
  planIsoVolume,
} from '@moraine/engine'
import { openFile } from '@moraine/engine/node'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { temporaryFolder } from '../support/folder.ts'
import { attachLoop, detachLoop, losetup, reasonAgainstLoop } from '../support/loop.ts'
import { describeWith, run, runOk, tool } from '../support/process.ts'
import { budget, seed, timeFor } from '../support/random.ts'
import { bytesOf, describeFiles, entriesOf, expectedFiles, kindAndContent, type Tree, treeTime } from './support/iso.ts'

const folder = temporaryFolder()
const long = (length: number, end = ''): string => 'abcdefghi-'.repeat(30).slice(0, length - end.length) + end
const utf8 = { env: { ...process.env, LC_ALL: 'C.UTF-8' } }

const tree: Tree = {
  'user-data': '#cloud-config\n',
  'meta-data': '{}',
  empty: '',
  'grüße/ünïcödé-名前-😀.txt': 'name',
  [`names/${long(253, '.text')}`]: 'long',
  [`names/${long(253, '.t')}x`]: 'long too',
  [`names/${'名'.repeat(80)}`]: 'long in Joliet',
  [`names/${'名'.repeat(70)}x`]: 'long in Joliet, too',
  'names/UPPER.TXT': 'upper',
  'names/upper.txt': 'lower',
  'names/a*b?c:d;e\\f': 'what Joliet does not have',
  'names/.hidden': 'dot',
  'names/two.dots.tar.gz': 'dots',
  'names/ends.': 'dot at the end',
  'a/b/c/d/e/f/g/h/i/j/k/deep': 'eleven down',
  'a/bare/': '',
  'a/link': '-> ../user-data',
  'a/far': `-> ${'../'.repeat(40)}${long(250)}/./${long(250)}/${long(253)}`,
  absolute: '-> /etc/hostname',
  root: '-> /',
  big: new Uint8Array(1_300_001).map((_, at) => at * 7),
  ...Object.fromEntries(Array.from({ length: 300 }, (_, at) => [`many/file number ${at} with a long name`, `${at}`])),
}
const modes = { 'user-data': 0o600, empty: 0o755, big: 0o4711, 'a/bare/': 0o1777 }

async function write(entries: readonly NewEntry[], options: NewVolumeOptions = {}): Promise<string> {
  const file = folder.fresh('.iso')
  writeFileSync(file, await bytesOf(planIsoVolume(entries, { time: treeTime, volumeId: 'TEST', ...options })))
  return file
}

/** A tree of the host, as `expectedFiles` describes one. */
async function describeFolder(path: string, below = ''): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  const { readdirSync, lstatSync } = await import('node:fs')
  for (const name of readdirSync(path)) {
    const full = join(path, name)
    const there = lstatSync(full)
    const at = `${below}/${name}`
    if (there.isDirectory()) Object.assign(found, { [at]: 'directory ' }, await describeFolder(full, at))
    else if (there.isSymbolicLink()) found[at] = `symlink ${readlinkSync(full)}`
    else found[at] = `file ${createHash('sha256').update(readFileSync(full)).digest('hex').slice(0, 16)}`
  }
  return found
}

async function xorrisoTree(file: string): Promise<Record<string, string>> {
  const target = folder.fresh()
  await runOk('xorriso', ['-osirrox', 'on', '-indev', file, '-extract', '/', target], utf8)
  const found = await describeFolder(target)
  await run('chmod', ['-R', 'u+rwX', target])
  return found
}

describeWith(['xorriso', 'isoinfo', 'sfdisk'], 'volumes that moraine writes', () => {
  it.each([[{}], [{ level: 1 }], [{ joliet: false }]] as const)(
    'xorriso reads what is in them, %j',
    async (options) => {
      const file = await write(entriesOf(tree, modes), options)
      expect(await xorrisoTree(file)).toEqual(expectedFiles(tree))
      const list = await runOk('xorriso', ['-indev', file, '-find', '/', '-exec', 'lsdl', '--'], utf8)
      expect(list).toMatch(/^-rw------- +1 0 +0 +14 Nov 14 +2023 '\/user-data'$/m)
      expect(list).toMatch(/^-rws--x--x +1 0 +0 +1300001 Nov 14 +2023 '\/big'$/m)
      expect(list).toMatch(/^drwxrwxrwt +1 0 +0 +0 Nov 14 +2023 '\/a\/bare'$/m)
      const check = await run('xorriso', ['-indev', file, '-check_media', '--'], utf8)
      expect(check.stderr).not.toMatch(/WARNING|SORRY|FAILURE/)
    },
  )

  it('moraine reads what is in them: Rock Ridge and Joliet', async () => {
    const file = await write(entriesOf(tree, modes))
    const source = await openFile(file)
    const warnings: string[] = []
    const warn = (text: string) => warnings.push(text)
    const files = await openIsoFileSystem(source, { warn })
    expect(await describeFiles(files, kindAndContent)).toEqual(expectedFiles(tree))
    expect((await files.find('a/bare')).mode).toBe(0o41777)
    expect((await files.find('user-data')).modified).toBe(treeTime)
    const joliet = await openIsoFileSystem(source, { names: 'joliet', warn })
    const found = await describeFiles(joliet, kindAndContent)
    expect(Object.keys(found).length).toBe(Object.keys(expectedFiles(tree, false)).length)
    expect(found['/grüße/ünïcödé-名前-😀.txt']).toBe(expectedFiles(tree)['/grüße/ünïcödé-名前-😀.txt'])
    expect(found['/names/a_b_c_d_e_f']).toBeDefined()
    for (const one of [files, joliet]) expect((await one.checkPathTables()).faults).toEqual([])
    for (const path of Object.keys(found)) expect(path.split('/').every((name) => name.length <= 64)).toBe(true)
    const plain = await openIsoFileSystem(source, { names: 'plain', warn })
    for await (const { name } of plain.walk()) expect(name).toMatch(/^[a-z0-9_]*(\.[a-z0-9_]*)?$/)
    expect(warnings).toEqual([])
    await source.close()
  })

  it('isoinfo lists the plain names and those of Joliet', async () => {
    const small: Tree = { 'user-data': 'u', 'Some Folder/Readme.text': 'r', 'Some Folder/Readme.texts': 's' }
    const level1 = await runOk('isoinfo', ['-f', '-i', await write(entriesOf(small), { level: 1 })])
    expect(level1.split('\n').sort()).toEqual([
      '',
      '/SOME_FOL',
      '/SOME_FOL/README0.TEX;1',
      '/SOME_FOL/README1.TEX;1',
      '/USER_DAT.;1',
    ])
    const file = await write(entriesOf(small))
    const level3 = await runOk('isoinfo', ['-f', '-i', file])
    expect(level3).toContain('/SOME_FOLDER/README.TEXTS;1')
    expect(await runOk('isoinfo', ['-J', '-f', '-i', file])).toContain('/Some Folder/Readme.texts')
    expect(await runOk('isoinfo', ['-J', '-i', file, '-x', '/Some Folder/Readme.text'])).toBe('r')
    expect(await runOk('isoinfo', ['-R', '-i', file, '-x', '/Some Folder/Readme.texts'])).toBe('s')
  })

  it('tell who made them, and when', async () => {
    const texts = {
      volumeId: 'cidata',
      systemId: 'LINUX',
      volumeSetId: 'SET',
      publisher: 'A PUBLISHER',
      preparer: 'A PREPARER',
      application: 'AN APPLICATION',
    }
    const file = await write(entriesOf({ a: 'a' }), texts)
    const info = await runOk('isoinfo', ['-d', '-i', file])
    for (const text of Object.values(texts)) expect(info).toContain(text)
    const pvd = await runOk('xorriso', ['-indev', file, '-pvd_info'])
    expect(pvd).toContain('Creation Time: 2023111422132000')
    const files = await openIsoFileSystem(MemoryStore.from(readFileSync(file)))
    expect(files.descriptors.primary).toMatchObject({ ...texts, created: treeTime })
  })

  it('are the same whatever the order of the files, and as long as was said', async () => {
    const entries = entriesOf(tree, modes)
    const plan = planIsoVolume(entries, { time: treeTime })
    const one = await bytesOf(plan)
    const other = await bytesOf(planIsoVolume(entries.toReversed(), { time: treeTime }))
    expect(Buffer.compare(one, other)).toBe(0)
    expect(Buffer.compare(one, await bytesOf(plan))).toBe(0)
  })

  it('say which links xorriso cannot read, to the byte', async () => {
    for (const length of [1023, 1024]) {
      const target = `${'a'.repeat(200)}/`.repeat(6).slice(0, length)
      const plan = planIsoVolume([{ path: 'link', kind: 'symlink', target }], { time: treeTime })
      const file = folder.fresh('.iso')
      writeFileSync(file, await bytesOf(plan))
      const { stderr } = await run('xorriso', ['-indev', file, '-find', '/'])
      expect([plan.notes.length > 0, stderr.includes('Cannot read ISO image tree')]).toEqual([
        length > 1023,
        length > 1023,
      ])
    }
  })

  it('keep content that several names share once', async () => {
    const content = new Uint8Array(100_000).fill(1)
    const shared = entriesOf({ a: content, b: content, c: content })
    const apart = await bytesOf(planIsoVolume(shared, { time: 0 }))
    const once = await write(shared.map((entry) => ({ ...entry, identity: 'x' })))
    expect(apart.length - statSync(once).size).toBe(2 * Math.ceil(content.length / 2048) * 2048)
    expect(await xorrisoTree(once)).toEqual(expectedFiles({ a: content, b: content, c: content }))
  })

  it('boot with BIOS and EFI, as xorriso sees it', async () => {
    const boot: Tree = {
      'boot/bios.img': new Uint8Array(10_001).map((_, at) => at),
      'boot/efi.img': new Uint8Array(70_000).fill(9),
    }
    const file = await write(entriesOf(boot), {
      boot: [
        { path: 'boot/bios.img', platform: 'bios', infoTable: true },
        { path: '/boot/efi.img', platform: 'efi' },
      ],
    })
    const report = await runOk('xorriso', ['-indev', file, '-report_el_torito', 'plain'])
    expect(report).toMatch(/El Torito boot img : +1 +BIOS +y +none +0x0000 +0x00 +4 +\d+$/m)
    expect(report).toMatch(/El Torito boot img : +2 +UEFI +y +none +0x0000 +0x00 +137 +\d+$/m)
    expect(report).toMatch(/El Torito img path : +1 +\/boot\/bios.img/)
    expect(report).toMatch(/El Torito img opts : +1 +boot-info-table/)
    const files = await openIsoFileSystem(MemoryStore.from(readFileSync(file)))
    expect((await files.bootCatalog())?.images).toMatchObject([
      { platform: 'bios', bootInfoTable: 'valid', length: 10_001 },
      { platform: 'efi', bootInfoTable: undefined },
    ])
  })

  it('are disks too, when they shall be: one partition, the image that EFI boots', async () => {
    const image = new Uint8Array(70_000).fill(9)
    const boot = [{ path: 'boot/efi.img', platform: 'efi' }] as const
    const code = new Uint8Array(440).fill(0x90)
    const options = { boot, hybrid: true, systemArea: code }
    const file = await write(entriesOf({ 'boot/efi.img': image, 'z/behind': 'it' }), options)
    const report = await runOk('xorriso', ['-indev', file, '-report_system_area', 'plain'])
    expect(report).toMatch(/MBR partition +: +1 +0x00 +0xef +\d+ +137$/m)
    expect(report).toMatch(/MBR partition path +: +1 +\/boot\/efi.img/)
    const said = JSON.parse(await runOk(tool('sfdisk').path ?? '', ['-J', file])).partitiontable
    expect([said.label, said.partitions.length, said.partitions[0].type]).toEqual(['dos', 1, 'ef'])
    const bytes = readFileSync(file)
    const start = said.partitions[0].start * 512
    expect(bytes.subarray(start, start + image.length).equals(image)).toBe(true)
    expect(bytes.subarray(0, 440).equals(code)).toBe(true)
    expect(await xorrisoTree(file)).toEqual(expectedFiles({ 'boot/efi.img': image, 'z/behind': 'it' }))
    const [disk] = (await describeGuest(MemoryStore.from(bytes))).table?.partitions ?? []
    expect(disk).toMatchObject({ number: 1, offset: start, type: '0xef' })
    const refuse = (more: NewVolumeOptions) => () =>
      planIsoVolume(entriesOf({ 'boot/efi.img': image }), { ...options, ...more })
    expect(refuse({ boot: [] })).toThrow(/a boot image for EFI/)
    expect(refuse({ systemArea: bytes.subarray(0, 512) })).toThrow(/a partition table of its own/)
  })

  it('write the boot information table into the boot image alone', async () => {
    const content = new Uint8Array(4096).fill(5)
    const same = entriesOf({ a: content, boot: content, c: content }).map((entry) => ({ ...entry, identity: 'one' }))
    const file = await write(same, { boot: [{ path: 'boot', platform: 'bios', infoTable: true }] })
    const files = await openIsoFileSystem(MemoryStore.from(readFileSync(file)))
    expect((await files.bootCatalog())?.images).toMatchObject([{ bootInfoTable: 'valid' }])
    for (const path of ['a', 'c']) {
      const bytes = new Uint8Array(content.length)
      await (await files.open(await files.find(path))).read(0, bytes)
      expect(Buffer.compare(bytes, content), path).toBe(0)
    }
  })

  it('hold files of more than 4 GiB', async () => {
    const size = 9 * 2 ** 30 + 12_345
    const huge = new MemoryStore({ name: 'huge', size })
    for (const at of [0, 0xffff_f000, 0xffff_f7ff, 0x1_0000_0000, size - 10])
      await huge.write(at, Buffer.from(`at ${at}`.slice(0, 10)))
    const plan = planIsoVolume(
      [{ path: 'huge', kind: 'file', size, open: async () => huge }, ...entriesOf({ 'zz-behind': 'it' })],
      { time: treeTime },
    )
    // As sparse as it is.
    const file = folder.fresh('.iso')
    const handle = await open(file, 'w')
    const zeros = Buffer.alloc(1 << 20)
    let at = 0
    for await (const chunk of plan.chunks()) {
      if (Buffer.compare(chunk, zeros.subarray(0, chunk.length)) !== 0) await handle.write(chunk, 0, chunk.length, at)
      at += chunk.length
    }
    await handle.truncate(at)
    await handle.close()
    expect(at).toBe(plan.length)
    const list = await runOk('xorriso', ['-indev', file, '-find', '/', '-exec', 'report_sections', '--'])
    expect(list).toContain(`${size - 2 * 0xffff_f800}`)
    const source = await openFile(file)
    const files = await openIsoFileSystem(source)
    const entry = await files.find('huge')
    expect(entry.extents.length).toBe(3)
    const read = await files.open(entry)
    expect(read.size).toBe(size)
    for (const [from, text] of [
      [0, 'at 0'],
      [0xffff_f000, 'at 4294963'],
      [0xffff_f7ff, 'at 4294965'],
      [size - 10, 'at 9663688'],
    ] as const) {
      const bytes = Buffer.alloc(text.length)
      await read.read(from, bytes)
      expect(bytes.toString()).toBe(text)
    }
    const behind = folder.fresh()
    await runOk('xorriso', ['-osirrox', 'on', '-indev', file, '-extract', '/zz-behind', behind])
    expect(readFileSync(behind, 'utf8')).toBe('it')
    await source.close()
  })

  it(
    'hold any tree',
    async () => {
      const name = fc
        .string({ unit: 'grapheme', minLength: 1, maxLength: 40 })
        .map((text) => text.replaceAll(/[/\0]/g, '-'))
        .filter((text) => text !== '.' && text !== '..' && text.isWellFormed() && Buffer.byteLength(text) < 250)
      const path = fc.array(name, { minLength: 1, maxLength: 6 }).map((names) => names.join('/'))
      const content = fc.oneof(fc.uint8Array({ maxLength: 5000 }), fc.constant('-> ../some/where'))
      let runs = 0
      const property = fc.asyncProperty(fc.array(fc.tuple(path, content), { maxLength: 40 }), async (list) => {
        const kept: Tree = {}
        const isFile = (at: string): boolean => at in kept
        for (const [at, what] of list) {
          const above = at.split('/').map((_, depth, names) => names.slice(0, depth).join('/'))
          if (above.some(isFile) || Object.keys(kept).some((other) => other === at || other.startsWith(`${at}/`)))
            continue
          kept[at] = what
        }
        const file = await write(entriesOf(kept))
        const files = await openIsoFileSystem(MemoryStore.from(readFileSync(file)))
        expect(await describeFiles(files, kindAndContent)).toEqual(expectedFiles(kept))
        expect((await files.checkPathTables()).faults).toEqual([])
        if (runs++ % 4 === 0) expect(await xorrisoTree(file)).toEqual(expectedFiles(kept))
      })
      await fc.assert(property, {
        seed: seed('iso9660 trees'),
        numRuns: 1_000_000,
        interruptAfterTimeLimit: budget(2500),
        markInterruptAsFailure: false,
      })
      expect(runs).toBeGreaterThan(3)
    },
    timeFor(2500),
  )
})

/** Why Linux cannot be asked here. */
function reasonAgainstMount(): string | undefined {
  if (!/\biso9660\b/.test(readFileSync('/proc/filesystems', 'utf8'))) return 'the kernel has no iso9660 loaded'
  return reasonAgainstLoop()
}

const reason = losetup() === '' ? 'losetup not installed' : reasonAgainstMount()
describe.skipIf(reason !== undefined)(
  `volumes mounted by Linux${reason === undefined ? '' : ` [skipped: ${reason}]`}`,
  () => {
    it('hold what was written', async () => {
      const file = await write(entriesOf(tree, modes))
      const device = attachLoop(file, '--read-only')
      const mounted = folder.file('mounted')
      mkdirSync(mounted)
      try {
        await runOk('mount', ['-o', 'ro', '-t', 'iso9660', device, mounted])
        expect(await describeFolder(mounted)).toEqual(expectedFiles(tree))
        expect(statSync(join(mounted, 'big')).mode & 0o7777).toBe(0o4711)
        await runOk('umount', [mounted])
      } finally {
        detachLoop(device)
      }
    })
  },
)
