/** `--untrusted`: nothing that an image names is opened, and nothing costs much. */
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { describeWith, type RunResult, run, tool } from '../../engine/test/support/process.ts'
import { personaFor } from '../src/persona.ts'
import { allVerbs } from '../src/verbs/index.ts'
import { moraine, ourQemuImg, words } from './support/differential.ts'

const folder = mkdtempSync(join(tmpdir(), 'moraine-untrusted-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const path = (name: string): string => join(folder, name)
const call = (line: string, program = moraine): Promise<RunResult> => run(program, words(line), { cwd: folder })

it('every verb of qemu-img takes it, and qemu-img does not', async () => {
  for (const { name, options } of await allVerbs(personaFor('qemu-img')))
    expect(options, name).toHaveProperty('untrusted')
  expect(await call('info --untrusted a.raw', ourQemuImg)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("unrecognized option '--untrusted'"),
  })
})

describeWith(['qemu-img'], 'images that name other files', () => {
  const secret = 'what only the owner of the machine may read'
  beforeAll(async () => {
    writeFileSync(path('secret.txt'), secret)
    truncateSync(path('secret.txt'), 65536)
    const make = async (...args: string[]): Promise<void> => {
      const { code, stderr } = await run(tool('qemu-img').path ?? 'qemu-img', args, { cwd: folder })
      if (code !== 0) throw new Error(stderr)
    }
    await make('create', '-q', '-f', 'qcow2', '-b', path('secret.txt'), '-F', 'raw', 'backed.qcow2')
    await make('create', '-q', '-f', 'qcow2', '-b', 'backed.qcow2', '-F', 'qcow2', 'twice.qcow2')
    await make(
      'create',
      '-q',
      '-f',
      'qcow2',
      '-u',
      '-b',
      'json:{"driver":"file","filename":"secret.txt"}',
      '-F',
      'raw',
      'json.qcow2',
      '1M',
    )
    await make('create', '-q', '-f', 'qcow2', '-u', '-b', 'nbd://127.0.0.1:1/x', '-F', 'raw', 'nbd.qcow2', '1M')
    await make('create', '-q', '-f', 'qcow2', '-o', 'data_file=data.raw,data_file_raw=on', 'data.qcow2', '1M')
    await make('create', '-q', '-f', 'vmdk', '-o', 'subformat=monolithicFlat', 'flat.vmdk', '1M')
    await make('create', '-q', '-f', 'qcow2', 'plain.qcow2', '1M')
  })

  const names: [image: string, wanted: string][] = [
    ['backed.qcow2', path('secret.txt')],
    ['json.qcow2', 'json:{"driver":"file","filename":"secret.txt"}'],
    ['nbd.qcow2', 'nbd://127.0.0.1:1/x'],
    ['data.qcow2', 'data.raw'],
    ['flat.vmdk', 'flat-flat.vmdk'],
  ]
  for (const [image, wanted] of names) {
    it(`${image}: refused, with what it wanted and how to allow it`, async () => {
      const { code, stdout, stderr } = await call(`convert --untrusted -O raw ${image} out.raw`)
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
      expect(stderr).toContain('which --untrusted does not open')
      expect(stderr).toContain(` is ${wanted})`)
      expect(stderr).toContain('--allow=')
      expect(() => readFileSync(path('out.raw'))).toThrow('ENOENT')
    })
  }

  it('no verb reads them, writes them or changes them', { timeout: 60_000 }, async () => {
    const before = readFileSync(path('secret.txt'))
    const lines = [
      'map --untrusted backed.qcow2',
      'check --untrusted backed.qcow2',
      'measure --untrusted -O raw backed.qcow2',
      'compare --untrusted backed.qcow2 plain.qcow2',
      'dd --untrusted if=backed.qcow2 of=out.raw',
      'commit --untrusted backed.qcow2',
      'rebase --untrusted -b plain.qcow2 -F qcow2 backed.qcow2',
      'rebase --untrusted -b backed.qcow2 -F qcow2 plain.qcow2',
      'info --untrusted --backing-chain backed.qcow2',
      'info --untrusted --image-opts driver=qcow2,file.filename=backed.qcow2,file.driver=file --backing-chain',
      'convert --untrusted -n -O qcow2 plain.qcow2 backed.qcow2',
      'create --untrusted -f qcow2 -b backed.qcow2 -F qcow2 over.qcow2',
      'bench --untrusted -c 1 backed.qcow2',
      'convert --untrusted -O qcow2 -B backed.qcow2 -F qcow2 plain.qcow2 over.qcow2',
    ]
    for (const line of lines) {
      const { code, stderr } = await call(line)
      expect({ line, stderr, failed: code > 0, denied: stderr.includes('--untrusted') }).toEqual({
        line,
        stderr,
        failed: true,
        denied: true,
      })
    }
    expect(readFileSync(path('secret.txt'))).toEqual(before)
    for (const name of ['out.raw', 'over.qcow2']) expect(() => readFileSync(path(name))).toThrow('ENOENT')
  })

  it('what needs no other file works as ever', async () => {
    expect(await call('info --untrusted backed.qcow2')).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('secret.txt'),
    })
    expect(await call('convert --untrusted -O raw plain.qcow2 plain.raw')).toMatchObject({ code: 0, stderr: '' })
  })

  it('a name that is allowed is opened, and those that it names are not', async () => {
    expect((await call(`convert --untrusted --allow=${path('secret.txt')} -O raw backed.qcow2 allowed.raw`)).code).toBe(
      0,
    )
    expect(readFileSync(path('allowed.raw'), 'latin1').startsWith(secret)).toBe(true)
    const refused = await call('convert --untrusted --allow=backed.qcow2 -O raw twice.qcow2 out.raw')
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining(`is ${path('secret.txt')})`) })
    expect(
      (
        await call(
          `convert --untrusted --allow=backed.qcow2 --allow=${path('secret.txt')} -O raw twice.qcow2 allowed.raw`,
        )
      ).code,
    ).toBe(0)
  })
})

describeWith(['qemu-img'], 'what is made of images, and sent', () => {
  it('takes it too: ova create, ova set, image push', async () => {
    const { verb: ova } = await import('../src/verbs/ova.ts')
    const { verb: image } = await import('../src/verbs/image.ts')
    for (const [group, names] of [
      [ova, ['create', 'set', 'info', 'check', 'extract']],
      [image, ['push']],
    ] as const) {
      for (const name of names) expect((await group.below?.find(name))?.options, name).toHaveProperty('untrusted')
    }
  })

  it('ova create opens no backing file, and leaves nothing', async () => {
    const refused = await call('ova create --untrusted --disk backed.qcow2 box.ova')
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('which --untrusted does not open') })
    expect(() => readFileSync(path('box.ova'))).toThrow('ENOENT')
    expect(
      await call(`ova create --untrusted --allow=${path('secret.txt')} --disk backed.qcow2 box.ova`),
    ).toMatchObject({ code: 0 })
  }, 30_000)

  it('ova set opens no file beside a descriptor', async () => {
    expect(await call('ova create --disk plain.qcow2 pack.ovf')).toMatchObject({ code: 0 })
    const before = readFileSync(path('pack.ovf'))
    const refused = await call('ova set --untrusted --cpus 2 pack.ovf')
    expect(refused.stderr).toContain('which --untrusted does not open')
    expect(refused.code).toBe(1)
    expect(readFileSync(path('pack.ovf')).equals(before)).toBe(true)
    // Members of one archive may name one another.
    expect(await call('ova set --untrusted --cpus 2 box.ova')).toMatchObject({ code: 0, stderr: '' })
  }, 30_000)

  it('image push converts nothing that would need another file', async () => {
    const push = (options: string) =>
      call(
        `image push --os-auth-type none --os-endpoint http://127.0.0.1:1 --unsafe --convert-to raw ${options} backed.qcow2`,
      )
    expect(await push('--untrusted')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('which --untrusted does not open'),
    })
    // What is allowed goes on to the service, which is not there.
    const allowed = await push(`--untrusted --allow=${path('secret.txt')}`)
    expect(allowed.stderr).not.toContain('--untrusted does not open')
    expect(allowed.stderr).toMatch(/refused|connect/i)
  })
})

describe('images that claim to be large', () => {
  it('are refused before they cost anything', async () => {
    // A qcow2 of 64 KiB whose L1 table would have 32 MiB.
    const header = Buffer.alloc(65536)
    header.write('QFI\xfb', 'latin1')
    header.writeUInt32BE(3, 4)
    header.writeUInt32BE(16, 20)
    header.writeBigUInt64BE(1n << 51n, 24)
    header.writeUInt32BE(4 << 20, 36)
    header.writeBigUInt64BE(65536n, 40)
    header.writeBigUInt64BE(131072n, 48)
    header.writeUInt32BE(1, 56)
    header.writeUInt32BE(4, 96)
    header.writeUInt32BE(104, 100)
    writeFileSync(path('large.qcow2'), header)
    const { code, stderr } = await call('info --untrusted large.qcow2')
    expect(code).toBe(1)
    expect(stderr).toMatch(/rule: at most .*\nWithout --untrusted the bounds are wider\.\n/)
    expect((await call('ova create --untrusted --disk large.qcow2 big.ova')).stderr).toContain('rule: at most')
    expect(() => readFileSync(path('big.ova'))).toThrow('ENOENT')
  })

  it('packed ones too', async () => {
    // Packed twice, zeros shrink to 1 in 100,000 and more.
    writeFileSync(path('bomb.gz'), gzipSync(gzipSync(Buffer.alloc(1 << 28))))
    const { code, stderr } = await call('convert --untrusted -O raw bomb.gz out.raw')
    expect(code).toBe(1)
    expect(stderr).toMatch(/10000|10_000/)
    expect(() => readFileSync(path('out.raw'))).toThrow('ENOENT')
  })
})
