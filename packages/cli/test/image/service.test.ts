/** The image client against moraine's own service. */
import { randomBytes } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { gzipSync } from 'node:zlib'
import { beforeAll, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../../engine/test/support/folder.ts'
import { describeWith, run } from '../../../engine/test/support/process.ts'
import { qemuImg } from '../../../engine/test/support/qemu.ts'
import { type Subject, services } from '../../../server/test/support/service.ts'
import { type ImageCommand, imageCommand, imageShell } from './support/command.ts'

const folder = temporaryFolder()
const start = services()
let subject: Subject
let command: ImageCommand
beforeAll(async () => {
  subject = await start()
  command = imageCommand(folder, { OS_ENDPOINT: subject.url })
})

interface Image {
  id: string
  size: number
  status: string
}

describe('images', () => {
  it('are listed for people and for programs', async () => {
    for (const name of ['b', 'a', 'c\u001b[31m'])
      await command.ok('create', name, '--disk-format', 'raw', '--tag', name.charAt(0))
    const table = (await command.ok('list', '--sort', 'name:asc')).split('\n')
    expect(table[0]).toMatch(/^ID {36}NAME {7}STATUS {2}SIZE {2}FORMAT {2}VISIBILITY$/)
    expect(table.slice(1).map((line) => line.slice(38).trimEnd())).toEqual([
      'a          queued     -  raw     shared',
      'b          queued     -  raw     shared',
      'c\\x1b[31m  queued     -  raw     shared',
      '',
    ])
    const ids = (await command.json<Image[]>('list', '--sort', 'name:desc')).map(({ id }) => id)
    expect((await command.ok('list', '-q', '--sort', 'name:desc')).split('\n')).toEqual([...ids, ''])
    expect((await command.ok('list', '-q', '--limit', '2')).split('\n')).toHaveLength(3)
    expect(await command.json<Image[]>('list', '--tag', 'a')).toMatchObject([{ name: 'a' }])
    await command.ok('delete', ...ids)
  })

  it('are walked page after page', async () => {
    for (let index = 0; index < 1003; index++)
      await subject.service.catalog.create({ id: `page${index}`, name: 'many', visibility: 'public' })
    const ids = (await command.ok('list', '-q', '--name', 'many')).trimEnd().split('\n')
    expect(new Set(ids).size).toBe(1003)
  })

  it('have help that is declared once', async () => {
    const group = await command.ok('--help')
    expect(group).toContain('--os-application-credential-secret=TEXT')
    const help = await command.ok('push', '--help')
    expect(help).toMatch(
      /^Usage: moraine image push \[OPTION\]\.\.\. FILE \| NAME --kernel=FILE --ramdisk=FILE --root=FILE\n/,
    )
    expect(help).not.toContain('--os-password')
    expect((await command.run('push')).stderr).toBe(
      "moraine: Expecting FILE\nTry 'moraine image push --help' for more information\n",
    )
    expect((await command.run('shove')).stderr).toContain('Command not found: image shove')
  })
})

describeWith(['qemu-img'], 'data', () => {
  let raw: string
  let qcow2: string
  beforeAll(async () => {
    raw = folder.fresh('.raw')
    qcow2 = folder.fresh('.qcow2')
    writeFileSync(raw, Buffer.concat([randomBytes(300_032), Buffer.alloc(20_000_256), randomBytes(1_000_448)]))
    await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', raw, qcow2)
  })

  it('is pushed as what it is found to be, and pulled with its holes', async () => {
    const { stderr } = await command.run('push', qcow2, '--name', 'guest')
    expect(stderr).toContain('is qcow2, a disk of 20.3 MiB; its checks passed')
    await command.ok('push', raw, '--name', 'plain', '--quiet')
    const target = folder.fresh('.raw')
    await command.ok('pull', 'plain', target)
    expect(readFileSync(target).equals(readFileSync(raw))).toBe(true)
    if (process.platform === 'linux') expect(statSync(target).blocks * 512).toBeLessThan(2_000_000)
    await command.ok('pull', '-O', 'vmdk', '-o', 'subformat=streamOptimized', 'guest', `${target}.vmdk`)
    await qemuImg('compare', raw, `${target}.vmdk`)
    await command.ok('pull', '--export', 'vhdx', 'guest', `${target}.vhdx`)
    await qemuImg('compare', raw, `${target}.vhdx`)
  })

  it('is exported in any format that can be sent, by the name of the file or -O', async () => {
    const { url } = await start({ exportCacheSize: 100_000_000 })
    const kept = imageCommand(folder, { OS_ENDPOINT: url })
    await kept.ok('push', raw, '--name', 'plain', '--quiet')
    await kept.ok('push', qcow2, '--name', 'guest', '--quiet')
    for (const [source, name, ...more] of [
      ['plain', 'a.qcow2', '-c', '--verify'],
      ['plain', 'a.vmdk', '-o', 'subformat=streamOptimized', '--verify'],
      ['guest', 'b.vhdx'],
      ['guest', 'b.out', '-O', 'raw'],
      ['plain', 'c.vhd', '-o', 'force_size=on', '--verify'],
      ['plain', 'c.vdi', '--here', '--verify'],
    ] as const) {
      const target = folder.file(name)
      expect(await kept.run('export', source, target, ...more)).toMatchObject({ code: 0, stdout: '', stderr: '' })
      expect([existsSync(`${target}.part`), existsSync(`${target}.part.json`)]).toEqual([false, false])
      const format = name === 'b.out' ? 'raw' : name === 'c.vhd' ? 'vpc' : name.slice(2)
      await qemuImg('compare', '-f', 'raw', '-F', format, raw, target)
    }
    // The second time it comes from what the service kept.
    await kept.ok('export', 'guest', folder.file('again.vhdx'))
    expect(readFileSync(folder.file('again.vhdx')).equals(readFileSync(folder.file('b.vhdx')))).toBe(true)
    const unknown = await kept.run('export', 'guest', folder.file('b.vhdx'), '--verify')
    expect([unknown.code, unknown.stderr]).toEqual([0, expect.stringContaining('its content was not compared')])
    const told = await kept.json('export', 'guest', folder.file('never.vdi'), '--dry-run')
    expect(told).toMatchObject({
      writes: ['a new file', expect.stringContaining('of qcow2 are read'), 'converted to vdi by the service'],
    })
    expect(existsSync(folder.file('never.vdi'))).toBe(false)
    const whole = await run('bash', ['-c', `${imageShell()} export plain - -O qcow2 > ${folder.file('piped.qcow2')}`], {
      env: kept.env,
      cwd: kept.cwd,
    })
    expect(whole).toMatchObject({ code: 0, stderr: '' })
    await qemuImg('compare', '-f', 'raw', '-F', 'qcow2', raw, folder.file('piped.qcow2'))
  })

  it.each([
    [['plain', 'x.tape'], "the name 'x.tape' does not tell a format"],
    [['plain', '-'], 'Standard output has no name that tells a format'],
    [['plain', '-', '-O', 'raw', '--here'], '--here needs a file'],
    [['plain', '-', '-O', 'raw', '--verify'], '--verify needs a file'],
    [['plain', 'x', '-O', 'tape'], "Unknown file format 'tape'"],
    [['plain', 'x', '-O', 'luks'], 'luks cannot be written front to back'],
    [['plain', 'x.qcow2', '-o', 'cluster_size=3'], 'HTTP 400'],
    [['nothing', 'x.qcow2'], "no image has the id or name 'nothing'"],
  ])('is not exported as %j', async (args, message) => {
    const { code, stderr } = await command.run('export', ...args)
    expect([code, stderr]).toEqual([1, expect.stringContaining(message)])
    expect(readdirSync(command.cwd).filter((name) => name.startsWith('x'))).toEqual([])
  })

  it('is only told of as a dry run', async () => {
    const pushed = await command.run('push', raw, '--name', 'never', '--dry-run', '--output=json')
    const size = statSync(raw).size
    expect(JSON.parse(pushed.stdout)).toMatchObject({ target: 'never', format: 'raw', required: size, lost: [] })
    expect(await command.json('list', '--name', 'never')).toEqual([])
    const uri = 'https://example.org/images/never.qcow2'
    const fromWeb = ['push', '--uri', uri, '--disk-format', 'qcow2']
    expect(await command.json(...fromWeb, '--dry-run')).toMatchObject({
      target: 'never.qcow2',
      format: 'qcow2',
      writes: [`a new image of the service, which fetches ${uri} itself`],
    })
    expect(await command.json('list', '--name', 'never.qcow2')).toEqual([])
    expect(await command.json('push', raw, '--resume', 'some-id', '--dry-run')).toMatchObject({
      writes: [`what the image some-id lacks of ${size} bytes, by tus`],
    })
    const target = folder.fresh('.raw')
    const pulled = await command.ok('pull', 'plain', target, '--dry-run', '--output=json')
    expect(JSON.parse(pulled)).toMatchObject({ target, required: size, writes: ['a new file', expect.any(String)] })
    expect(existsSync(target)).toBe(false)
  })

  it('is told of as it goes, in lines for programs', async () => {
    const { stderr } = await command.run('pull', 'plain', folder.fresh(), '--progress=json')
    const lines = stderr
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
    const size = statSync(raw).size
    expect(lines.at(-1)).toEqual({ operation: 'pull', done: size, total: size, percent: 100 })
  })

  it('is unpacked and converted while it goes', async () => {
    const packed = folder.fresh('.qcow2.gz')
    writeFileSync(packed, gzipSync(readFileSync(qcow2)))
    const refused = await command.run('push', packed)
    expect([refused.code, refused.stderr]).toEqual([
      1,
      expect.stringContaining("image services have no disk format 'gzip'\nWith --convert-to"),
    ])
    const image = await command.json<Image>('push', packed, '--convert-to', 'raw')
    expect(image).toMatchObject({ size: statSync(raw).size, disk_format: 'raw', status: 'active' })
  })

  it('is refused when it is not safe, or not what was said', async () => {
    const overlay = folder.fresh('.qcow2')
    await qemuImg('create', '-q', '-f', 'qcow2', '-F', 'qcow2', '-b', qcow2, overlay)
    const before = await command.ok('list', '-q')
    const unsafe = await command.run('push', overlay)
    expect([unsafe.code, unsafe.stderr]).toEqual([
      1,
      expect.stringMatching(/is not safe, so it is not pushed\nbacking-file: /),
    ])
    const forced = await command.run('push', overlay, '--unsafe')
    expect([forced.code, forced.stderr]).toEqual([1, expect.stringMatching(/it names a backing file .*HTTP 400/)])
    const wrong = await command.run('push', qcow2, '--disk-format', 'vmdk')
    expect([wrong.code, wrong.stderr]).toEqual([1, expect.stringContaining('the file is qcow2, not vmdk')])
    expect(await command.ok('list', '-q')).toBe(before)
  })

  it('has to be somewhere, and to go somewhere', async () => {
    await command.ok('create', 'empty', '--disk-format', 'raw')
    expect((await command.run('pull', 'empty', folder.fresh())).stderr).toBe(
      'moraine: the image empty has no data yet: it is queued\n',
    )
    expect((await command.run('pull', 'plain', folder.file('.'))).stderr).toContain('is a folder')
    expect((await command.run('pull', 'plain', '/nowhere/at/all')).stderr).toContain(
      "Could not create '/nowhere/at/all'",
    )
    expect((await command.run('pull', 'plain', '-', '-O', 'qcow2')).stderr).toContain(
      '-O cannot be used with standard output',
    )
  })

  it('goes into several stores, for those who log in at the service itself', async () => {
    const stores = `one=folder:${folder.fresh()}, default; two=folder:${folder.fresh()}`
    const { url } = await start({ auth: 'local', adminPassword: 'a long secret', stores })
    const access = {
      OS_AUTH_URL: `${url}/identity`,
      OS_USERNAME: 'admin',
      OS_PASSWORD: 'a long secret',
      OS_PROJECT_NAME: 'admin',
    }
    const known = imageCommand(folder, access)
    expect((await known.json<Image[]>('stores')).map(({ id }) => id)).toEqual(['one', 'two'])
    const staged = await known.json('push', qcow2, '--method', 'glance-direct', '--stores', 'one,two', '--name', 'both')
    expect(staged).toMatchObject({ status: 'active', stores: 'one,two' })
    await known.ok('push', raw, '--store', 'two', '--name', 'second', '-q')
    const copied = await known.json('import', 'second', '--method', 'copy-image', '--all-stores', '--wait')
    expect(copied).toMatchObject({ stores: 'two,one' })
    await known.ok('delete', 'second', '--store', 'two')
    expect(await known.json('show', 'second')).toMatchObject({ stores: 'one' })
    const elsewhere = await imageCommand(folder, { ...access, OS_AUTH_URL: `${url}/v3` }).run('list')
    expect(elsewhere.stderr).toMatch(/^moraine: no Keystone is at http:.*\(HTTP 300/)
  })
})
