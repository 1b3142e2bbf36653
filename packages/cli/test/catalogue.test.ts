/** `moraine ubuntu` and `moraine catalog` against a small mirror: what is listed, what lands, and that nothing half-made is left. */
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import http from 'node:http'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { diskBytes, type MadeMirror, makeMirror } from '../../cloud-images/test/support/mirror.ts'
import { serveFolder, type Web } from '../../cloud-images/test/support/web.ts'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, run } from '../../engine/test/support/process.ts'
import { moraine } from './support/differential.ts'

const folder = temporaryFolder()

let made: MadeMirror
let web: Web
let home: string
let env: NodeJS.ProcessEnv
beforeAll(async () => {
  made = await makeMirror(folder.file('mirror'), {
    only: ['ubuntu', 'fedora', 'alpine'],
    time: new Date(Date.now() - 60_000),
  })
  web = await serveFolder(made.folder)
})
afterAll(() => web.close())
beforeEach(() => {
  web.faults.clear()
  web.requests.length = 0
  home = folder.fresh('home')
  mkdirSync(home)
  // Each home is a new one, the compiled code is not.
  const compiled = folder.file('compiled')
  env = { PATH: process.env.PATH, HOME: home, LC_ALL: 'C.UTF-8', NODE_COMPILE_CACHE: compiled }
})

const command = (...args: string[]) => run(moraine, args, { cwd: home, env })
const trust = () => ['--keyring', made.keyring]
const ubuntu = (verb: string, ...args: string[]) =>
  command('ubuntu', verb, '--mirror', `${web.url}/ubuntu`, ...trust(), '--arch', 'amd64', ...args)
async function ok(result: ReturnType<typeof command>): Promise<string> {
  const { code, stdout, stderr } = await result
  if (code !== 0) throw new Error(`exit ${code}\n${stdout}${stderr}`)
  return stdout
}
/** Files that are there, without those of the command's own folders. */
const left = () => readdirSync(home).filter((name) => !name.startsWith('.'))
const image = '/ubuntu/releases/server/releases/noble/release-20260901.1/ubuntu-24.04-server-cloudimg-amd64.img'
const noble = diskBytes('Ubuntu 24.04 20260901.1 amd64 disk1.img\n')

describe('list', () => {
  test('a table for people, documents for programs', async () => {
    expect(await ok(ubuntu('list'))).toBe(
      [
        'RELEASE   VERSION    ARCH   KIND       SERIAL         SIZE  SUPPORT',
        'resolute  26.04 LTS  amd64  disk1.img  20261101    512 KiB  2031-05-29',
        'noble     24.04 LTS  amd64  disk1.img  20260901.1  512 KiB  2029-05-31',
        'jammy     22.04 LTS  amd64  disk1.img  20261001    512 KiB  2027-06-01',
        '',
      ].join('\n'),
    )
    const documents = JSON.parse(await ok(ubuntu('list', 'noble', '--all', '--output=json'))) as { serial: string }[]
    expect(documents.map(({ serial }) => serial)).toEqual(['20260901.1', '20260901', '20260815'])
    expect(documents[0]).toMatchObject({ release: 'noble', lts: true, sha256: expect.stringMatching(/^[0-9a-f]{64}$/) })
    expect(await ok(ubuntu('list', '--all'))).toContain('questing')
  })

  test('catalogues, and the images of another one', async () => {
    expect(await ok(command('catalog', 'list'))).toContain('https://cloud.debian.org/images/cloud/')
    const mirror = ['--mirror', join(made.folder, 'fedora')]
    expect(await ok(command('catalog', 'list', 'fedora:43', ...mirror, ...trust(), '--arch', 'all'))).toContain('arm64')
  })

  test('wrong uses', async () => {
    for (const [args, message] of [
      [['ubuntu', 'pull'], 'Expecting a release'],
      [['catalog', 'pull', 'debian'], 'Expecting a release, as in debian:latest'],
      [['ubuntu', 'pull', 'noble', '--size', '5G'], '--size needs --to'],
      [['ubuntu', 'pull', 'noble', '--to', 'x.tape', '--size', '5G'], 'does not tell a format'],
      [['ubuntu', 'pull', 'noble', '--unsigned', '--keyring', 'k'], '--unsigned contradicts --keyring'],
      [['ubuntu', 'list', '--keyring', 'none.asc', '--mirror', 'x'], 'none.asc cannot be read'],
      [['catalog', 'list', 'alpine'], 'no key of Alpine Linux is shipped'],
    ] as const) {
      const { code, stderr } = await command(...args)
      expect([code, stderr]).toEqual([1, expect.stringContaining(message)])
    }
  })
})

describe('pull', () => {
  test('converted, enlarged, and from the cache the next time', async () => {
    await ok(ubuntu('pull', 'noble', '--to', 'disk.raw', '--size', '6M'))
    const disk = readFileSync(join(home, 'disk.raw'))
    expect(disk.length).toBe(6 << 20)
    expect(disk.subarray(0, noble.length).equals(noble)).toBe(true)
    web.requests.length = 0
    await ok(ubuntu('pull', '24.04', '--to', 'again.raw'))
    expect(readFileSync(join(home, 'again.raw')).equals(noble)).toBe(true)
    expect(web.requests.filter((line) => line.includes('.img'))).toEqual([])
    expect(left()).toEqual(['again.raw', 'disk.raw'])
  })

  test('as a dry run: told, and nothing fetched or made', async () => {
    web.requests.length = 0
    const told = await ubuntu('pull', 'noble', '--to', 'disk.vmdk', '--size', '6M', '--dry-run', '--output=json')
    expect([told.code, JSON.parse(told.stdout)]).toEqual([
      0,
      {
        'dry-run': true,
        operation: 'pull',
        target: 'disk.vmdk',
        writes: [
          'a new file',
          expect.stringMatching(/amd64\.img, \d+ bytes, is fetched/),
          'it is converted to vmdk of 6M',
        ],
        lost: [],
      },
    ])
    expect(web.requests.filter((line) => line.includes('.img'))).toEqual([])
    expect(left()).toEqual([])
  })

  test('as it is: a disk under its own name, and what is no disk', async () => {
    await ok(ubuntu('pull', 'noble'))
    const name = 'ubuntu-24.04-server-cloudimg-amd64.img'
    expect(readFileSync(join(home, name)).equals(readFileSync(join(made.folder, image)))).toBe(true)
    await ok(ubuntu('pull', 'noble', '--kind', 'squashfs', '--no-cache'))
    expect(left()).toEqual([name, name.replace('.img', '.squashfs')])
    const refused = await ubuntu('pull', 'noble', '--kind', 'squashfs', '--to', 'x.qcow2')
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('squashfs is no disk')])
  })

  test('a smaller size, another format than the name says, and an old release', async () => {
    const small = await ubuntu('pull', 'noble', '--to', 'disk.qcow2', '--size', '1M')
    expect([small.code, small.stderr]).toEqual([1, expect.stringContaining('the disk has 4 MiB')])
    expect(left()).toEqual([])
    const { stderr } = await ubuntu('pull', 'questing', '-O', 'vdi', '--to', 'disk.img')
    expect(stderr).toContain('support of 25.10 ended on 2026-07-09')
    expect(readFileSync(join(home, 'disk.img')).subarray(0x40, 0x44).toString('hex')).toBe('7f10dabe')
  })

  test('a download that was cut goes on, and one that always breaks leaves nothing under the name', async () => {
    web.faults.set(image, { cutAfter: 100_000, times: 3 })
    await ok(ubuntu('pull', 'noble', '--to', 'disk.raw'))
    expect(readFileSync(join(home, 'disk.raw')).equals(noble)).toBe(true)
    expect(web.requests.filter((line) => line.endsWith('-')).length).toBeGreaterThanOrEqual(2)
  })

  test('a signal in the middle: the next pull goes on from there', { timeout: 30_000 }, async () => {
    web.faults.set(image, { milliseconds: 100 })
    const args = [
      'ubuntu',
      'pull',
      'noble',
      '--mirror',
      `${web.url}/ubuntu`,
      ...trust(),
      '--arch',
      'amd64',
      '--to',
      'disk.raw',
    ]
    const child = spawn(moraine, args, { cwd: home, env, stdio: 'ignore' })
    const ended = new Promise((resolve) => child.once('exit', (code, by) => resolve(by ?? code)))
    while (!web.requests.some((line) => line.endsWith(image))) await new Promise((resolve) => setTimeout(resolve, 20))
    await new Promise((resolve) => setTimeout(resolve, 700))
    child.kill('SIGINT')
    expect(await ended).not.toBe(0)
    expect(left()).toEqual([])
    web.faults.clear()
    web.requests.length = 0
    await ok(ubuntu('pull', 'noble', '--to', 'disk.raw'))
    expect(readFileSync(join(home, 'disk.raw')).equals(noble)).toBe(true)
    expect(web.requests.find((line) => line.includes(image))).toMatch(/bytes=\d{5,}-$/)
    expect(left()).toEqual(['disk.raw'])
  })

  test.each([
    ['other bytes of the same length', { data: Buffer.alloc(524_288, 7) }, 'not the one of the catalogue'],
    ['a shorter file', { data: Buffer.alloc(1000, 7) }, 'should have'],
    ['nothing there', { status: 404 }, 'not there'],
    ['a redirect to itself', { location: image }, 'more than 10 redirects'],
    ['a redirect to a file', { location: 'file:///etc/passwd' }, 'only http and https are followed'],
  ])('%s is an error that leaves nothing', async (_, fault, message) => {
    web.faults.set(image, fault)
    const { code, stderr } = await ubuntu('pull', 'noble', '--to', 'disk.raw')
    expect([code, stderr]).toEqual([1, expect.stringContaining(message)])
    expect(left()).toEqual([])
    const cache = join(home, '.cache/moraine/images')
    const files = existsSync(cache) ? readdirSync(cache, { recursive: true }).map(String) : []
    expect(files.filter((name) => name.endsWith('.img'))).toEqual([])
  })

  test('a copy in the cache that was changed is fetched again', async () => {
    await ok(ubuntu('pull', 'noble', '--to', 'disk.raw'))
    const cache = join(home, '.cache/moraine/images')
    const name =
      readdirSync(cache, { recursive: true })
        .map(String)
        .find((one) => one.endsWith('.img')) ?? ''
    const bytes = readFileSync(join(cache, name))
    bytes[70_000] = 0xff
    writeFileSync(join(cache, name), bytes)
    rmSync(join(home, 'disk.raw'))
    const { code, stderr } = await ubuntu('pull', 'noble', '--to', 'disk.raw')
    expect([code, stderr]).toEqual([0, expect.stringContaining('was changed; it is fetched again')])
    expect(readFileSync(join(home, 'disk.raw')).equals(noble)).toBe(true)
  })

  test('through a redirect to another host, and a proxy of the environment', async () => {
    const elsewhere = await serveFolder(made.folder)
    const asked: string[] = []
    const proxy = http.createServer((request, response) => {
      asked.push(request.url ?? '')
      const onward = http.get(request.url ?? '', { headers: request.headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers)
        answer.pipe(response)
      })
      onward.on('error', () => response.destroy())
    })
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
    const address = proxy.address()
    try {
      web.faults.set(image, { location: `${elsewhere.url}${image}` })
      env.HTTP_PROXY = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`
      await ok(ubuntu('pull', 'noble', '--to', 'disk.raw'))
      expect(
        createHash('md5')
          .update(readFileSync(join(home, 'disk.raw')))
          .digest('hex'),
      ).toBe(createHash('md5').update(noble).digest('hex'))
      expect(asked).toContain(`${elsewhere.url}${image}`)
    } finally {
      proxy.close()
      await elsewhere.close()
    }
  })

  test('images with signatures of their own', async () => {
    const mirror = ['--mirror', `${web.url}/alpine`, '--arch', 'amd64']
    const pull = (...args: string[]) =>
      command('catalog', 'pull', 'alpine:3.22', ...mirror, '--to', 'disk.raw', ...args)
    const path = '/alpine/v3.22/releases/cloud/nocloud_alpine-3.22.2-x86_64-bios-cloudinit-r0.qcow2'
    const other = readFileSync(join(made.folder, `${path.replace('3.22.2', '3.22.1')}.asc`))
    for (const fault of [{ status: 404 }, { data: other }]) {
      web.faults.set(`${path}.asc`, fault)
      const { code, stderr } = await pull(...trust())
      expect([code, stderr]).toEqual([1, expect.stringMatching(/not signed|does not hold/)])
    }
    expect(left()).toEqual([])
    await ok(pull('--unsigned'))
    web.faults.clear()
    rmSync(join(home, '.cache'), { recursive: true })
    await ok(pull(...trust()))
  })
})

describeWith(['isoinfo'], 'seeds', () => {
  test('stand beside the disk, as isoinfo reads them; user data that cloud-init would not take is refused at first', async () => {
    writeFileSync(join(home, 'user-data.yaml'), '#cloud-config\npassword: moraine\n')
    await ok(ubuntu('pull', 'noble', '--to', 'disk.qcow2', '--seed', 'user-data.yaml'))
    expect(left()).toEqual(['disk-seed.iso', 'disk.qcow2', 'user-data.yaml'])
    const seed = join(home, 'disk-seed.iso')
    expect((await run('isoinfo', ['-d', '-i', seed])).stdout).toContain('Volume id: cidata')
    expect((await run('isoinfo', ['-R', '-x', '/user-data', '-i', seed])).stdout).toBe(
      '#cloud-config\npassword: moraine\n',
    )
    rmSync(seed)
    writeFileSync(join(home, 'user-data.yaml'), 'password: moraine\n')
    web.requests.length = 0
    expect((await ubuntu('pull', 'noble', '--to', 'other.qcow2', '--seed', 'user-data.yaml')).code).toBe(1)
    expect(web.requests).toEqual([])
    writeFileSync(join(home, 'user-data.yaml'), '')
    const small = await ubuntu('pull', 'noble', '--to', 'other.qcow2', '--seed', 'user-data.yaml', '--size', '1M')
    expect([small.code, small.stderr]).toEqual([1, expect.stringContaining('the disk has 4 MiB')])
    expect(left()).toEqual(['disk.qcow2', 'user-data.yaml'])
  })
})

describeWith(['qemu-img'], 'qemu-img', () => {
  test.each(['qcow2', 'vmdk', 'vhd'])('reads what lands as %s', async (format) => {
    const file = `disk.${format}`
    await ok(ubuntu('pull', 'noble', '--to', file, '--size', '8M'))
    const padded = join(home, 'expected.raw')
    writeFileSync(padded, Buffer.concat([noble, Buffer.alloc((8 << 20) - noble.length)]))
    const driver = format === 'vhd' ? 'vpc' : format
    expect(await run('qemu-img', ['compare', '-F', driver, padded, join(home, file)])).toMatchObject({ code: 0 })
    const info = JSON.parse((await run('qemu-img', ['info', '-f', driver, '--output=json', join(home, file)])).stdout)
    if (format !== 'vhd') expect(info).toMatchObject({ 'virtual-size': 8 << 20 })
  })
})
