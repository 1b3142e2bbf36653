/** Formats of which the command tells facts, or the name alone: LUKS without its password, VHD Sets, ASIF. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, type RunResult, run } from '../../engine/test/support/process.ts'
import { Fixtures, moraine, ourQemuImg, words } from './support/differential.ts'

describeWith(['qemu-img'], 'LUKS beside qemu-img', () => {
  const fixtures = new Fixtures()
  beforeAll(async () => {
    const make = 'create -q --object secret,id=s,data=abc -f luks'
    await fixtures.qemuImg(`${make} -o key-secret=s,iter-time=10 xts.luks 2M`)
    const cbc = 'cipher-alg=aes-128,cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256,hash-alg=sha512'
    await fixtures.qemuImg(`${make} -o key-secret=s,iter-time=10,${cbc} cbc.luks 1M`)
    await fixtures.qemuImg('create -q -f raw plain.raw 1M')
    const second = readFileSync(fixtures.path('xts.luks'))
    second.writeUInt16BE(2, 6)
    writeFileSync(fixtures.path('second.luks'), second)
  })

  for (const file of ['xts.luks', 'cbc.luks']) {
    fixtures.same(`info ${file}`)
    fixtures.same(`info --output=json ${file}`)
  }
  fixtures.same('info -f luks plain.raw')
  fixtures.same('map xts.luks')
  fixtures.same('check xts.luks')
  fixtures.same('compare xts.luks plain.raw')
  fixtures.sameOnCopies('xts.luks', 'convert -O raw xts.luks x.raw')
  // QEMU knows the first version only.
  fixtures.same('info second.luks')
})

describe('formats that are only named', () => {
  const temporary = temporaryFolder()
  let folder: string
  beforeAll(() => {
    folder = temporary.fresh()
    mkdirSync(folder)
  })

  function call(line: string, program = moraine): Promise<RunResult> {
    return run(program, words(line), { cwd: folder })
  }

  /** A header of version 2 as cryptsetup writes it, with what is given of its JSON. */
  function second(json: unknown, { area = 16_384 } = {}): Buffer {
    const bytes = Buffer.alloc(64 * 1024)
    bytes.write('LUKS\xba\xbe', 'latin1')
    bytes.writeUInt16BE(2, 6)
    bytes.writeBigUInt64BE(BigInt(area), 8)
    bytes.write('a label', 24)
    bytes.write('1c3a7d0e-0000-4000-8000-0123456789ab', 168)
    bytes.write(typeof json === 'string' ? json : JSON.stringify(json), 4096)
    return bytes
  }

  const sound = {
    keyslots: { '0': { type: 'luks2', key_size: 64, kdf: { type: 'argon2id', time: 4 } } },
    segments: {
      '0': { type: 'crypt', offset: '32768', size: 'dynamic', encryption: 'aes-xts-plain64', sector_size: 4096 },
    },
    digests: { '0': { type: 'pbkdf2', hash: 'sha256' } },
    config: {},
  }

  it('tell what a LUKS2 container says of itself, and do not open it without a password', async () => {
    writeFileSync(join(folder, 'two.img'), second(sound))
    const { stdout, code } = await call('info --output=json two.img')
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({
      format: 'luks2',
      'virtual-size': 32_768,
      encrypted: true,
      'format-specific': {
        data: {
          uuid: '1c3a7d0e-0000-4000-8000-0123456789ab',
          label: 'a label',
          cipher: 'aes-xts-plain64',
          'sector-size': 4096,
          'hash-alg': 'sha256',
          'payload-offset': 32_768,
          slots: [{ slot: 0, kdf: 'argon2id', 'key-bytes': 64 }],
        },
      },
    })
    for (const line of ['convert -O raw two.img x.raw', 'check two.img']) {
      const refused = await call(line)
      expect(refused, line).toMatchObject({ code: 1, stderr: expect.stringMatching(/key-secret.*\n.*secret/) })
    }
    const resized = await call('resize two.img 1M')
    expect(resized).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('LUKS containers of version 2 are only read'),
    })
    // To QEMU it is raw.
    expect((await call('info two.img', ourQemuImg)).stdout).toContain('file format: raw')
    expect((await call('info -f luks2 two.img', ourQemuImg)).stderr).toContain("Unknown driver 'luks2'")
  })

  it.each([
    ['a JSON area that is none', second('{"segments": [')],
    ['no segments', second({ ...sound, segments: {} })],
    ['a segment at −1', second({ ...sound, segments: { '0': { offset: '-1' } } })],
    ['a header of 2^40 bytes', second(sound, { area: 2 ** 40 })],
    ['a header of nothing', second(sound, { area: 0 })],
    ['a header that is cut', second(sound).subarray(0, 8192)],
    ['keys of objects', second({ ...sound, segments: { __proto__: null, '0': 7 } })],
    ['a first version that is cut', Buffer.from('LUKS\xba\xbe\0\x01', 'latin1')],
  ])('refuse malformed LUKS: %s', async (_name, bytes) => {
    writeFileSync(join(folder, 'bad.img'), bytes)
    const { code, stderr } = await call('info bad.img')
    expect(code).toBe(1)
    expect(stderr).toMatch(
      /^moraine: Could not open 'bad.img': (the (header|payload)|LUKS payload|Volume is not in LUKS format)/,
    )
  })

  it('refuse VHD Sets and Apple sparse images by name', async () => {
    writeFileSync(join(folder, 'Shared.VHDS'), 'whatever it holds')
    const asif = Buffer.alloc(4096)
    asif.write('shdw\0\0\0\x01', 'latin1')
    writeFileSync(join(folder, 'mac.img'), asif)
    for (const [file, line] of [
      ['Shared.VHDS', 'VHD Sets cannot be opened'],
      ['mac.img', 'Apple sparse images (ASIF) cannot be opened'],
    ] as const) {
      for (const verb of ['info', 'convert -O raw']) {
        const { code, stderr } = await call(`${verb} ${file}${verb === 'info' ? '' : ' x.raw'}`)
        expect(code).toBe(1)
        expect(stderr).toContain(`Could not open '${file}': ${line}`)
      }
      // Named raw, it is raw.
      expect((await call(`info -f raw ${file}`)).code).toBe(0)
      expect((await call(`info ${file}`, ourQemuImg)).stdout).toContain('file format: raw')
    }
  })
})
