/** Amazon's bundles: what is made here is undone by openssl, gzip and tar, what those make is read here; and whatever is wrong with a bundle is refused by name, with nothing left behind. */
import { execFileSync } from 'node:child_process'
import { createHash, generateKeyPairSync } from 'node:crypto'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import {
  type BundleRequest,
  bundleImage,
  isMoraineError,
  openDisk,
  raw,
  readManifest,
  unbundleImage,
  verifyManifest,
  xmlParser,
} from '@moraine/engine'
import { fileGate, newFile, nodeBundleCrypto, nodeStreamCodecs, openFile } from '@moraine/engine/node'
import { beforeAll, describe, expect, it } from 'vitest'
import { makeCertificate } from '../support/certificate.ts'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith, tool } from '../support/process.ts'
import { budget, Random, seed, timeFor } from '../support/random.ts'

const KiB = 1024
const MiB = 1024 * KiB
const folder = temporaryFolder()
const xml = xmlParser(() => import('saxes'))

interface Owner {
  cert: string
  key: string
}

/** A key pair with a certificate by openssl. */
function owner(name: string): Owner {
  const [key, cert] = [folder.file(`${name}.key`), folder.file(`${name}.cert`)]
  makeCertificate(key, cert, name)
  return { cert: readFileSync(cert, 'latin1'), key: readFileSync(key, 'latin1') }
}

/** An image with data, zeros and holes. */
function image(random: Random, size = 3 * MiB): Uint8Array {
  const bytes = new Uint8Array(size)
  for (let at = 0; at < size; at += 64 * KiB)
    if (random.bool(0.6)) bytes.set(random.bytes(Math.min(64 * KiB, size - at)), at)
  return bytes
}

async function bundle(
  to: string,
  content: Uint8Array,
  user: Owner,
  cloud: Owner,
  more: Partial<BundleRequest> = {},
): Promise<string> {
  mkdirSync(to, { recursive: true })
  const file = join(to, 'source.raw')
  writeFileSync(file, content)
  const disk = await openDisk(await openFile(file), { formats: [raw] })
  try {
    const { manifestName } = await bundleImage({
      disk,
      name: 'disk',
      type: 'machine',
      architecture: 'x86_64',
      user: '123456789012',
      ec2Certificate: cloud.cert,
      userCertificate: user.cert,
      userKey: user.key,
      partBytes: 256 * KiB,
      bundler: { name: 'test', version: '1', release: '2' },
      blockDevices: [{ virtual: 'ami', device: 'sda1' }],
      crypto: nodeBundleCrypto,
      codecs: nodeStreamCodecs,
      newFile: (name) => newFile(join(to, name)),
      ...more,
    })
    return join(to, manifestName)
  } finally {
    await disk.close()
    rmSync(file)
  }
}

/** Takes an image out, as the command does: verified, and under its name only when all was right. */
async function unbundle(
  path: string,
  to: string,
  key: string,
  options: { recipient?: 'ec2'; signer?: string } = {},
): Promise<void> {
  const manifest = await readManifest(readFileSync(path), xml, path)
  const verdict = verifyManifest(manifest, options.signer ?? key, nodeBundleCrypto)
  if (verdict !== 'verified') throw new Error(verdict)
  const gate = fileGate()
  const file = await newFile(to)
  try {
    await unbundleImage({
      manifest,
      path,
      privateKey: key,
      recipient: options.recipient ?? 'user',
      openPart: ({ filename }) => gate.open({ from: path, name: filename, role: 'extent', mode: 'read' }),
      target: file.store,
      crypto: nodeBundleCrypto,
      codecs: nodeStreamCodecs,
    })
    await file.store.close()
    await file.publish()
  } catch (error) {
    await file.store.close()
    await file.abandon()
    throw error
  }
}

const field = (text: string, name: string): string =>
  new RegExp(`<${name}[^>]*>([^<]*)</${name}>`).exec(text)?.[1] ?? ''
const openssl = (args: string[], input: Buffer): Buffer =>
  execFileSync(tool('openssl').path ?? 'openssl', args, { input, maxBuffer: 64 * MiB })

describeWith(['openssl', 'tar', 'gzip'], 'bundles', () => {
  let user: Owner
  let cloud: Owner
  let content: Uint8Array
  let manifest: string

  beforeAll(async () => {
    user = owner('user')
    cloud = owner('cloud')
    content = image(new Random(seed('bundles')))
    manifest = await bundle(folder.file('made'), content, user, cloud)
  })

  it('openssl, gzip and tar undo what is made', () => {
    const text = readFileSync(manifest, 'latin1')
    for (const [recipient, key] of [
      ['user', folder.file('user.key')],
      ['ec2', folder.file('cloud.key')],
    ] as const) {
      const open = (what: string): string =>
        openssl(
          ['pkeyutl', '-decrypt', '-inkey', key],
          Buffer.from(field(text, `${recipient}_encrypted_${what}`), 'hex'),
        ).toString()
      const [aes, iv] = [open('key'), open('iv')]
      expect([aes, iv].every((digits) => /^[0-9a-f]{32}$/.test(digits))).toBe(true)
      const parts = [
        ...text.matchAll(/<part index="(\d+)"><filename>([^<]+)<\/filename><digest algorithm="SHA1">(\w+)</g),
      ]
      expect(parts.length).toBeGreaterThan(3)
      const bytes = parts.map(([, index, name, digest], at) => {
        const part = readFileSync(join(folder.file('made'), name ?? ''))
        expect([index, createHash('sha1').update(part).digest('hex')]).toEqual([String(at), digest])
        expect(part.length === 256 * KiB || at === parts.length - 1).toBe(true)
        return part
      })
      const all = Buffer.concat(bytes)
      expect(field(text, 'bundled_size')).toBe(String(all.length))
      const packed = openssl(['enc', '-d', '-aes-128-cbc', '-K', aes, '-iv', iv], all)
      const archive = execFileSync('gzip', ['-dc'], { input: packed, maxBuffer: 64 * MiB })
      expect(createHash('sha1').update(archive).digest('hex')).toBe(
        field(text.slice(text.indexOf('<image>')), 'digest'),
      )
      const out = execFileSync('tar', ['-xOf', '-', 'disk'], { input: archive, maxBuffer: 64 * MiB })
      expect(out.equals(content)).toBe(true)
    }
    const signed = /<machine_configuration>.*<\/image>/s.exec(text)?.[0] ?? ''
    writeFileSync(folder.file('signature'), Buffer.from(field(text, 'signature'), 'hex'))
    writeFileSync(folder.file('public'), openssl(['x509', '-pubkey', '-noout'], Buffer.from(user.cert)))
    const said = openssl(
      ['dgst', '-sha1', '-verify', folder.file('public'), '-signature', folder.file('signature')],
      Buffer.from(signed),
    )
    expect(said.toString()).toContain('Verified OK')
  })

  it('what is made is read again, by the user and by the cloud, with holes', async () => {
    const out = folder.fresh('.raw')
    await unbundle(manifest, out, user.key)
    expect(readFileSync(out).equals(content)).toBe(true)
    expect(statSync(out).blocks * 512).toBeLessThan(content.length)
    const again = folder.fresh('.raw')
    await unbundle(manifest, again, cloud.key, { recipient: 'ec2', signer: user.cert })
    expect(readFileSync(again).equals(content)).toBe(true)
  })

  it.each([
    ['GNU tar with holes', ['-S', '--format=gnu']],
    ['pax with holes', ['-S', '--format=posix']],
    ['ustar', ['--format=ustar']],
  ])('what openssl, gzip and tar make is read: %s', async (_what, options) => {
    const at = folder.fresh('-shell')
    mkdirSync(at)
    writeFileSync(join(at, 'root.img'), content)
    // Holes that tar can see.
    execFileSync('cp', ['--sparse=always', join(at, 'root.img'), join(at, 'disk')])
    const archive = execFileSync('tar', ['-cf', '-', ...options, '-C', at, 'disk'], { maxBuffer: 64 * MiB })
    const [aes, iv] = ['000102030405060708090a0b0c0d0e0f', 'f0e0d0c0b0a090807060504030201000']
    const bytes = openssl(
      ['enc', '-aes-128-cbc', '-K', aes, '-iv', iv],
      execFileSync('gzip', ['-9'], { input: archive, maxBuffer: 64 * MiB }),
    )
    const seal = (digits: string): string =>
      openssl(['pkeyutl', '-encrypt', '-certin', '-inkey', folder.file('user.cert')], Buffer.from(digits)).toString(
        'hex',
      )
    const parts: string[] = []
    for (let start = 0; start < bytes.length; start += 300_000) {
      const part = bytes.subarray(start, start + 300_000)
      writeFileSync(join(at, `x.part.${parts.length}`), part)
      const digest = createHash('sha1').update(part).digest('hex')
      parts.push(
        `<part index='${parts.length}'><filename>x.part.${parts.length}</filename><digest algorithm='SHA1'>${digest}</digest></part>`,
      )
    }
    const sha = createHash('sha1').update(archive).digest('hex')
    const body =
      `<machine_configuration><architecture>x86_64</architecture></machine_configuration><image><name>disk</name><user>1</user><type>machine</type><digest algorithm='SHA1'>${sha}</digest>` +
      `<size>${content.length}</size><bundled_size>${bytes.length}</bundled_size><user_encrypted_key>${seal(aes)}</user_encrypted_key><user_encrypted_iv>${seal(iv)}</user_encrypted_iv>` +
      `<parts count='${parts.length}'>${parts.join('')}</parts></image>`
    const signature = openssl(['dgst', '-sha1', '-sign', folder.file('user.key')], Buffer.from(body)).toString('hex')
    const path = join(at, 'x.manifest.xml')
    writeFileSync(
      path,
      `<?xml version='1.0'?><manifest><version>2007-10-10</version>${body}<signature>${signature}</signature></manifest>`,
    )
    const out = folder.fresh('.raw')
    await unbundle(path, out, user.key)
    expect(readFileSync(out).equals(content)).toBe(true)
  })

  describe('what is wrong is refused by name, and nothing is left', () => {
    const resign = (text: string): string => {
      const signed = /<machine_configuration>.*<\/image>/s.exec(text)?.[0] ?? ''
      const signature = Buffer.from(nodeBundleCrypto.sign(user.key, Buffer.from(signed))).toString('hex')
      return text.replace(/<signature>\w*</, `<signature>${signature}<`)
    }
    const change = (edit: (text: string) => string) => (at: string) => {
      const file = join(at, 'disk.manifest.xml')
      const text = readFileSync(file, 'utf8')
      const edited = edit(text)
      expect(edited).not.toBe(text)
      writeFileSync(file, resign(edited))
    }
    const part = (index: number) => (at: string) => join(at, `disk.part.${index}`)

    it.each<[string, (at: string) => void, RegExp]>([
      ['a part is missing', (at) => rmSync(part(1)(at)), /disk\.part\.1/],
      ['a part is cut', (at) => truncateSync(part(1)(at), 1000), /the parts of the bundle are cut.*bundled_size/],
      [
        'a part is changed',
        (at) => writeFileSync(part(1)(at), Buffer.alloc(256 * KiB)),
        /disk\.part\.1: the part is damaged.*digest of part 1/,
      ],
      [
        'two parts have changed places',
        (at) => {
          copyFileSync(part(0)(at), join(at, 'x'))
          copyFileSync(part(1)(at), part(0)(at))
          copyFileSync(join(at, 'x'), part(1)(at))
        },
        /digest of part 0/,
      ],
      [
        'the list of parts is in another order',
        change((text) => text.replace('index="0"', 'index="1"')),
        /part\/@index is 1.*parts in order/,
      ],
      ['a part stands twice', change((text) => text.replace('disk.part.1<', 'disk.part.0<')), /each name once/],
      [
        'a part lies elsewhere',
        change((text) => text.replace('disk.part.1<', '../disk.part.1<')),
        /filename of part 1.*plain file name/,
      ],
      [
        'a part has an absolute name',
        change((text) => text.replace('disk.part.1<', '/etc/passwd<')),
        /filename of part 1/,
      ],
      ['a part is a protocol', change((text) => text.replace('disk.part.1<', 'nbd:1<')), /filename of part 1/],
      ['the count is another', change((text) => text.replace(/count="\d+"/, 'count="2"')), /parts\/@count is 2/],
      [
        'there are no parts',
        change((text) => text.replace(/<part index.*<\/part>/, '').replace(/ count="\d+"/, '')),
        /parts is 0/,
      ],
      ['the size is another', change((text) => text.replace(/<size>\d+</, '<size>4096<')), /another size.*field size/],
      ['the size is no number', change((text) => text.replace(/<size>\d+</, '<size>1e9<')), /field size is 1e9/],
      ['the size is huge', change((text) => text.replace(/<size>\d+</, '<size>99999999999999999999<')), /field size/],
      [
        'the digest of the image is another',
        change((text) => text.replace(/(<type>machine<\/type><digest[^>]*>)\w{4}/, '$1beef')),
        /not the one that was bundled/,
      ],
      [
        'a digest is none',
        change((text) => text.replace(/(<type>machine<\/type><digest[^>]*>)\w{4}/, '$1zz')),
        /40 hexadecimal digits/,
      ],
      ['a digest of another kind', change((text) => text.replace('SHA1', 'MD5')), /another kind of digest/],
      ['another version', change((text) => text.replace('2007-10-10', '2020-01-01')), /field version is 2020-01-01/],
      ['another cipher', change((text) => text.replace('AES-128-CBC', 'DES')), /encrypted in another way/],
      [
        'the key is noise',
        change((text) => text.replace(/(<user_encrypted_key[^>]*>)\w{6}/, '$1000000')),
        /does not open the bundle|cannot be decrypted/,
      ],
      [
        'there is no key',
        change((text) => text.replace(/<user_encrypted_key.*?<\/user_encrypted_key>/, '')),
        /not for this recipient/,
      ],
      [
        'the vector is another',
        change((text) =>
          text.replace(
            /(<user_encrypted_iv>)\w+/,
            (_, tag) =>
              `${tag}${Buffer.from(nodeBundleCrypto.seal(user.cert, Buffer.from('0'.repeat(32)))).toString('hex')}`,
          ),
        ),
        /gzip|digest|archive/,
      ],
      [
        'a document type',
        change((text) => text.replace('?>', '?><!DOCTYPE manifest [<!ENTITY a "b">]>')),
        /document type declaration/,
      ],
      ['no XML', (at) => writeFileSync(join(at, 'disk.manifest.xml'), 'x'), /not well-formed/],
      ['another document', (at) => writeFileSync(join(at, 'disk.manifest.xml'), '<a/>'), /root element is a/],
      ['two images', change((text) => text.replace('</manifest>', '<image/></manifest>')), /elements image is 2/],
      [
        'a comment that could hide something',
        change((text) => text.replace('<image>', '<!-- <image> --><image>')),
        /uncertain/,
      ],
      [
        'a manifest that was changed',
        (at) => {
          const file = join(at, 'disk.manifest.xml')
          writeFileSync(file, readFileSync(file, 'utf8').replace('x86_64', 'i386'))
        },
        /wrong/,
      ],
      [
        'a manifest that nobody signed',
        (at) => {
          const file = join(at, 'disk.manifest.xml')
          writeFileSync(file, readFileSync(file, 'utf8').replace(/<signature>.*<\/signature>/, ''))
        },
        /unsigned/,
      ],
    ])('%s', async (_what, damage, message) => {
      const at = folder.fresh('-damaged')
      execFileSync('cp', ['-r', folder.file('made'), at])
      damage(at)
      const out = join(at, 'out.raw')
      const error = await unbundle(join(at, 'disk.manifest.xml'), out, user.key).catch((thrown: Error) => thrown)
      expect(error).toBeInstanceOf(Error)
      expect(String(error)).toMatch(message)
      expect(existsSync(out)).toBe(false)
      expect(readdirSync(at).filter((name) => !name.startsWith('disk.') && name !== 'x')).toEqual([])
    })
  })

  it('a bundle that fails leaves nothing, and wrong keys are named', async () => {
    const at = folder.fresh('-failed')
    const make = (more: Partial<BundleRequest>) =>
      bundle(at, content, user, cloud, more).catch((error: Error) => String(error))
    expect(await make({ userKey: cloud.key })).toMatch(/the private key does not belong to the certificate/)
    expect(await make({ ec2Certificate: 'x' })).toMatch(/no certificate/)
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    expect(await make({ userKey: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() })).toMatch(
      /no private RSA key.*ec/,
    )
    expect(await make({ name: '../x' })).toMatch(/field name/)
    expect(await make({ partBytes: 10 })).toMatch(/field part size/)
    let count = 0
    expect(
      await make({
        newFile: async (name) => {
          if (++count === 4) throw new Error('the disk is full')
          return await newFile(join(at, name))
        },
      }),
    ).toMatch(/the disk is full/)
    expect(readdirSync(at)).toEqual([])
  })

  it('any change of a manifest, signed again or not, is survived', { timeout: timeFor(2000) }, async () => {
    const random = new Random(seed('manifests'))
    const good = readFileSync(manifest)
    const end = Date.now() + budget(2000)
    let count = 0
    for (; Date.now() < end || count < 20; count++) {
      const bytes = Buffer.from(good)
      for (let changes = random.int(1, 3); changes > 0; changes--)
        bytes[random.int(0, bytes.length - 1)] = random.int(32, 126)
      const path = join(folder.file('made'), 'changed.manifest.xml')
      const signed = random.bool() ? bytes : bytes.subarray(0, random.int(0, bytes.length))
      writeFileSync(path, signed)
      const out = folder.fresh('.raw')
      const error = await unbundle(path, out, user.key).catch((thrown: Error) => thrown)
      if (error === undefined) expect(readFileSync(out).equals(content)).toBe(true)
      else
        expect(
          isMoraineError(error) || /^(wrong|unsigned|uncertain)$/.test((error as Error).message),
          String((error as Error).stack),
        ).toBe(true)
      if (error !== undefined) expect(existsSync(out)).toBe(false)
      rmSync(out, { force: true })
    }
    console.info(`${count} manifests`)
  })
})
