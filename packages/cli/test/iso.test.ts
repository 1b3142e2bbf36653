/** `moraine iso`: what it prints, makes and extracts; and that extraction stays in its folder, whatever an image says. */
import { execFileSync } from 'node:child_process'
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { planIsoVolume } from '@moraine/engine'
import { beforeAll, describe, expect, it } from 'vitest'
import { bytesOf, entriesOf, plantTree, type Tree, treeTime } from '../../engine/test/guest/support/iso.ts'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, run, runOk } from '../../engine/test/support/process.ts'
import { moraine } from './support/differential.ts'

const folder = temporaryFolder()
const env = { ...process.env, LC_ALL: 'C.UTF-8', SOURCE_DATE_EPOCH: String(treeTime + 1) }

const tree: Tree = {
  'user-data': '#cloud-config\n',
  'meta-data': '{}',
  'folder/grüße.txt': 'hello',
  'folder/inner/x.efi': 'x',
  'folder/link': '-> inner/x.efi',
}

/** Exit code, output and errors of the command. */
async function command(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(moraine, args, { env })
  return `${code}\n${stdout}${stderr}`
}

async function ok(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(moraine, args, { env })
  expect(code, stderr).toBe(0)
  return stdout
}

const image = folder.file('made.iso')

beforeAll(async () => {
  plantTree(folder.file('tree'), tree, { 'user-data': 0o600 })
  await ok('iso', 'create', '-V', 'cidata', '--publisher', 'NOBODY', image, folder.file('tree'))
})

describe('moraine iso', () => {
  it('lists, for people and for programs', async () => {
    expect(await ok('iso', 'list', image)).toBe(
      [
        'drwxr-xr-x         2048 2023-11-14T22:13:20Z folder/',
        '-rw-r--r--            5 2023-11-14T22:13:20Z folder/grüße.txt',
        'drwxr-xr-x         2048 2023-11-14T22:13:20Z folder/inner/',
        '-rw-r--r--            1 2023-11-14T22:13:20Z folder/inner/x.efi',
        'lrwxrwxrwx            0 2023-11-14T22:13:21Z folder/link -> inner/x.efi',
        '-rw-r--r--            2 2023-11-14T22:13:20Z meta-data',
        '-rw-------           14 2023-11-14T22:13:20Z user-data',
        '',
      ].join('\n'),
    )
    const list = JSON.parse(await ok('iso', 'list', '--output=json', image, '**/*.efi', 'meta-data'))
    expect(list).toMatchObject([
      { path: '/folder/inner/x.efi', type: 'file', size: 1, mode: '0644', uid: 0 },
      { path: '/meta-data', type: 'file', modified: '2023-11-14T22:13:20Z', extents: [{ length: 2 }] },
    ])
    const joliet = JSON.parse(await ok('iso', 'list', '--output=json', '--names=joliet', image))
    expect(joliet.map(({ path }: { path: string }) => path)).not.toContain('/folder/link')
    expect(await command('iso', 'list', image, 'nothing', '*.efi')).toBe(
      `1\nmoraine: 'nothing' is not in '${image}'\nmoraine: '*.efi' is not in '${image}'\n`,
    )
    expect(await command('iso', 'list', '--names=other', image)).toMatch(/--names must be used with one of/)
    expect(await command('iso', 'list', folder.file('tree/user-data'))).toMatch(/^1\n.*it has no ISO 9660 volume/)
  })

  it('tells facts', async () => {
    const facts = JSON.parse(await ok('iso', 'info', '--output=json', image))
    expect(facts).toMatchObject({
      volume: 'cidata',
      publisher: 'NOBODY',
      created: '2023-11-14T22:13:21Z',
      'volume-size': statSync(image).size,
      names: ['rock-ridge', 'joliet', 'plain'],
      files: 4,
      directories: 3,
      others: 1,
      'path-tables': { directories: 3, faults: [] },
    })
    expect(await ok('iso', 'info', image)).toContain('names:          rock-ridge, joliet, plain; shown: rock-ridge')
    expect(await ok('info', image)).toContain('volume: cidata')
  })

  it('makes the same image each time, to a file, a pipe, and packed', async () => {
    const again = folder.fresh('.iso')
    await ok('iso', 'create', '-V', 'cidata', '--publisher', 'NOBODY', again, folder.file('tree'))
    expect(Buffer.compare(readFileSync(image), readFileSync(again))).toBe(0)
    const piped = folder.fresh('.iso')
    execFileSync(
      'sh',
      ['-c', `"$0" iso create -V cidata --publisher NOBODY - "$1" > "$2"`, moraine, folder.file('tree'), piped],
      { env },
    )
    expect(Buffer.compare(readFileSync(image), readFileSync(piped))).toBe(0)
    const packed = folder.fresh('.iso.gz')
    await ok('iso', 'create', '-V', 'cidata', '--publisher', 'NOBODY', packed, folder.file('tree'))
    expect(Buffer.compare(readFileSync(image), execFileSync('gzip', ['-dc', packed]))).toBe(0)
    expect(await ok('iso', 'extract', '--stdout', packed, 'folder/link')).toBe('x')
  })

  it('takes files under other paths, and lists of them', async () => {
    const list = folder.file('list')
    writeFileSync(
      list,
      `# what goes in\nboot/one=${folder.file('tree/meta-data')}\n\n${folder.file('tree/user-data')}\n`,
    )
    const file = folder.fresh('.iso')
    await ok('iso', 'create', '-T', list, file, `all=${folder.file('tree/folder')}`)
    expect((await ok('iso', 'list', file)).match(/\S+$/gm)).toEqual([
      'all/',
      'all/grüße.txt',
      'all/inner/',
      'all/inner/x.efi',
      'inner/x.efi',
      'boot/',
      'boot/one',
      'user-data',
    ])
    expect(await command('iso', 'create', file, 'nowhere')).toBe(
      "1\nmoraine: Could not open 'nowhere': No such file or directory\n",
    )
    expect(await command('iso', 'create', file, file)).toMatch(/is one of the files that would go into it/)
    expect(await command('iso', 'create', folder.file('no.iso'), `../up=${list}`)).toMatch(/'\.\.' cannot be a name/)
    expect(await command('iso', 'create', '-b', 'none', folder.file('no.iso'), list)).toMatch(/boot image is none/)
    expect(existsSync(folder.file('no.iso'))).toBe(false)
  })

  it('is reached into by FILE#PATH, also where it is packed or holds disks', async () => {
    const disk = folder.file('disk.qcow2')
    await ok('create', '-q', '-f', 'qcow2', disk, '1M')
    const file = folder.fresh('.iso')
    await ok('iso', 'create', file, `images/disk.qcow2=${disk}`)
    execFileSync('gzip', ['-k', file])
    for (const name of [file, `${file}.gz`]) {
      const info = JSON.parse(await ok('info', '--output=json', `${name}#/images/disk.qcow2`))
      expect(info).toMatchObject({ format: 'qcow2', 'virtual-size': 1 << 20 })
    }
    expect(await command('info', `${file}#/images/none`)).toMatch(/^1\n.*has no member '\/images\/none'/)
    expect(JSON.parse(await ok('info', '--output=json', file)).format).toBe('iso')
    const within = folder.fresh('.qcow2')
    await ok('convert', '-O', 'qcow2', file, within)
    expect(await ok('iso', 'list', within)).toContain('images/disk.qcow2')
  })

  it('extracts files, modes, times and links', async () => {
    const target = folder.fresh()
    expect(await ok('iso', 'extract', image, '--to', target)).toBe('extracted: 4 files, 2 folders, 1 symbolic links\n')
    expect(readFileSync(join(target, 'folder/grüße.txt'), 'utf8')).toBe('hello')
    expect(readlinkSync(join(target, 'folder/link'))).toBe('inner/x.efi')
    expect(statSync(join(target, 'user-data')).mode & 0o777).toBe(0o600)
    for (const path of ['user-data', 'folder']) expect(statSync(join(target, path)).mtimeMs).toBe(treeTime * 1000)
    const again = await command('iso', 'extract', image, 'user-data', '-C', target)
    expect(again).toMatch(/^1\n.*'user-data' was not extracted: it is there already/s)
    writeFileSync(join(target, 'meta-data'), 'other')
    await ok('iso', 'extract', image, 'meta-data', '-C', target, '--force')
    expect(readFileSync(join(target, 'meta-data'), 'utf8')).toBe('{}')
    expect(await command('iso', 'extract', image, '-C', join(target, 'meta-data', 'below'))).toMatch(
      /^1\nmoraine: ENOTDIR/,
    )
    const some = folder.fresh()
    await ok('iso', 'extract', image, 'folder/**/*.efi', '-C', some, '-q')
    expect(readdirSync(some)).toEqual(['folder'])
    expect(readdirSync(join(some, 'folder'))).toEqual(['inner'])
  })
})

/** An image whose Rock Ridge names were changed to others of the same length. */
async function hostile(entries: Tree, names: Record<string, string>): Promise<string> {
  const bytes = Buffer.from(await bytesOf(planIsoVolume(entriesOf(entries), { time: treeTime, joliet: false })))
  for (const [from, to] of Object.entries(names)) {
    const head = Buffer.from([0x4e, 0x4d, from.length + 5, 1, 0])
    const at = bytes.indexOf(Buffer.concat([head, Buffer.from(from)]))
    if (at < 0 || from.length !== to.length) throw new Error(`${from} cannot be made ${to}`)
    bytes.write(to, at + head.length, 'latin1')
  }
  const file = folder.fresh('.iso')
  writeFileSync(file, bytes)
  return file
}

/** Everything below a folder; links are not followed. */
function below(path: string, prefix = ''): string[] {
  return readdirSync(path, { withFileTypes: true })
    .flatMap((entry) => [
      prefix + entry.name,
      ...(entry.isDirectory() ? below(join(path, entry.name), `${prefix}${entry.name}/`) : []),
    ])
    .sort()
}

describe('extraction stays in its folder', () => {
  it('whatever names an image has', async () => {
    const outer = folder.fresh()
    mkdirSync(outer)
    const file = await hostile(
      { 'aaaaaaaa/1': 'one', bb: 'two', 'cccc.txt': 'three', dddd: 'four', 'eeee/x': 'five' },
      { aaaaaaaa: '../../up', bb: '..', 'cccc.txt': '/etc/pwn', dddd: 'd\0dd', eeee: '\x1b[2J' },
    )
    const output = await command('iso', 'extract', file, '--to', join(outer, 'target'))
    expect(output).toMatch(/cannot be the name of a file/)
    expect(output).not.toContain('\x1b')
    expect(below(outer)).toEqual(
      [
        'target',
        'target/.._.._up',
        'target/.._.._up/1',
        'target/_etc_pwn',
        'target/bb',
        'target/d_dd',
        'target/\x1b[2J',
        'target/\x1b[2J/x',
      ].sort(),
    )
    expect(await ok('iso', 'list', file)).not.toContain('\x1b')
  })

  it('and does not write through links of the image', async () => {
    const outer = folder.fresh()
    mkdirSync(join(outer, 'elsewhere'), { recursive: true })
    // A link and a folder of one name, in both orders.
    const file = await hostile(
      {
        'link-a': '-> ../elsewhere',
        'link-b/inner': 'in',
        'also-b/inner': 'in',
        'also-c': '-> ../elsewhere',
        'last-x': '-> .',
        'last-y': 'z',
      },
      { 'link-b': 'link-a', 'also-c': 'also-b', 'last-y': 'last-x' },
    )
    const target = join(outer, 'target')
    const output = await command('iso', 'extract', file, '--to', target, '--links=all')
    expect(output).toMatch(/^1\n/)
    expect(readdirSync(join(outer, 'elsewhere'))).toEqual([])
    expect(lstatSync(join(target, 'link-a')).isDirectory()).toBe(true)
    expect(output).toMatch(/'link-a' was not extracted: a folder of this name is in the way/)
    expect(output).toMatch(/'last-x' was not extracted: the image has two entries whose names are the same here/)
    expect(readFileSync(join(target, 'last-x'), 'utf8')).toBe('z')
  })

  it('nor through links that are in the way', async () => {
    const outer = folder.fresh()
    mkdirSync(join(outer, 'elsewhere'), { recursive: true })
    mkdirSync(join(outer, 'target'))
    symlinkSync('../elsewhere', join(outer, 'target/folder'))
    symlinkSync('../elsewhere/user-data', join(outer, 'target/user-data'))
    const output = await command('iso', 'extract', image, '--to', join(outer, 'target'), '--force')
    expect(output).toMatch(/'folder\/inner\/x.efi' was not extracted: 'folder' is in the way and is no folder/)
    expect(readdirSync(join(outer, 'elsewhere'))).toEqual([])
    // With --force the link itself is replaced.
    expect(lstatSync(join(outer, 'target/user-data')).isFile()).toBe(true)
  })

  it('makes links that stay inside, and no others', async () => {
    const links = {
      'a/up': '-> ../file',
      'a/b/two': '-> ../../a/./b',
      'a/b/three': '-> ../../../file',
      'a/over': '-> b/../../../x',
      'a/self': '-> .',
      'a/through': '-> self/../../x',
      absolute: '-> /etc/passwd',
      file: 'file',
      'a/b/': '',
    }
    const file = await hostile(links, {})
    const target = folder.fresh()
    const output = await command('iso', 'extract', file, '--to', target)
    expect(
      [...output.matchAll(/'(\S+)' was not extracted: it is a symbolic link that leads outside/g)].map(
        ([, name]) => name,
      ),
    ).toEqual(['a/b/three', 'a/over', 'a/through', 'absolute'])
    expect(below(target)).toEqual(['a', 'a/b', 'a/b/two', 'a/self', 'a/up', 'file'])
    const all = folder.fresh()
    expect(await command('iso', 'extract', file, '--to', all, '--links=all')).toMatch(/^0\n/)
    expect(await command('iso', 'extract', file, '--to', folder.fresh(), '--links=none')).toMatch(
      /7 entries were not extracted/,
    )
  })

  it('leaves nothing half-made', async () => {
    const bytes = readFileSync(await hostile({ first: 'first', second: new Uint8Array(3_000_000).fill(1) }, {}))
    const cut = folder.fresh('.iso')
    writeFileSync(cut, bytes.subarray(0, bytes.length - 4096))
    const target = folder.fresh()
    expect(await command('iso', 'extract', cut, '--to', target)).toMatch(/'second' was not extracted: .*passes the end/)
    expect(below(target)).toEqual(['first'])
  })
})

describeWith(['xorriso'], 'an image by moraine iso create', () => {
  it('is that of the folder for xorriso', async () => {
    const target = folder.fresh()
    await runOk('xorriso', ['-osirrox', 'on', '-indev', image, '-extract', '/', target], { env })
    expect(await run('diff', ['-r', '--no-dereference', folder.file('tree'), target])).toMatchObject({
      code: 0,
      stdout: '',
    })
  })
})
