/** Signatures: what gpg makes is accepted, what the library makes gpg accepts, and neither is fooled. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { beforeAll, describe, expect, test } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, run } from '../../engine/test/support/process.ts'
import { type Keyring, readKeyring, verifyBeside, verifyInside } from '../src/signature.ts'
import { makeSigner, type Signer, signBeside, signInside } from './support/signer.ts'

const folder = temporaryFolder()
const then = new Date('2026-05-01T00:00:00Z')
const now = new Date('2026-06-01T00:00:00Z')
const text = '{\n "a": 1,\n "b": "- dash"\n}\n- a line that begins with a dash\n'
const data = Buffer.from(text)

let signer: Signer
let stranger: Signer
let keyring: Keyring
beforeAll(async () => {
  signer = await makeSigner('Right', new Date('2020-01-01T00:00:00Z'))
  stranger = await makeSigner('Wrong', new Date('2020-01-01T00:00:00Z'))
  keyring = await readKeyring(signer.publicKey, 'test.asc')
})

const inside = (signed: string, ring = keyring, at = now) => verifyInside(Buffer.from(signed), ring, 'index.sjson', at)

describe('a text that is signed around itself', () => {
  test('gives back what was signed, and by whom', async () => {
    const { text: read, signed } = await inside(await signInside(text, signer, then))
    // The last line end belongs to the armour.
    expect(read.trimEnd()).toBe(text.trimEnd())
    expect(signed).toMatchObject({ fingerprint: signer.fingerprint, at: then })
  })

  test('what stands around the signed part does not count', async () => {
    const signed = await signInside(text, signer, then)
    const { text: read } = await inside(`{"evil": 1}\n${signed}\n{"evil": 2}\n${signed}`)
    expect(read.trimEnd()).toBe(text.trimEnd())
  })

  test.each([
    ['one changed character', (signed: string) => signed.replace('"a": 1', '"a": 2'), 'does not hold'],
    ['a line more', (signed: string) => signed.replace('"a": 1', '"c": 3,\n "a": 1'), 'does not hold'],
    ['no signature', () => text, 'no clear-signed text'],
    ['a signature that is cut', (signed: string) => signed.slice(0, -200), 'no clear-signed text'],
    [
      'a header that hides text',
      (signed: string) => signed.replace(/^Hash: .*$/m, '{"evil": 1}'),
      'no headers but Hash',
    ],
    ['a dash that is not escaped', (signed: string) => signed.replace('- - a line', '-a line'), 'escaped'],
    ['blanks within a line', (signed: string) => signed.replace('"a": 1', '"a":  1'), 'does not hold'],
    ['bytes that are no text', () => '\ud800'.repeat(3), 'no clear-signed text'],
  ])('%s is refused', async (_, change, message) => {
    await expect(inside(change(await signInside(text, signer, then)))).rejects.toThrow(message)
  })

  test('blanks at the ends of lines and other line ends are the same text', async () => {
    const signed = await signInside(text, signer, then)
    const { text: read } = await inside(signed.replace('"a": 1,', '"a": 1, \t').replaceAll('\n', '\r\n'))
    expect(read.trimEnd()).toBe(text.trimEnd())
  })

  test('another key than those pinned is refused by its id', async () => {
    await expect(inside(await signInside(text, stranger, then))).rejects.toMatchObject({
      kind: 'denied',
      message: expect.stringContaining(stranger.key.getKeyID().toHex().toUpperCase()),
    })
  })

  test('a signature of a day to come is refused', async () => {
    await expect(inside(await signInside(text, signer, new Date('2026-07-01')))).rejects.toThrow('future')
  })

  test('a key that has expired since is refused', async () => {
    const short = await makeSigner('Short', new Date('2026-04-20T00:00:00Z'), 20 * 24 * 3600)
    const ring = await readKeyring(short.publicKey, 'short.asc')
    const signed = await signInside(text, short, then)
    await expect(inside(signed, ring, new Date('2026-05-05'))).resolves.toMatchObject({ signed: { at: then } })
    await expect(inside(signed, ring)).rejects.toThrow('expired on 2026-05-10')
  })
})

describe('a signature that stands beside', () => {
  test('armoured, and over pieces that come one after the other', async () => {
    const signature = Buffer.from(await signBeside(data, signer, then))
    await expect(verifyBeside(data, signature, keyring, 'x', now)).resolves.toMatchObject({ at: then })
    async function* pieces() {
      for (const byte of data) yield Uint8Array.of(byte)
    }
    await expect(verifyBeside(pieces(), signature, keyring, 'x', now)).resolves.toMatchObject({ at: then })
    await expect(verifyBeside(data.subarray(1), signature, keyring, 'x', now)).rejects.toThrow('does not hold')
    await expect(verifyBeside(Buffer.alloc(0), signature, keyring, 'x', now)).rejects.toThrow('does not hold')
  })

  test.each([
    ['nothing', ''],
    ['a page of a web server', '<html>404</html>'],
    ['an armour of nothing', '-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n'],
  ])('%s is no signature', async (_, signature) => {
    await expect(verifyBeside(data, Buffer.from(signature), keyring, 'x', now)).rejects.toMatchObject({
      name: 'MoraineError',
    })
  })
})

describe('keyrings', () => {
  test.each([
    ['nothing', ''],
    ['text', 'no key at all'],
    ['a broken armour', '-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n'],
  ])('%s is no keyring', async (_, bytes) => {
    await expect(readKeyring(bytes, 'k.asc')).rejects.toMatchObject({ kind: 'invalid', path: 'k.asc' })
  })
  test('several blocks in a row, and a secret key is refused', async () => {
    const both = await readKeyring(`${signer.publicKey}\n${stranger.publicKey}`, 'k.asc')
    expect(both.keys).toHaveLength(2)
    await expect(readKeyring(signer.key.write(), 'k.gpg')).rejects.toThrow('secret key')
  })
})

describeWith(['gpg', 'gpgv'], 'gpg', () => {
  const home = () => folder.file('gnupg')
  const gpg = (...args: string[]) => run('gpg', ['--homedir', home(), '--batch', '--yes', ...args])
  beforeAll(async () => {
    mkdirSync(home(), { mode: 0o700 })
    const made = await gpg('--passphrase', '', '--quick-gen-key', 'gpg <g@example.org>', 'rsa2048', 'sign', 'never')
    expect(made.stderr).not.toContain('failed')
    writeFileSync(folder.file('ours.asc'), signer.publicKey)
    await gpg('--output', folder.file('ours.gpg'), '--dearmor', folder.file('ours.asc'))
  })

  test('accepts what the library signs', async () => {
    writeFileSync(folder.file('a.sjson'), await signInside(text, signer, then))
    writeFileSync(folder.file('a.json'), data)
    writeFileSync(folder.file('a.json.gpg'), await signBeside(data, signer, then))
    const ring = ['--keyring', folder.file('ours.gpg')]
    expect(await run('gpgv', [...ring, folder.file('a.sjson')])).toMatchObject({ code: 0 })
    expect(await run('gpgv', [...ring, folder.file('a.json.gpg'), folder.file('a.json')])).toMatchObject({ code: 0 })
    await gpg('--import', folder.file('ours.asc'))
    const read = await gpg('--decrypt', folder.file('a.sjson'))
    // Line ends are CRLF in what is signed.
    expect(read.stdout.replaceAll('\r\n', '\n').trimEnd()).toBe(text.trimEnd())
  })

  test('signs what is accepted: around, beside, armoured and binary', async () => {
    const exported = await gpg('--armor', '--export', 'g@example.org')
    await gpg('--output', folder.file('ring.gpg'), '--export', 'g@example.org')
    const armoured = await readKeyring(exported.stdout, 'g.asc')
    const binary = await readKeyring(readFileSync(folder.file('ring.gpg')), 'g.gpg')
    writeFileSync(folder.file('b.json'), text)
    for (const [args, file] of [
      [['--clearsign'], 'b.sjson'],
      [['--detach-sign'], 'b.gpg'],
      [['--armor', '--detach-sign'], 'b.asc'],
    ] as const) {
      expect(await gpg('--output', folder.file(file), ...args, folder.file('b.json'))).toMatchObject({ code: 0 })
    }
    const soon = new Date(Date.now() + 60_000)
    for (const ring of [armoured, binary]) {
      const { text: read } = await verifyInside(readFileSync(folder.file('b.sjson')), ring, 'b.sjson', soon)
      expect(read.trimEnd()).toBe(text.trimEnd())
      for (const file of ['b.gpg', 'b.asc']) {
        await verifyBeside(data, readFileSync(folder.file(file)), ring, file, soon)
      }
      await expect(verifyBeside(data, readFileSync(folder.file('b.gpg')), keyring, 'b.gpg', soon)).rejects.toThrow(
        'no such key',
      )
    }
    await gpg('--digest-algo', 'SHA1', '--output', folder.file('weak.gpg'), '--detach-sign', folder.file('b.json'))
    await expect(verifyBeside(data, readFileSync(folder.file('weak.gpg')), binary, 'weak.gpg', soon)).rejects.toThrow(
      'Insecure message hash algorithm: SHA1',
    )
  })
})
