/** The standalone executable where Node has trouble: little address space, no home, nothing to write to, no standard input. */
import { copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { makeMirror } from '../../cloud-images/test/support/mirror.ts'
import { serveFolder } from '../../cloud-images/test/support/web.ts'
import { describeWith, run, tool } from '../../engine/test/support/process.ts'
import { standalone } from './support/differential.ts'

const folder = mkdtempSync(join(tmpdir(), 'moraine-standalone-'))
const built = existsSync(standalone.moraine)
if (!built && process.env.CI === 'true') throw new Error('npm run build:binary must run first')
const needed = ['qemu-img', 'prlimit', 'strace', 'sh']

afterAll(() => rmSync(folder, { recursive: true, force: true }))

const inFolder = { cwd: folder }
const path = (name: string): string => tool(name).path ?? name

const describeBuilt = built ? (title: string, tests: () => void) => describeWith(needed, title, tests) : describe.skip

describeBuilt(`the standalone executable${built ? '' : ' [skipped: npm run build:binary has not run]'}`, () => {
  beforeAll(async () => {
    await run(path('qemu-img'), ['create', '-q', '-f', 'qcow2', 'a.qcow2', '64M'], inFolder)
    await run(path('sh'), ['-c', 'yes moraine | head -c 3000320 > a.raw'], inFolder)
  })

  it('works within 1 GiB of address space and 30 s of processor, as Nova and Glance call it', async () => {
    const limits = ['--as=1073741824', '--cpu=30', '--', standalone.qemuImg]
    const info = await run(path('prlimit'), [...limits, 'info', '--output=json', 'a.qcow2'], inFolder)
    expect(info).toMatchObject({ code: 0, stderr: '' })
    expect(JSON.parse(info.stdout)).toMatchObject({ format: 'qcow2', 'virtual-size': 64 * 2 ** 20 })
    // Worker threads, each with a heap of its own, too.
    const packed = await run(path('prlimit'), [...limits, 'convert', '-c', '-O', 'qcow2', 'a.raw', 'c.qcow2'], inFolder)
    expect(packed).toMatchObject({ code: 0, stdout: '', stderr: '' })
    expect((await run(path('qemu-img'), ['compare', 'a.raw', 'c.qcow2'], inFolder)).code).toBe(0)
  })

  it('fetches from the web as a service, from the addresses that were judged and no others', async () => {
    const keyring = join(folder, 'mirror/keyring.asc')
    await makeMirror(join(folder, 'mirror'), { only: ['ubuntu'], time: new Date(Date.now() - 60_000) })
    const web = await serveFolder(join(folder, 'mirror'))
    try {
      const { port } = new URL(web.url)
      const catalogue = { name: 'ubuntu', distribution: 'ubuntu', mirror: `http://localhost:${port}/ubuntu`, keyring }
      const releases = { releases: ['noble'], architectures: ['amd64'] }
      const file = join(folder, 'catalogues.yaml')
      writeFileSync(file, JSON.stringify([{ ...catalogue, ...releases }]))
      const args = ['serve', 'sync', '--data', join(folder, 'data'), '--catalogue-file', file, '--import-ports', port]
      const refused = await run(standalone.moraine, args, inFolder)
      expect(`${refused.stdout}${refused.stderr}`).toContain('localhost has an address that is not on the internet')
      expect(web.requests).toEqual([])
      const synced = await run(standalone.moraine, [...args, '--import-allowed-hosts', 'localhost'], inFolder)
      expect(synced).toMatchObject({ code: 0 })
      expect(synced.stdout).toContain('ubuntu: imported: Ubuntu 24.04 LTS amd64 20260901.1\n')
    } finally {
      await web.close()
    }
  })

  it('works without a home, a user of a name, or any variable', async () => {
    const nothing = { ...inFolder, env: {} }
    expect(await run(standalone.moraine, ['info', 'a.qcow2'], nothing)).toMatchObject({ code: 0, stderr: '' })
    const homeless = { ...inFolder, env: { HOME: '/nonexistent', TMPDIR: '/nonexistent' } }
    expect(await run(standalone.moraine, ['convert', '-O', 'vmdk', 'a.raw', 'h.vmdk'], homeless)).toMatchObject({
      code: 0,
    })
  })

  it('writes nothing but its target, so that the rest may be read-only', async () => {
    const trace = ['-f', '-qq', '-o', 'trace', '-e', 'trace=%file']
    const args = [...trace, standalone.moraine, 'convert', '-O', 'qcow2', 'a.raw', 'w.qcow2']
    expect(await run(path('strace'), args, inFolder)).toMatchObject({ code: 0, stderr: '' })
    const writes = readFileSync(join(folder, 'trace'), 'utf8')
      .split('\n')
      .filter(
        (line) =>
          /O_WRONLY|O_RDWR|O_CREAT|mkdir|unlink|rename|symlink|\blink/.test(line) && !line.includes('"/dev/null"'),
      )
    expect(writes.length).toBeGreaterThan(0)
    expect(writes.filter((line) => !line.includes('w.qcow2'))).toEqual([])
  })

  it('works with closed standard descriptors', async () => {
    const line = (rest: string) => ['-c', `exec "$0" convert -O raw a.qcow2 s.raw ${rest}`, standalone.moraine]
    for (const rest of ['<&-', '<&- 2>&-', '<&- >&- 2>&-']) {
      expect(await run(path('sh'), line(rest), inFolder), rest).toMatchObject({ code: 0, stdout: '', stderr: '' })
      expect((await run(path('qemu-img'), ['compare', 'a.qcow2', 's.raw'], inFolder)).code, rest).toBe(0)
    }
  })

  it('heeds no signal that the caller has switched off', async () => {
    const slowly = 'convert -r 2M -O raw a.raw n.raw'
    // What a shell starts in the background ignores SIGINT already.
    for (const before of ["trap '' HUP TERM; exec", 'exec nohup', "trap '' HUP; exec nohup"]) {
      const signals = before.includes('TERM') ? ['INT', 'HUP', 'TERM'] : ['INT', 'HUP']
      const script = `(${before} "$0" ${slowly}) & until ls .n.raw.*; do sleep 0.05; done > /dev/null 2>&1
        for s in ${signals.join(' ')}; do kill -$s $!; done; wait $!; echo $?`
      const { stdout } = await run(path('sh'), ['-c', script, standalone.qemuImg], inFolder)
      expect(stdout, before).toBe('0\n')
      expect((await run(path('qemu-img'), ['compare', 'a.raw', 'n.raw'], inFolder)).code, before).toBe(0)
      rmSync(join(folder, 'n.raw'))
    }
  })

  it('is qemu-img when it is called so, by a link or as a copy', async () => {
    symlinkSync(standalone.moraine, join(folder, 'qemu-img'))
    copyFileSync(standalone.moraine, join(folder, 'other'))
    const version = (program: string) => run(program, ['--version'], inFolder).then(({ stdout }) => stdout)
    expect(await version(join(folder, 'qemu-img'))).toMatch(/^qemu-img version 7\.2/)
    expect(await version(join(folder, 'other'))).toMatch(/^moraine \d/)
    expect(await version(standalone.qemuImg)).toMatch(/^qemu-img version 7\.2/)
  })

  it('is no other program for what the environment says', async () => {
    writeFileSync(join(folder, 'other.js'), 'console.log("other")')
    const order = join(folder, 'order')
    const variables = {
      BUN_BE_BUN: '1',
      BUN_OPTIONS: '--preload ./other.js',
      BUN_INSPECT: 'no address',
      BUN_INSPECT_PRELOAD: './other.js',
      BUN_BYTECODE_ORDER_OUT: order,
    }
    const plain = await run(standalone.moraine, ['info', 'a.qcow2'], inFolder)
    for (const [name, value] of Object.entries(variables)) {
      const seen = await run(standalone.moraine, ['info', 'a.qcow2'], { ...inFolder, env: { [name]: value } })
      expect(seen, name).toEqual(plain)
    }
    expect(existsSync(order)).toBe(false)
  })

  it('takes no settings from the folder where it is called', async () => {
    await run(
      path('sh'),
      ['-c', 'echo MORAINE_CALLED_AS=qemu-img > .env; echo "preload = [\\"./absent.ts\\"]" > bunfig.toml'],
      inFolder,
    )
    const { stdout, code } = await run(standalone.moraine, ['--version'], { ...inFolder, env: {} })
    expect({ stdout, code }).toEqual({ stdout: expect.stringMatching(/^moraine /), code: 0 })
  })
})
