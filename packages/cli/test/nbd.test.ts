/** Exports of NBD servers as images, beside qemu-img; and the verbs of `moraine nbd`. */
import { type ChildProcess, spawn } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { describeWith, run, runOk, tool } from '../../engine/test/support/process.ts'
import { expectClean, fileSha, qemuImg, qemuIo } from '../../engine/test/support/qemu.ts'
import { Random } from '../../engine/test/support/random.ts'
import { makeCertificates } from '../../nbd/test/support/certificates.ts'
import { compared, moraine, words } from './support/differential.ts'

const folder = mkdtempSync(join(tmpdir(), 'moraine-nbd-'))
const children = new Set<ChildProcess>()
afterAll(() => {
  for (const child of children) child.kill('SIGKILL')
  rmSync(folder, { recursive: true, force: true })
})

/** Starts a program and waits until it listens on a socket in a folder. */
async function start(
  program: string,
  args: string[],
  cwd: string,
  socket: string,
): Promise<{ child: ChildProcess; stop(): Promise<number | null> }> {
  const child = spawn(program, args, {
    cwd,
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, LC_ALL: 'C' },
  })
  children.add(child)
  const ended = new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)))
  for (let tries = 0; !existsSync(join(cwd, socket)); tries++) {
    if (child.exitCode !== null || tries > 800) throw new Error(`${program} ${args.join(' ')} does not listen`)
    await sleep(25)
  }
  return {
    child,
    stop: async () => {
      child.kill('SIGTERM')
      const code = await ended
      children.delete(child)
      return code
    },
  }
}

const name = "'nbd+unix:///exp?socket=s.sock'"

function content(size: number): Buffer {
  const bytes = Buffer.alloc(size)
  const random = new Random(3)
  bytes.set(random.bytes(300_000), 70_000)
  bytes.set(random.bytes(1_000_000), size - 1_500_000)
  return bytes
}

/** Lines that go through both programs, each with an export of its own that begins as the same image. */
const lines = [
  `info ${name}`,
  `info --output=json ${name}`,
  'info nbd:unix:s.sock:exportname=exp',
  'info nbd:unix:s.sock',
  "info 'nbd+unix:///nope?socket=s.sock'",
  'info --image-opts driver=nbd,path=s.sock,export=exp',
  `info --output=json 'json:{"driver":"nbd","server":{"type":"unix","path":"s.sock"},"export":"exp"}'`,
  'info --image-opts driver=raw,file.driver=nbd,file.server.type=unix,file.server.path=s.sock,file.export=exp',
  'info --image-opts driver=nbd,server.type=unix,server.path=s.sock,export=exp,foo=1',
  ...[
    'driver=nbd',
    'driver=nbd,port=1',
    'driver=nbd,host=localhost,path=x',
    'driver=nbd,server.type=unix',
    'driver=nbd,server.type=foo',
    'driver=nbd,server.path=/nope,export=exp',
    'driver=nbd,server.type=inet,server.host=localhost',
    'driver=nbd,server.type=unix,server.path=/nope,server.foo=1',
    'driver=nbd,server.type=unix,server.path=/nope,reconnect-delay=x',
    'driver=nbd,server.type=unix,server.path=/nope,tls-creds=t',
    'driver=nbd,server.type=unix,server.path=/nope,path=/nope',
    'file.driver=nbd,file.filename=nbd:unix:/nope',
  ].map((options) => `info --image-opts ${options}`),
  `info nbd:unix:${'a'.repeat(200)}`,
  'info nbds://localhost/',
  `map ${name}`,
  `map --output=json ${name}`,
  `check ${name}`,
  `check -f qcow2 ${name}`,
  `compare -f raw -F raw ${name} disk.raw`,
  `compare ${name} ${name}`,
  `measure -O qcow2 ${name}`,
  `resize -f raw ${name} 100M`,
  `resize -f raw --shrink ${name} 1M`,
  `resize ${name} 16M`,
  `create -f raw ${name} 17M`,
  `create -f raw -o help ${name}`,
  `convert -n -O raw large.raw ${name}`,
  `convert -O raw large.raw ${name}`,
  `convert -f raw -O qcow2 ${name} copy.qcow2`,
  `dd -f raw -O raw 'if=nbd+unix:///exp?socket=s.sock' of=part.raw bs=1M count=2`,
  `create -f qcow2 -b ${name} -F raw over.qcow2`,
  'map --output=json over.qcow2',
]

/** Lines that change the export. */
const changing = [
  `create -f raw ${name} 8M`,
  `create -f qcow2 ${name} 200M`,
  `convert -O raw small.raw ${name}`,
  `convert -n -O raw small.raw ${name}`,
  `convert -O qcow2 small.raw ${name}`,
  `convert -S 0 -O raw small.raw ${name}`,
]

describeWith(['qemu-img', 'qemu-nbd'], 'exports as images', () => {
  const folders = ['theirs', 'ours'].map((name) => join(folder, name))
  beforeAll(() => {
    for (const path of folders) {
      mkdirSync(path)
      writeFileSync(join(path, 'disk.raw'), content(16 << 20))
      writeFileSync(join(path, 'small.raw'), content(4 << 20))
      writeFileSync(join(path, 'large.raw'), Buffer.alloc(17 << 20))
    }
  })

  async function both(calls: string[]): Promise<void> {
    const servers = await Promise.all(
      folders.map((cwd) => {
        writeFileSync(join(cwd, 'export.raw'), content(16 << 20))
        rmSync(join(cwd, 's.sock'), { force: true })
        const args = ['-t', '-e', '4', '-f', 'raw', '-x', 'exp', '-k', join(cwd, 's.sock'), 'export.raw']
        return start(tool('qemu-nbd').path ?? '', args, cwd, 's.sock')
      }),
    )
    try {
      for (const line of calls) {
        const [theirs, ours] = await Promise.all(
          folders.map(async (cwd, at) => {
            const [program, before] = at === 0 ? [tool('qemu-img').path ?? '', []] : [compared.program, compared.args]
            const env = { ...process.env, LC_ALL: 'C', MORAINE_CALLED_AS: 'qemu-img' }
            const { code, stdout, stderr } = await run(program, [...before, ...words(line)], { cwd, env })
            return { line, code, stdout, stderr }
          }),
        )
        expect.soft(ours).toEqual(theirs)
      }
    } finally {
      await Promise.all(servers.map((server) => server.stop()))
    }
    const shas = await Promise.all(folders.map((cwd) => fileSha(join(cwd, 'export.raw'))))
    expect(shas[1], calls.join('; ')).toBe(shas[0])
  }

  it('are shown, refused and copied as qemu-img does it', () => both(lines), 120_000)

  it.each(changing)('hold the same bytes after: %s', (line) => both([line]), 60_000)
})

describeWith(['qemu-img', 'qemu-nbd', 'openssl'], 'credentials for TLS', () => {
  const cwd = join(folder, 'tls')
  const export_ = 'driver=nbd,server.type=unix,server.path=s.sock,export=exp'
  const x509 = '--object tls-creds-x509,id=t,endpoint=client,dir'
  beforeAll(async () => {
    const pki = await makeCertificates(join(cwd, 'pki'))
    const openssl = (...args: string[]) => runOk('openssl', args, { cwd })
    writeFileSync(join(cwd, 'disk.raw'), content(4 << 20))
    // With its key under a password; with what is no certificate; without a folder's files.
    for (const name of ['locked', 'broken', 'lost', 'psk', 'psk-wrong', 'psk-bad', 'empty']) mkdirSync(join(cwd, name))
    for (const name of ['locked', 'broken', 'lost']) {
      copyFileSync(join(pki.client, 'ca-cert.pem'), join(cwd, name, 'ca-cert.pem'))
      copyFileSync(join(pki.client, 'client-cert.pem'), join(cwd, name, 'client-cert.pem'))
    }
    const key = join(pki.client, 'client-key.pem')
    await openssl(
      'pkcs8',
      '-topk8',
      '-v2',
      'aes256',
      '-passout',
      'pass:open',
      '-in',
      key,
      '-out',
      'locked/client-key.pem',
    )
    writeFileSync(join(cwd, 'broken/client-cert.pem'), 'no certificate\n')
    writeFileSync(join(cwd, 'lost/ca-cert.pem'), 'nobody\n')
    for (const [name, byte] of [
      ['psk', 7],
      ['psk-wrong', 8],
    ] as const) {
      writeFileSync(join(cwd, name, 'keys.psk'), `rich:${Buffer.alloc(32, byte).toString('hex')}\n`)
    }
    writeFileSync(join(cwd, 'psk-bad/keys.psk'), 'rich:zz\nrich2\n')
  })

  /** Runs each line with both programs, which must say the same. */
  async function same(lines: readonly string[], told: (text: string) => string = (text) => text): Promise<void> {
    for (const line of lines) {
      const env = { ...process.env, LC_ALL: 'C', MORAINE_CALLED_AS: 'qemu-img' }
      const seen = async (program: string, before: string[]) => {
        const { code, stdout, stderr } = await run(program, [...before, ...words(line)], { cwd, env })
        return { line, code, stdout, stderr: told(stderr) }
      }
      const theirs = await seen(tool('qemu-img').path ?? '', [])
      expect.soft(await seen(compared.program, compared.args)).toEqual(theirs)
    }
  }

  /** A server with such credentials while `work` is done. */
  async function serving(object: string | undefined, work: () => Promise<void>): Promise<void> {
    rmSync(join(cwd, 's.sock'), { force: true })
    const secure = object === undefined ? [] : ['--object', object, '--tls-creds', 's']
    const args = ['-t', '-f', 'raw', '-x', 'exp', '-k', join(cwd, 's.sock'), ...secure, 'disk.raw']
    const server = await start(tool('qemu-nbd').path ?? '', args, cwd, 's.sock')
    try {
      await work()
    } finally {
      await server.stop()
    }
  }

  it(
    'are read and refused as qemu-img does it',
    () =>
      same([
        ...[
          'tls-creds-x509,id=t',
          'tls-creds-x509,id=t,dir=absent',
          'tls-creds-x509,id=t,dir=empty',
          'tls-creds-x509,id=t,endpoint=server,dir=pki/client',
          'tls-creds-x509,id=t,endpoint=foo,dir=pki/client',
          'tls-creds-x509,id=t,dir=pki/client,foo=1',
          'tls-creds-x509,id=t,dir=pki/client,verify-peer=maybe',
          'tls-creds-x509,id=t,dir=pki/client,verify-peer=yes,sanity-check=n,priority=NORMAL',
          'tls-creds-x509,id=t,dir=pki/client,sanity-check=x',
          'tls-creds-x509,id=t,dir=pki/client,passwordid=nope',
          'tls-creds-x509,id=t,dir=pki/anonymous',
          'tls-creds-x509,id=t,dir=locked',
          'tls-creds-x509,id=t,dir=broken',
          'tls-creds-x509,id=t,dir=lost',
          'tls-creds-psk,id=t',
          'tls-creds-psk,id=t,dir=empty',
          'tls-creds-psk,id=t,dir=psk',
          'tls-creds-psk,id=t,dir=psk-wrong,username=rich,verify-peer=off',
          'tls-creds-psk,id=t,dir=psk-bad,username=rich',
          'tls-creds-psk,id=t,dir=psk-bad,username=rich2',
          'tls-creds-psk,id=t,dir=psk,foo=1',
          'tls-creds-anon,id=t',
          'tls-creds-anon,id=t,dir=absent',
          'tls-creds-anon,id=t,username=x',
          '{"qom-type":"tls-creds-x509","id":"t","dir":"pki/client"}',
        ].map((object) => `measure --object '${object}' -O raw --size 1M`),
        'measure --object secret,id=p,data=open --object tls-creds-x509,id=t,dir=locked,passwordid=p --size 1M',
        'measure --object secret,id=p,data=shut --object tls-creds-x509,id=t,dir=locked,passwordid=p --size 1M',
        'measure --object tls-creds-anon,id=p --object secret,id=p,data=x --size 1M',
        ...[
          `${x509}=pki/client --image-opts ${export_},tls-creds=t`,
          `${x509}=pki/client --image-opts ${export_},tls-creds=u`,
          `${x509}=pki/client --image-opts ${export_},tls-hostname=x`,
          `--object tls-creds-x509,id=t,endpoint=server,dir=pki/server --image-opts ${export_},tls-creds=t`,
          `--object secret,id=t,data=x --image-opts ${export_},tls-creds=t`,
          `--object tls-creds-anon,id=t --image-opts ${export_},tls-creds=t`,
        ].map((line) => `info ${line}`),
      ]),
    60_000,
  )

  it('certificates: exports are sources and targets', async () => {
    await serving('tls-creds-x509,id=s,endpoint=server,dir=pki/server,verify-peer=on', () =>
      same([
        `info ${x509}=pki/client --image-opts ${export_},tls-creds=t`,
        `info ${x509}=pki/client --image-opts ${export_},tls-creds=t,tls-hostname=localhost`,
        `info --output=json ${x509}=pki/client --image-opts driver=raw,file.${export_.replaceAll(',', ',file.')},file.tls-creds=t,file.tls-hostname=localhost`,
        `info ${x509}=pki/client --image-opts ${export_},tls-creds=t,tls-hostname=elsewhere`,
        `info ${x509}=pki/client,verify-peer=off --image-opts ${export_},tls-creds=t,tls-hostname=elsewhere`,
        `info ${x509}=pki/client,verify-peer=off --image-opts ${export_},tls-creds=t`,
        `info ${x509}=pki/stranger --image-opts ${export_},tls-creds=t,tls-hostname=localhost`,
        `info --object secret,id=p,data=open ${x509}=locked,passwordid=p --image-opts ${export_},tls-creds=t,tls-hostname=localhost`,
        `compare ${x509}=pki/client --image-opts ${export_},tls-creds=t,tls-hostname=localhost driver=raw,file.filename=disk.raw`,
        `convert ${x509}=pki/client -n -O raw --target-image-opts disk.raw ${export_},tls-creds=t,tls-hostname=localhost`,
        `info 'json:{"driver":"nbd","server":{"type":"unix","path":"s.sock"},"export":"exp"}'`,
      ]),
    )
    await serving(undefined, () =>
      same([`info ${x509}=pki/client --image-opts ${export_},tls-creds=t,tls-hostname=localhost`]),
    )
  }, 60_000)

  /** The standalone executable has certificates only, and says so. */
  async function refused(line: string, what: string): Promise<void> {
    const { code, stderr } = await run(moraine, words(line), { cwd })
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringContaining(`the TLS of this program has no ${what}`),
    })
  }

  it('keys that both sides know', () =>
    serving(`tls-creds-psk,id=s,endpoint=server,dir=${join(cwd, 'psk')}`, async () => {
      const line = (dir: string) =>
        `info --object tls-creds-psk,id=t,dir=${dir},username=rich --image-opts ${export_},tls-creds=t`
      if (process.env.MORAINE_COMMAND === 'binary') return await refused(line('psk'), 'pre-shared keys')
      await same([line('psk')])
      // What the handshake failed of, each library says in words of its own.
      await same([line('psk-wrong')], (text) => text.replace(/(TLS handshake failed:).*/, '$1'))
    }))

  it('nobody proves who they are', () =>
    serving('tls-creds-anon,id=s,endpoint=server', async () => {
      const line = `info --object tls-creds-anon,id=t --image-opts ${export_},tls-creds=t`
      if (process.env.MORAINE_COMMAND === 'binary') return await refused(line, 'anonymous credentials')
      await same([line])
      const other = `info ${x509}=pki/client --image-opts ${export_},tls-creds=t,tls-hostname=localhost`
      await same([other], (text) => text.replace(/(TLS handshake failed:).*/, '$1'))
    }))
})

describeWith(['qemu-img', 'qemu-io', 'nbdinfo'], 'moraine nbd', () => {
  const path = (name: string) => join(folder, name)

  it('serves an image of each persona’s formats, converts over it both ways, and ends well', async () => {
    writeFileSync(path('a.raw'), content(16 << 20))
    await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', path('a.raw'), path('a.qcow2'))
    const server = await start(
      moraine,
      ['nbd', 'serve', '-t', '-f', 'qcow2', '-x', 'disk', '-D', 'a disk', '-k', 'a.sock', 'a.qcow2'],
      folder,
      'a.sock',
    )
    const uri = `nbd+unix:///disk?socket=${path('a.sock')}`
    expect((await run('nbdinfo', [uri])).stdout).toContain('a disk')
    expect(await runOk(moraine, ['nbd', 'list', uri])).toBe("'disk': 16 MiB (16777216 bytes), a disk\n")
    await qemuImg('compare', '-f', 'raw', '-F', 'raw', path('a.raw'), uri)
    await runOk(moraine, ['convert', '-f', 'raw', '-O', 'vdi', uri, path('a.vdi')])
    await qemuImg('compare', '-f', 'raw', '-F', 'vdi', path('a.raw'), path('a.vdi'))
    const other = Buffer.from(content(16 << 20)).reverse()
    writeFileSync(path('b.raw'), other)
    await runOk(moraine, ['convert', '-n', '-f', 'raw', '-O', 'raw', path('b.raw'), uri])
    await qemuIo(uri, 'raw', 'write -P 7 5M 70000', 'write -z 9M 1M')
    other.fill(7, 5 << 20, (5 << 20) + 70_000)
    other.fill(0, 9 << 20, 10 << 20)
    writeFileSync(path('b.raw'), other)
    // The image is locked as long as it is served.
    expect((await run('qemu-img', ['check', path('a.qcow2')])).stderr).toContain('Failed to get shared "write" lock')
    expect(await server.stop()).toBe(0)
    await expectClean(path('a.qcow2'), 'qcow2')
    await qemuImg('compare', '-f', 'raw', '-F', 'qcow2', path('b.raw'), path('a.qcow2'))
    expect(existsSync(path('a.sock'))).toBe(false)
  })

  it('holds a compressed qcow2 that is made on it', async () => {
    writeFileSync(path('f.raw'), Buffer.alloc(16 << 20))
    const server = await start(moraine, ['nbd', 'serve', '-t', '-f', 'raw', '-k', 'f.sock', 'f.raw'], folder, 'f.sock')
    const uri = `nbd+unix:///?socket=${path('f.sock')}`
    await runOk(moraine, ['convert', '-c', '-f', 'raw', '-O', 'qcow2', path('a.raw'), uri])
    await expectClean(uri, 'qcow2')
    await qemuImg('compare', '-f', 'raw', '-F', 'qcow2', path('a.raw'), uri)
    await server.stop()
  })

  it('without --persistent ends with the last client', async () => {
    const server = await start(moraine, ['nbd', 'serve', '-r', '-f', 'raw', '-k', 'c.sock', 'a.raw'], folder, 'c.sock')
    const ended = new Promise((resolve) => server.child.once('close', resolve))
    expect(
      (await run('qemu-io', ['-r', '-f', 'raw', '-c', 'read 0 512', `nbd+unix://?socket=${path('c.sock')}`])).code,
    ).toBe(0)
    expect(await ended).toBe(0)
  })

  it('speaks TLS on both sides', async () => {
    const pki = await makeCertificates(path('pki'))
    const args = [
      'nbd',
      'serve',
      '-r',
      '-t',
      '-f',
      'raw',
      '-k',
      'd.sock',
      '--tls-certificates',
      pki.server,
      '--tls-verify-peer',
      'a.raw',
    ]
    const server = await start(moraine, args, folder, 'd.sock')
    const uri = `nbds+unix:///?socket=${path('d.sock')}`
    const info = await runOk(moraine, ['info', `${uri}&tls-certificates=${pki.client}`])
    expect(info).toContain('16 MiB (16777216 bytes)')
    expect((await run(moraine, ['info', uri])).code).toBe(1)
    expect((await run(moraine, ['info', uri.replace('nbds', 'nbd')])).stderr).toContain('TLS negotiation required')
    expect(await runOk(moraine, ['nbd', 'list', '--output=json', '--tls-certificates', pki.client, uri])).toContain(
      '"read-only": true',
    )
    await server.stop()
  })

  it.each([
    [['--bitmap', 'b', 'a.raw'], '--bitmap needs --read-only'],
    [['--shared', '0', 'a.raw'], '--shared must be used with a whole number from 1 to 1000'],
    [['-k', 'x', '-p', '1', 'a.raw'], '--socket cannot be used with --port or --bind'],
    [['--tls', 'allow', 'a.raw'], 'need --tls-certificates'],
    [['-k', 'no/x', '-f', 'raw', 'a.raw'], "Failed to listen on 'no/x': No such file or directory"],
    [['nope'], "Could not open 'nope': No such file or directory"],
  ])('refuses %j', async (args, words) => {
    const result = await run(moraine, ['nbd', 'serve', ...args], { cwd: folder })
    expect([result.code, result.stderr]).toEqual([1, expect.stringContaining(words)])
  })
})

describeWith(['qemu-img', 'nbdkit'], 'a remote compressed qcow2', () => {
  let url = ''
  const server = createServer((request, response) => {
    const bytes = readFileSync(join(folder, 'packed.qcow2'))
    const range = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '')
    if (range === null) {
      response.setHeader('content-length', bytes.length)
      response.end(request.method === 'HEAD' ? undefined : bytes)
      return
    }
    const [start, end] = [Number(range[1]), Math.min(Number(range[2]), bytes.length - 1)]
    response.writeHead(206, {
      'content-range': `bytes ${start}-${end}/${bytes.length}`,
      'content-length': end + 1 - start,
    })
    response.end(bytes.subarray(start, end + 1))
  })
  beforeAll(async () => {
    writeFileSync(join(folder, 'packed.raw'), content(16 << 20))
    await qemuImg('convert', '-c', '-f', 'raw', '-O', 'qcow2', join(folder, 'packed.raw'), join(folder, 'packed.qcow2'))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/packed.qcow2`
  })
  afterAll(() => server.close())

  it('is converted without a copy of it, over NBD and over HTTP', async () => {
    const kit = await start(
      tool('nbdkit').path ?? '',
      ['-f', '-r', '-U', 'k.sock', 'file', 'packed.qcow2'],
      folder,
      'k.sock',
    )
    // Nothing may be written but the target: there is no room for anything else.
    const empty = join(folder, 'empty')
    mkdirSync(empty)
    for (const [at, source] of [`nbd+unix:///?socket=${join(folder, 'k.sock')}`, url].entries()) {
      const target = join(folder, `unpacked-${at}.raw`)
      const env = { ...process.env, LC_ALL: 'C', TMPDIR: join(folder, 'nowhere') }
      await runOk(moraine, ['convert', '-O', 'raw', source, target], { cwd: empty, env })
      expect(await fileSha(target), source).toBe(await fileSha(join(folder, 'packed.raw')))
    }
    await kit.stop()
  })
})

describeWith(['nbdkit'], 'the server of an export', () => {
  it('that is killed while it is read or written: the copy fails, and says where', async () => {
    writeFileSync(join(folder, 'e.raw'), content(16 << 20))
    const kit = tool('nbdkit').path ?? ''
    for (const args of [
      ['-O', 'raw', 'nbd+unix:///?socket=e.sock', 'e.out'],
      ['-n', '-f', 'raw', '-O', 'raw', 'e.raw', 'nbd+unix:///?socket=e.sock'],
    ]) {
      rmSync(join(folder, 'e.sock'), { force: true })
      const server = await start(
        kit,
        ['-f', '-U', 'e.sock', '--filter=delay', 'memory', '16M', 'rdelay=5', 'wdelay=5', 'delay-zero=5'],
        folder,
        'e.sock',
      )
      const copy = run(moraine, ['convert', ...args], { cwd: folder })
      await sleep(1200)
      server.child.kill('SIGKILL')
      const { code, stderr } = await copy
      expect(code).toBe(1)
      expect(stderr).toMatch(/closed|broke|refused|Connection/)
      expect(existsSync(join(folder, 'e.out')), 'nothing half-made is left').toBe(false)
    }
  })
})
