/** Compressed files on the command line: opened as what is inside, written on request, and nothing of it under QEMU's name. */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { beforeAll, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, run, tool } from '../../engine/test/support/process.ts'
import { qemuImg, qemuIo } from '../../engine/test/support/qemu.ts'
import { moraine, ourQemuImg } from './support/differential.ts'

const folder = temporaryFolder()
const raw = folder.file('disk.raw')
const size = 3 << 20

async function command(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(moraine, args)
  return `${code}\n${stdout}${stderr}`
}

async function ok(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(moraine, args)
  expect(code, stderr).toBe(0)
  return stdout
}

describeWith(['qemu-img', 'gzip', 'xz', 'zstd', 'bzip2', 'lz4', 'zip'], 'packed images', () => {
  beforeAll(async () => {
    await qemuImg('create', '-q', '-f', 'raw', raw, String(size))
    await qemuIo(raw, 'raw', 'write -P 17 64k 1M', 'write -P 34 2M 4k')
    for (const [program, ...args] of [['gzip'], ['xz'], ['zstd', '-q'], ['bzip2'], ['lz4', '-q', '-m']]) {
      execFileSync(program as string, [...args, '-k', raw])
    }
    await qemuImg('convert', '-O', 'qcow2', raw, folder.file('disk.qcow2'))
    execFileSync('gzip', ['-k', folder.file('disk.qcow2')])
    execFileSync('zip', ['-q', '-j', folder.file('both.zip'), raw, folder.file('disk.qcow2')])
  })

  it.each([
    'disk.raw.gz',
    'disk.raw.xz',
    'disk.raw.zst',
    'disk.raw.bz2',
    'disk.raw.lz4',
    'disk.qcow2.gz',
    'both.zip#disk.raw',
    'both.zip#disk.qcow2',
  ])('%s: info, convert, compare, measure, map', async (name) => {
    const file = folder.file(name)
    const info = JSON.parse(await ok('info', '--output=json', file))
    expect(info).toMatchObject({ format: /raw/.test(name) ? 'raw' : 'qcow2', 'virtual-size': size })
    expect(info.wrapping['size-from']).toMatch(/^(stated|read)$/)
    expect(await ok('compare', file, raw)).toContain('Images are identical.')
    const target = folder.fresh('.qcow2')
    await ok('convert', '-O', 'qcow2', file, target)
    expect(await qemuImg('compare', '-f', 'raw', '-F', 'qcow2', raw, target)).toContain('Images are identical.')
    expect(await ok('measure', '-O', 'raw', file)).toContain(`required size: ${size}`)
    expect(JSON.parse(await ok('map', '--output=json', file)).at(-1)).toMatchObject({ depth: 0 })
  })

  it('says what it is packed with, and that all had to be read', async () => {
    const { stdout, stderr } = await run(moraine, ['info', folder.file('disk.raw.gz')])
    expect(stdout).toMatch(/^packed with: gzip, .*; all of it was read to know the size inside$/m)
    expect(stderr).toMatch(/^moraine: note: gzip does not say for certain how much it holds/)
    expect((await run(moraine, ['info', folder.file('disk.raw.xz')])).stderr).toBe('')
  })

  it('checks, but neither repairs nor writes', async () => {
    expect(await ok('check', folder.file('disk.qcow2.gz'))).toContain('No errors were found')
    expect(await command('check', '-r', 'all', folder.file('disk.qcow2.gz'))).toContain(
      'it is packed with gzip and cannot be written in place',
    )
    expect(await command('resize', folder.file('disk.raw.gz'), '8M')).toContain('it is packed with gzip')
  })

  it('takes what is said to be raw as it stands, and everything under QEMU’s name', async () => {
    const packed = folder.file('disk.raw.gz')
    const { length } = readFileSync(packed)
    const rounded = Math.ceil(length / 512) * 512
    expect(JSON.parse(await ok('info', '-f', 'raw', '--output=json', packed))['virtual-size']).toBe(rounded)
    const { stdout } = await run(ourQemuImg, ['info', '--output=json', packed])
    expect(JSON.parse(stdout)).toMatchObject({ format: 'raw', 'virtual-size': rounded })
    const target = folder.fresh('.raw.gz')
    expect((await run(ourQemuImg, ['convert', '-O', 'raw', raw, target])).code).toBe(0)
    expect(readFileSync(target).equals(readFileSync(raw))).toBe(true)
  })

  it('names members and damage', async () => {
    expect(await command('info', folder.file('both.zip'))).toContain(
      "It has 'disk.raw', 'disk.qcow2'. Name one as FILE#MEMBER.",
    )
    expect(await command('info', `${folder.file('both.zip')}#none`)).toContain("the zip has no member 'none'")
    const cut = folder.fresh('.gz')
    writeFileSync(cut, readFileSync(folder.file('disk.raw.gz')).subarray(0, 3000))
    expect(await command('convert', '-O', 'raw', cut, folder.fresh())).toMatch(/^1\n[\s\S]*it ends early/)
  })

  it.each([
    ['.gz', 'gzip', ['-t']],
    ['.xz', 'xz', ['-t']],
    ['.zst', 'zstd', ['-q', '-t']],
  ])('writes %s, by name, by --wrap, and to standard output', async (extension, program, test) => {
    const target = folder.fresh(`.raw${extension}`)
    await ok('convert', '-O', 'raw', folder.file('disk.qcow2'), target)
    execFileSync(program, [...test, target])
    const plain = (file: string) => execFileSync(program, ['-d', '-c', file], { maxBuffer: 64 << 20 })
    expect(plain(target).equals(readFileSync(raw))).toBe(true)
    const other = folder.fresh(extension)
    execFileSync('sh', [
      '-c',
      `"$1" convert --wrap "$2" -O raw "$3" - > "$4"`,
      'sh',
      moraine,
      extension.slice(1),
      raw,
      other,
    ])
    expect(plain(other).equals(readFileSync(raw))).toBe(true)
    const bare = folder.fresh(extension)
    await ok('convert', '--wrap', 'none', '-O', 'raw', raw, bare)
    expect(readFileSync(bare).equals(readFileSync(raw))).toBe(true)
    // Of another format, and back through our own.
    const image = folder.fresh(`.qcow2${extension}`)
    await ok('convert', '-O', 'qcow2', raw, image)
    expect(await ok('compare', image, raw)).toContain('identical')
  })

  it('refuses what cannot be packed', async () => {
    expect(await command('convert', '--wrap', 'rar', '-O', 'raw', raw, folder.fresh())).toContain(
      "Invalid wrapper 'rar'",
    )
    expect(await command('convert', '-n', '--wrap', 'gz', '-O', 'raw', raw, raw)).toContain(
      '--wrap cannot be used with -n',
    )
  })

  it('notes a VHD whose end it did not see', async () => {
    const image = folder.fresh('.img')
    await qemuImg('convert', '-O', 'vpc', '-o', 'subformat=fixed,force_size=on', raw, image)
    execFileSync(tool('xz').path ?? '', [image])
    const { stderr } = await run(moraine, ['convert', '-O', 'raw', `${image}.xz`, folder.fresh()])
    expect(stderr).toContain('ends as an image of format vhd does and was taken for raw')
    expect(JSON.parse(await ok('info', '--output=json', '-f', 'vhd', `${image}.xz`))['virtual-size']).toBe(size)
  })
})
