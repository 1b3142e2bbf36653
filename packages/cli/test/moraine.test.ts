/** The command under its own name: what it has beyond qemu-img, and how it speaks. */
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { describeWith, projectRoot, type RunResult, run } from '../../engine/test/support/process.ts'
import { launchers, moraine, ourQemuImg, words } from './support/differential.ts'

const folder = mkdtempSync(join(tmpdir(), 'moraine-cli-'))
const path = (name: string): string => join(folder, name)

function call(line: string, program = moraine): Promise<RunResult> {
  return run(program, words(line), { cwd: folder })
}

beforeAll(async () => {
  writeFileSync(path('a.raw'), 'some data')
  truncateSync(path('a.raw'), 1 << 20)
  await call('create -q -f qcow2 a.qcow2 4M')
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe('names', () => {
  it('is known by the name it is called by, through links to links, from any folder', async () => {
    mkdirSync(path('links'))
    symlinkSync(launchers.qemuImg, path('links/first'))
    symlinkSync('first', path('links/second'))
    symlinkSync('links/second', path('qemu-img'))
    symlinkSync(launchers.moraine, path('other'))
    const names = ['links/first', 'links/second', 'qemu-img', 'other'].map((name) =>
      run(path(name), ['nope'], { cwd: '/' }),
    )
    expect((await Promise.all(names)).map(({ stderr }) => stderr.split(':')[0])).toEqual([
      'qemu-img',
      'qemu-img',
      'qemu-img',
      'moraine',
    ])
  })

  it('runs with the Node that it brought, whatever is on the path', async () => {
    mkdirSync(path('trap'))
    writeFileSync(path('trap/node'), '#!/bin/sh\necho wrong node\nexit 9\n', { mode: 0o755 })
    const result = await run(launchers.moraine, ['--version'], {
      env: { ...process.env, PATH: `${path('trap')}:/usr/bin:/bin` },
    })
    expect(result).toMatchObject({ code: 0, stdout: expect.stringMatching(/^moraine \d/) })
  })

  it('says which release of qemu-img it stands in for', async () => {
    const { version } = JSON.parse(readFileSync(join(projectRoot, 'packages/cli/package.json'), 'utf8')) as {
      version: string
    }
    expect((await call('--version')).stdout).toBe(`moraine ${version}\n`)
    expect((await call('--version', ourQemuImg)).stdout).toBe(`qemu-img version 7.2.22 (moraine ${version})\n`)
  })
})

describe('help', () => {
  for (const line of ['--help', '-h', 'help']) {
    it(`${line} lists the commands`, async () => {
      const { code, stdout } = await call(line)
      expect(code).toBe(0)
      for (const verb of [
        'create',
        'info',
        'check',
        'map',
        'measure',
        'convert',
        'compare',
        'resize',
        'snapshot',
        'inspect',
        'serve',
      ]) {
        expect(stdout).toMatch(new RegExp(`^  ${verb} +[A-Z]`, 'm'))
      }
    })
  }

  for (const verb of [
    'create',
    'info',
    'check',
    'map',
    'measure',
    'convert',
    'compare',
    'resize',
    'snapshot',
    'inspect',
    'serve',
  ]) {
    it(`${verb} --help fits a terminal and shows every option`, async () => {
      const [help, same] = [await call(`${verb} --help`), await call(`help ${verb}`)]
      expect(help).toMatchObject({ code: 0, stderr: '' })
      expect(same.stdout).toBe(help.stdout)
      expect(help.stdout).toContain(`Usage: moraine ${verb}`)
      expect(Math.max(...help.stdout.split('\n').map((line) => line.length))).toBeLessThanOrEqual(100)
    })
  }

  it("as qemu-img lays out each verb's syntax and the formats, as programs look for them", async () => {
    for (const line of ['--help', 'convert -h', 'info --help']) {
      const { code, stdout } = await call(line, ourQemuImg)
      expect(code).toBe(0)
      expect(stdout).toMatch(/^qemu-img version \d+\.\d+\.\d+ /)
      expect(stdout).toMatch(
        /^ {2}convert \[--object objectdef\].* filename \[filename2 \[\.\.\.\]\] output_filename$/m,
      )
      expect(stdout).toMatch(/^Supported formats: .*\bqcow2\b.*\braw\b/m)
      expect(stdout).toMatch(/^Supported formats: .*\bfile\b.*\bnbd\b.*\bvpc\b/m)
      expect(stdout).not.toMatch(/^ {2}serve /m)
    }
  })
})

/** A driver that qemu-img has and this has not. */
const unknown = 'vvfat'

describe('what qemu-img has and this has not is refused in its words', () => {
  for (const [line, message] of [
    ['info rbd:host/x', "Could not open 'rbd:host/x': Unknown protocol 'rbd'"],
    [`info -f ${unknown} a.raw`, "Could not open 'a.raw': File name string must start with 'fat:'"],
    [`create -f ${unknown} x 1M`, `x: Format driver '${unknown}' does not support image creation`],
    [`convert -O ${unknown} a.raw x`, `Format driver '${unknown}' does not support image creation`],
  ] as const) {
    it(line, async () => {
      expect(await call(line, ourQemuImg)).toMatchObject({ code: 1, stderr: `qemu-img: ${message}\n` })
    })
  }
})

describe('messages', () => {
  it('point to the help of the verb', async () => {
    expect((await call('info')).stderr).toBe(
      "moraine: Expecting one image file name\nTry 'moraine info --help' for more information\n",
    )
    expect((await call('nope')).stderr).toBe(
      "moraine: Command not found: nope\nTry 'moraine --help' for more information\n",
    )
  })

  it('say all that is known, and how to go on', async () => {
    expect((await call('info nofile')).stderr).toBe("moraine: Could not open 'nofile': No such file or directory\n")
    const { stderr } = await call(`info -f ${unknown} a.raw`)
    expect(stderr.split('\n')).toHaveLength(3)
    expect(stderr).toMatch(/moraine knows qcow2, .*raw/)
    expect((await call('info -f qcow2 a.raw')).stderr).toMatch(/Image is not in qcow2 format \(.*\)/)
  })

  it('tell what a conversion loses, unless it shall be quiet', async () => {
    await call('snapshot -c one a.qcow2')
    expect((await call('convert a.qcow2 lost.raw')).stderr).toMatch(/^moraine: note: 1 internal snapshot is not copied/)
    expect((await call('convert -q a.qcow2 lost.raw')).stderr).toBe('')
    expect((await call('convert a.qcow2 lost.raw', ourQemuImg)).stderr).toBe('')
  })
})

describe("'-'", () => {
  it('is standard output for convert', async () => {
    const script = `'${moraine}' convert -O qcow2 a.raw - > streamed.qcow2 && '${moraine}' compare a.raw streamed.qcow2`
    expect(await run('/bin/sh', ['-c', script], { cwd: folder })).toMatchObject({
      code: 0,
      stdout: 'Images are identical.\n',
      stderr: '',
    })
  })

  it('shows the percentage on standard error then', async () => {
    const script = `'${moraine}' convert -p a.raw - | cmp - a.raw`
    const { code, stderr } = await run('/bin/sh', ['-c', script], { cwd: folder })
    expect(code).toBe(0)
    expect(stderr).toMatch(/^ {4}\(0\.00\/100%\)\r.*\(100\.00\/100%\)\r\n$/s)
  })

  it('is refused where it makes no sense', async () => {
    for (const line of ['info -', 'convert - x', 'create - 1M']) {
      const { code, stderr } = await call(line)
      expect(code).toBe(1)
      expect(stderr).toContain('standard input and output cannot be used here')
    }
  })

  it('is a file for qemu-img', async () => {
    expect((await call('create -q - 1M', ourQemuImg)).code).toBe(0)
    expect((await call('info -', ourQemuImg)).stdout).toMatch(/^image: -\n/)
    expect((await call('info ./-')).stdout).toMatch(/^image: \.\/-\n/)
  })
})

describe('progress', () => {
  it('comes as JSON lines', async () => {
    const { stderr, stdout } = await call('convert --progress=json a.raw json.raw')
    const lines = stderr
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    expect(stdout).toBe('')
    expect(lines[0]).toMatchObject({ operation: 'convert', done: 0 })
    expect(lines.at(-1)).toMatchObject({ operation: 'convert', percent: 100 })
    expect(lines.at(-1)?.done).toBe(lines.at(-1)?.total)
  })

  it('is a percentage where there is no terminal', async () => {
    expect((await call('convert -p a.raw percent.raw')).stdout).toMatch(/^ {4}\(0\.00\/100%\)\r/)
  })

  it('is unknown to qemu-img as an option, and so are other additions', async () => {
    expect((await call('convert --progress=json a.raw x', ourQemuImg)).stderr).toContain(
      "unrecognized option '--progress=json'",
    )
    expect((await call('serve', ourQemuImg)).stderr).toContain('Command not found: serve')
  })

  it('refuses unknown kinds', async () => {
    expect((await call('convert --progress=foo a.raw x')).stderr).toContain('--progress must be used with one of')
  })
})

/** Starts the service, and waits until it has said all that it says at the start. */
async function startServing(environment: Record<string, string>, lines = 4, more: readonly string[] = []) {
  const child = spawn(moraine, ['serve', '--port=0', '--data=served', '--log-level=silent', ...more], {
    cwd: folder,
    env: { ...process.env, ...environment },
  })
  const ended = new Promise((resolve) => child.on('close', (code, signal) => resolve({ code, signal })))
  const greeting = await new Promise<string>((resolve) => {
    let said = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text
      if (said.split('\n').length === lines + 1) resolve(said)
    })
    child.on('close', () => resolve(said))
  })
  return { child, ended, greeting }
}

describe('serve', () => {
  it('serves until it is asked to stop, which is a good end', async () => {
    const { child, ended, greeting } = await startServing({})
    const url = /^moraine serves images on (http:\/\/127\.0\.0\.1:\d+), kept in (.*)\n/.exec(greeting)?.[1]
    const answer = await fetch(`${url}/v2/images`)
    expect(await answer.json()).toMatchObject({ images: [] })
    child.kill('SIGTERM')
    expect(await ended).toEqual({ code: 0, signal: null })
  })

  describeWith(['openstack', 'glance'], 'the clients', () => {
    it('reach it by the lines that it prints', { timeout: 240_000 }, async () => {
      const { child, ended, greeting } = await startServing({})
      const lines = greeting.split('\n').filter((line) => line.startsWith('  '))
      expect(lines.map((line) => line.split(' ')[2])).toEqual(['openstack', 'glance'])
      for (const line of lines) {
        const { code, stderr } = await run('sh', ['-c', `${line} <&-`], { env: { ...process.env, HOME: folder } })
        expect(stderr).toBe('')
        expect(code).toBe(0)
      }
      child.kill('SIGTERM')
      await ended
    })
  })

  it('listens on other addresses where the environment says so, and names one that can be reached from here', async () => {
    const { child, ended, greeting } = await startServing({ MORAINE_ALLOW_REMOTE: 'on', MORAINE_HOST: '0.0.0.0' })
    expect(greeting).toMatch(
      /^moraine serves images on http:\/\/0\.0\.0\.0:(\d+),[\s\S]*--os-endpoint http:\/\/127\.0\.0\.1:\1 /,
    )
    child.kill('SIGTERM')
    expect(await ended).toEqual({ code: 0, signal: null })
    const environment = { ...process.env, MORAINE_ALLOW_REMOTE: 'off' }
    expect(await run(moraine, ['serve', '--host=0.0.0.0'], { cwd: folder, env: environment })).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('refusing to listen on 0.0.0.0'),
    })
  })

  it('with accounts says how to log in, with a password that it made up', { timeout: 60_000 }, async () => {
    const { child, ended, greeting } = await startServing({ MORAINE_AUTH: 'local', MORAINE_DATA: '' }, 6, [
      '--data=accounts',
    ])
    const file = /^The password of the account admin was made up and written to (.*)$/m.exec(greeting)?.[1] ?? ''
    const secret = readFileSync(file, 'utf8').trim()
    expect(greeting).not.toContain(secret)
    const lines = greeting.split('\n').filter((line) => line.startsWith('  export'))
    const ask =
      'curl -sf -o /dev/null -w "%{http_code}" -H "content-type: application/json" -d @- $OS_AUTH_URL/v3/auth/tokens'
    const body = `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"'$OS_USERNAME'","domain":{"id":"default"},"password":"'$OS_PASSWORD'"}}}}}`
    const logIn = () => run('sh', ['-c', `${lines.join('\n')}\necho '${body}' | ${ask}`], { cwd: folder })
    expect((await logIn()).stdout).toBe('201')
    const next = await run(moraine, ['serve', 'password', '--data=accounts', 'admin'], { cwd: folder })
    expect([next.code, next.stderr, next.stdout.trim().length]).toEqual([0, '', 24])
    expect((await logIn()).stdout).toBe('401')
    writeFileSync(file, next.stdout)
    expect((await logIn()).stdout).toBe('201')
    expect(await run(moraine, ['serve', 'password', '--data=accounts', 'nobody'], { cwd: folder })).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('there is no account nobody'),
    })
    child.kill('SIGTERM')
    expect(await ended).toEqual({ code: 0, signal: null })
  })

  it('says where clients find it when they come by another way', async () => {
    const { child, ended, greeting } = await startServing({ MORAINE_PUBLIC_URL: 'https://images.example/glance' })
    expect(greeting).toContain('--os-endpoint https://images.example/glance image list\n')
    child.kill('SIGTERM')
    await ended
  })

  it('takes every setting of the service as an option', async () => {
    const { stdout } = await call('serve --help')
    for (const name of ['--host', '--port', '--data', '--insecure-bind', '--log-level', '--image-size-cap']) {
      expect(stdout).toContain(name)
    }
    expect(await call('serve --host 0.0.0.0')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('refusing to listen on 0.0.0.0'),
    })
    expect(await call('serve --port x')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('--port must be used with a number'),
    })
    expect(await call('serve here')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('Command not found: serve here'),
    })
  })
})

describe('chains', () => {
  it('a check ends where the backing files go round in a circle, or lack one', async () => {
    await call('create -u -q -f qcow2 -b round2.qcow2 -F qcow2 round1.qcow2 1M')
    await call('create -u -q -f qcow2 -b round1.qcow2 -F qcow2 round2.qcow2 1M')
    const { code, stderr } = await call('check round1.qcow2')
    expect(code).toBe(1)
    expect(stderr).toContain('creates an infinite loop')
    await call('create -u -q -f qcow2 -b nofile -F qcow2 orphan.qcow2 1M')
    for (const line of ['check orphan.qcow2', 'check -r all orphan.qcow2']) {
      const orphan = await call(line)
      expect(orphan).toMatchObject({ code: 1, stdout: '' })
      expect(orphan.stderr).toContain("Could not open backing file: Could not open 'nofile': No such file or directory")
    }
  })
})

describe('targets', () => {
  it('refuses to overwrite what it reads, with and without locks', async () => {
    const before = readFileSync(path('a.raw'))
    for (const line of ['convert a.raw a.raw', 'convert -U a.raw a.raw', 'convert -O qcow2 -U a.raw ./a.raw']) {
      const { code, stderr } = await call(line)
      expect(code).toBe(1)
      expect(stderr).toContain('Failed to get "write" lock')
    }
    expect(readFileSync(path('a.raw')).equals(before)).toBe(true)
  })
})
