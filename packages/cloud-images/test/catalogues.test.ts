/** Whole catalogues over HTTP and from a folder: what is listed, what is meant by a name, and that nobody else's word is taken. */
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { findImage, listImages, type OpenCatalogue, openCatalogue, type Query, seenIn } from '../src/index.ts'
import { contentId, type MadeMirror, makeMirror, mirrorTime, readProducts, writeStreams } from './support/mirror.ts'
import { makeSigner, signInside } from './support/signer.ts'
import { type Fault, fetchGet, serveFolder, type Web } from './support/web.ts'

const folder = temporaryFolder()
const now = new Date('2026-11-22T12:00:00Z')
let made: MadeMirror
let web: Web
let keyring: { bytes: string; name: string }
beforeAll(async () => {
  made = await makeMirror(folder.file('mirror'))
  web = await serveFolder(made.folder)
  keyring = { bytes: made.signer.publicKey, name: 'test' }
})
afterAll(() => web.close())
beforeEach(() => web.faults.clear())

const patience = { attempts: 3, pauseMilliseconds: 1 }
type Given = Partial<OpenCatalogue> & { warnings?: string[] }
async function open(distribution: string, { warnings, ...given }: Given = {}) {
  const mirror = given.mirror ?? `${web.url}/${distribution}/`
  const warn = (message: string) => void warnings?.push(message)
  return await openCatalogue({ distribution, get: fetchGet, keyring, now, warn, patience, ...given, mirror })
}
const told = ({
  release,
  architecture,
  kind,
  serial,
}: {
  release: string
  architecture: string
  kind: string
  serial: string
}) => `${release} ${architecture} ${kind} ${serial}`
async function list(distribution: string, query: Query = {}, builds: 'newest' | 'all' = 'newest', given: Given = {}) {
  return (await listImages(await open(distribution, given), query, builds)).map(told)
}

describe('Ubuntu', () => {
  test('the newest build of each release, the newest release first', async () => {
    expect(await list('ubuntu', { architecture: 'x86_64' })).toEqual([
      'resolute amd64 disk1.img 20261101',
      'questing amd64 disk1.img 20260620',
      'noble amd64 disk1.img 20260901.1',
      'jammy amd64 disk1.img 20261001',
    ])
  })

  test.each([
    ['noble', 'noble 20260901.1'],
    ['24.04', 'noble 20260901.1'],
    ['24.04 LTS', 'noble 20260901.1'],
    ['n', 'noble 20260901.1'],
    ['NOBLE', 'noble 20260901.1'],
    ['lts', 'resolute 20261101'],
    ['latest', 'resolute 20261101'],
    ['25.10', 'questing 20260620'],
  ])('%s is %s', async (release, expected) => {
    const found = await findImage(await open('ubuntu'), { release, architecture: 'arm64' })
    expect(`${found.release} ${found.serial}`).toBe(expected)
    expect(found).toMatchObject({ architecture: 'arm64', kind: 'disk1.img', distribution: 'ubuntu' })
  })

  test('by kind and date', async () => {
    expect(
      await list('ubuntu', { release: 'noble', architecture: 'amd64', kind: 'squashfs', date: '2026-08-15' }),
    ).toEqual(['noble amd64 squashfs 20260815'])
    expect(await list('ubuntu', { release: 'noble', architecture: 'amd64', date: '202609' }, 'all')).toEqual([
      'noble amd64 disk1.img 20260901.1',
      'noble amd64 disk1.img 20260901',
    ])
  })

  test.each<[Query, string]>([
    [{ release: 'xenial' }, 'There are releases resolute, questing, noble, jammy'],
    [{ release: 'noble', architecture: 's390x' }, 'There are images for amd64, arm64.'],
    [{ release: 'noble', kind: 'tape' }, 'There are releases'],
    [{ release: 'noble', date: '20200101' }, 'The newest are of 20260901.1, 20260901, 20260815.'],
  ])('what there is not is said, with what there is: %j', async (query, hint) => {
    const kinds = { kind: 'missing' }
    await expect(list('ubuntu', query)).rejects.toMatchObject({ ...kinds, hint: expect.stringContaining(hint) })
  })

  test('facts of an image', async () => {
    const image = await findImage(await open('ubuntu'), { release: 'noble', architecture: 'amd64' })
    expect(image).toMatchObject({
      ...{ version: '24.04', title: '24.04 LTS', lts: true, supported: true, eol: '2029-05-31', label: 'release' },
      ...{ contentId, product: 'com.ubuntu.cloud:server:24.04:amd64', item: 'disk1.img', algorithm: 'sha256' },
      path: 'releases/server/releases/noble/release-20260901.1/ubuntu-24.04-server-cloudimg-amd64.img',
      size: readFileSync(join(made.folder, 'ubuntu', image.path)).length,
    })
  })

  test('a folder, a file: address, and a copy of the stream alone list the same', async () => {
    const expected = await list('ubuntu', {}, 'all')
    const folderOf = join(made.folder, 'ubuntu')
    for (const mirror of [folderOf, `file://${folderOf}`, join(folderOf, 'releases'), `${web.url}/ubuntu/releases`]) {
      expect(await list('ubuntu', {}, 'all', { mirror })).toEqual(expected)
    }
  })

  test('signatures that stand beside are enough', async () => {
    const copy = folder.fresh()
    cpSync(join(made.folder, 'ubuntu/releases/streams'), join(copy, 'streams'), { recursive: true })
    for (const name of ['index', contentId]) rmSync(join(copy, `streams/v1/${name}.sjson`))
    expect(await list('ubuntu', { release: 'lts' }, 'newest', { mirror: copy })).toHaveLength(2)
    rmSync(join(copy, `streams/v1/${contentId}.json.gpg`))
    await expect(list('ubuntu', {}, 'newest', { mirror: copy })).rejects.toThrow(
      'it is not signed: there is no com.ubuntu',
    )
    rmSync(join(copy, 'streams/v1/index.json.gpg'))
    await expect(list('ubuntu', {}, 'newest', { mirror: copy })).rejects.toMatchObject({ kind: 'denied' })
    expect(await list('ubuntu', { release: 'lts' }, 'newest', { mirror: copy, keyring: 'unsigned' })).toHaveLength(2)
  })

  test('unsigned reads the signed form without a look at the signature', async () => {
    const stranger = await makeSigner('Else', new Date('2020-01-01'))
    const other = { bytes: stranger.publicKey, name: 'else' }
    await expect(list('ubuntu', {}, 'newest', { keyring: other })).rejects.toMatchObject({ kind: 'denied' })
    expect(await list('ubuntu', { release: 'lts' }, 'newest', { keyring: 'unsigned' })).toHaveLength(2)
  })

  test('the key that is shipped does not vouch for a mirror that somebody else signed', async () => {
    const given = { distribution: 'ubuntu', mirror: join(made.folder, 'ubuntu'), get: fetchGet, now }
    await expect(openCatalogue(given).then((reading) => listImages(reading, {}, 'newest'))).rejects.toMatchObject({
      kind: 'denied',
      hint: expect.stringContaining("moraine's own for Ubuntu"),
    })
  })

  test('an index that is right does not vouch for products that are not', async () => {
    const copy = folder.fresh()
    cpSync(join(made.folder, 'ubuntu/releases/streams'), join(copy, 'streams'), { recursive: true })
    const file = join(copy, `streams/v1/${contentId}.sjson`)
    writeFileSync(file, readFileSync(file, 'utf8').replace('20261101', '20261102'))
    await expect(list('ubuntu', {}, 'newest', { mirror: copy })).rejects.toThrow('does not hold')
    const stranger = await makeSigner('Else', new Date('2020-01-01'))
    writeFileSync(file, await signInside('{}', stranger, mirrorTime))
    await expect(list('ubuntu', {}, 'newest', { mirror: copy })).rejects.toThrow('no such key')
  })
})

describe('age', () => {
  const copyOf = () => {
    const copy = folder.fresh()
    cpSync(join(made.folder, 'ubuntu/releases/streams'), join(copy, 'streams'), { recursive: true })
    return copy
  }

  test('a catalogue that is older than what was seen is refused, unless that is meant', async () => {
    const copy = copyOf()
    const state = folder.fresh('.json')
    const seen = seenIn(state)
    await list('ubuntu', {}, 'newest', { mirror: copy, seen })
    await list('ubuntu', {}, 'newest', { mirror: copy, seen })
    const products = await readProducts(copy)
    await writeStreams(copy, made.signer, { products, updated: new Date('2026-10-01T00:00:00Z') })
    await expect(list('ubuntu', {}, 'newest', { mirror: copy, seen })).rejects.toMatchObject({
      kind: 'denied',
      message: expect.stringContaining(
        'of 2026-10-01 00:00:00 UTC, and one of 2026-11-20 06:00:00 UTC was seen before',
      ),
      hint: expect.stringContaining('--allow-older'),
    })
    // A refusal does not make the older one the measure.
    await expect(list('ubuntu', {}, 'newest', { mirror: copy, seen })).rejects.toMatchObject({ kind: 'denied' })
    await list('ubuntu', {}, 'newest', { mirror: copy, seen: seenIn(state, true) })
    await list('ubuntu', {}, 'newest', { mirror: copy, seen })
  })

  test('products may be held back though the index is not', async () => {
    const copy = copyOf()
    const seen = seenIn(folder.fresh('.json'))
    await list('ubuntu', {}, 'newest', { mirror: copy, seen })
    const old = copyOf()
    await writeStreams(old, made.signer, { products: await readProducts(copy), updated: new Date('2026-10-01') })
    cpSync(join(old, `streams/v1/${contentId}.sjson`), join(copy, `streams/v1/${contentId}.sjson`))
    await expect(list('ubuntu', {}, 'newest', { mirror: copy, seen })).rejects.toThrow('seen before')
  })

  test('one that was not updated for long is warned of, one of a day to come refused', async () => {
    const warnings: string[] = []
    await list('ubuntu', {}, 'newest', { warnings, now: new Date('2027-03-01') })
    expect(warnings[0]).toContain('was updated 100 days ago')
    const copy = copyOf()
    const change = { updated: 'Tue, 23 Apr 2030 10:00:00 +0000' }
    await writeStreams(copy, made.signer, { products: {}, change })
    await expect(list('ubuntu', {}, 'newest', { mirror: copy })).rejects.toThrow('yet to come')
  })

  test('a file of state that is broken or cannot be written keeps nobody from their images', async () => {
    const state = folder.fresh('.json')
    for (const text of ['', '[]', '{"a": 1}', '{"a": "never"}']) {
      writeFileSync(state, text)
      await list('ubuntu', {}, 'newest', { seen: seenIn(state) })
      expect(Object.keys(JSON.parse(readFileSync(state, 'utf8')))).toHaveLength(2)
    }
    await list('ubuntu', {}, 'newest', { seen: seenIn(join(state, 'no', 'folder.json')) })
  })
})

describe('catalogues of checksums', () => {
  test('Debian: the newest of the folders of a release', async () => {
    expect(await list('debian', { release: 'trixie' })).toEqual([
      'trixie amd64 genericcloud.qcow2 20261103-2466',
      'trixie arm64 genericcloud.qcow2 20261103-2466',
    ])
    expect(await list('debian', { release: '13', architecture: 'amd64', kind: 'nocloud.qcow2' }, 'all')).toEqual([
      'trixie amd64 nocloud.qcow2 20261103-2466',
      'trixie amd64 nocloud.qcow2 20260801-2370',
    ])
    const [first] = await listImages(
      await open('debian'),
      { release: 'latest', architecture: 'amd64', date: '20260801' },
      'newest',
    )
    expect(first).toMatchObject({
      algorithm: 'sha512',
      serial: '20260801-2370',
      digest: expect.stringMatching(/^[0-9a-f]{128}$/),
    })
  })

  test('Fedora: checksums under a name that is found, signed around, with sizes', async () => {
    const [image] = await listImages(await open('fedora'), { release: '43', architecture: 'aarch64' }, 'newest')
    expect(image).toMatchObject({ kind: 'Generic.qcow2', serial: '1.6', architecture: 'arm64', algorithm: 'sha256' })
    expect(image?.size).toBe(readFileSync(join(made.folder, 'fedora', image?.path ?? '')).length)
  })

  test('Alpine: a digest and a signature for each image', async () => {
    const [image] = await listImages(await open('alpine'), { release: '3.22', architecture: 'amd64' }, 'newest')
    expect(image).toMatchObject({ kind: 'nocloud-bios-cloudinit.qcow2', serial: '3.22.2', algorithm: 'sha512' })
    expect(image?.signature).toBe(`${image?.path}.asc`)
    await expect(open('alpine', { keyring: undefined })).rejects.toMatchObject({
      kind: 'denied',
      hint: expect.stringContaining('--keyring'),
    })
  })

  test('Rocky: names with a date, not those that move', async () => {
    expect(await list('rocky', { release: '10', architecture: 'amd64' })).toEqual([
      '10 amd64 GenericCloud-Base.qcow2 10.1-20261120.0',
    ])
  })

  test('a release that is not in the table is looked for by its number; an absent one is said', async () => {
    await expect(list('rocky', { release: '77', architecture: 'amd64' })).rejects.toMatchObject({ kind: 'missing' })
    await expect(list('rocky', { release: '../10', architecture: 'amd64' })).rejects.toThrow("no release '../10'")
    await expect(list('rocky', { release: '10', architecture: 'riscv64' })).rejects.toThrow('no images for riscv64')
  })

  test.each(['debian', 'fedora', 'rocky'])('%s: another key, changed checksums, and none are refused', async (name) => {
    const query = { release: 'latest', architecture: 'amd64' }
    const at = { debian: 'trixie/20261103-2466/SHA512SUMS', fedora: '', rocky: '10/images/x86_64/CHECKSUM' }[name]
    const file = name === 'fedora' ? '43/Cloud/x86_64/images/Fedora-Cloud-43-1.6-x86_64-CHECKSUM' : at
    const release = { debian: '13', fedora: '43', rocky: '10' }[name]
    await expect(list(name, { ...query, release }, 'newest', { keyring: undefined })).rejects.toMatchObject({
      kind: 'denied',
    })
    const data = readFileSync(join(made.folder, name, file ?? ''), 'utf8').replace(/[0-9a-f]{8}/, '00000000')
    web.faults.set(`/${name}/${file}`, { data: Buffer.from(data) })
    await expect(list(name, { ...query, release })).rejects.toMatchObject({ kind: 'denied' })
    web.faults.clear()
    if (name === 'fedora') return
    const signature = name === 'debian' ? `${file}.sign` : `${file}.asc`
    web.faults.set(`/${name}/${signature}`, { status: 404 })
    await expect(list(name, { ...query, release })).rejects.toThrow('it is not signed')
  })

  test('the time of a signature is what is remembered', async () => {
    const seen = seenIn(folder.fresh('.json'))
    const query = { release: '43', architecture: 'amd64' }
    await list('fedora', query, 'newest', { seen })
    const path = '/fedora/43/Cloud/x86_64/images/Fedora-Cloud-43-1.6-x86_64-CHECKSUM'
    const old = await signInside('# nothing\n', made.signer, new Date('2026-01-01'))
    web.faults.set(path, { data: Buffer.from(old) })
    await expect(list('fedora', query, 'newest', { seen })).rejects.toThrow('seen before')
  })
})

describe('faults of servers', () => {
  const index = '/ubuntu/releases/streams/v1/index.sjson'

  test('what passes is tried again', async () => {
    for (const fault of [{ status: 503 }, { cutAfter: 100 }, { lengthOff: 100, cutAfter: 1e9 }]) {
      web.faults.set(index, { ...fault, times: 2 })
      web.requests.length = 0
      expect(await list('ubuntu', { release: 'lts' })).toHaveLength(2)
      expect(web.requests.filter((line) => line.endsWith(index))).toHaveLength(3)
    }
  })

  test.each<[string, string, Fault]>([
    ['503 for ever', 'io', { status: 503 }],
    ['403', 'io', { status: 403 }],
    ['always cut', 'io', { cutAfter: 100 }],
    ['a page of a captive portal', 'invalid', { data: Buffer.from('<html>log in</html>') }],
    ['65 MiB of blanks', 'limit', { data: Buffer.alloc(65 * 1024 * 1024, ' ') }],
    ['a redirect to itself', 'io', { location: index }],
  ])('what does not pass ends with an error: %s', async (_, kind, fault) => {
    web.faults.set(index, fault)
    await expect(list('ubuntu')).rejects.toMatchObject({ name: 'MoraineError', kind })
  })

  test('nothing there is said, and a caller can stop', async () => {
    await expect(list('ubuntu', {}, 'newest', { mirror: `${web.url}/empty/` })).rejects.toMatchObject({
      kind: 'missing',
    })
    await expect(list('ubuntu', {}, 'newest', { mirror: folder.file('none') })).rejects.toThrow('no such folder')
    await expect(list('ubuntu', {}, 'newest', { mirror: 'ftp://x/' })).rejects.toMatchObject({ kind: 'invalid' })
    const signal = AbortSignal.abort()
    await expect(list('ubuntu', {}, 'newest', { signal })).rejects.toMatchObject({ kind: 'cancelled' })
  })
})
