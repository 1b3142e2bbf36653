/** A small mirror of cloud images with the structure of the real ones: folders, names and fields are theirs, images are made by the engine, and everything is signed by one key. */
import { createHash } from 'node:crypto'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { allFormats, findFormat, MemoryStore, type OptionValues, openDisk, planConversion } from '@moraine/engine'
import { makeSigner, type Signer, signBeside, signInside } from './signer.ts'

/** When the mirror was made. */
export const mirrorTime = new Date('2026-11-20T06:00:00Z')

export interface MadeMirror {
  /** Holds `ubuntu`, `debian`, `fedora`, `alpine` and `rocky`. */
  readonly folder: string
  readonly signer: Signer
  /** File of the public key, armoured. */
  readonly keyring: string
}

const MiB = 1024 * 1024

/** The disk in all images: a boot sector, a text at 1 MiB, and zeros. */
export function diskBytes(text: string, size = 4 * MiB): Uint8Array {
  const bytes = Buffer.alloc(size)
  bytes.set([0x55, 0xaa], 510)
  bytes.write(text, MiB)
  // Some of it does not compress.
  let word = createHash('sha256').update(text).digest()
  for (let at = 2 * MiB; at < 2 * MiB + 64 * 1024; at += word.length) {
    word.copy(bytes, at)
    word = createHash('sha256').update(word).digest()
  }
  return bytes
}

async function imageBytes(format: string, text: string, options: OptionValues = {}): Promise<Buffer> {
  return await converted(diskBytes(text), format, { options })
}

/** A disk's bytes as an image of a format. */
async function converted(
  bytes: Uint8Array,
  format: string,
  settings: { options?: OptionValues; compress?: boolean },
): Promise<Buffer> {
  const disk = await openDisk(MemoryStore.from(bytes, 'disk.raw'), { formats: allFormats, format: 'raw' })
  const target = findFormat(allFormats, format)
  if (target === undefined) throw new Error(`no format ${format}`)
  const plan = await planConversion(disk, { format: target, ...settings })
  const stream = await plan.stream()
  const pieces: Buffer[] = []
  for await (const piece of stream.chunks()) pieces.push(Buffer.from(piece))
  await disk.close()
  return Buffer.concat(pieces)
}

const makers = { ubuntu: makeUbuntu, debian: makeDebian, fedora: makeFedora, alpine: makeAlpine, rocky: makeRocky }

/** What a mirror shall have. */
export interface MirrorRequest {
  /** Distributions; default: all. */
  only?: readonly (keyof typeof makers)[]
  /** When it was signed: for those who look at the clock, a moment ago. */
  time?: Date
  /** A raw disk that boots. Ubuntu's stream `minimal` has it as its one image, noble for amd64. */
  guest?: string
}

/** Makes a mirror in a folder. */
export async function makeMirror(
  folder: string,
  { only = Object.keys(makers) as (keyof typeof makers)[], time = mirrorTime, guest }: MirrorRequest = {},
): Promise<MadeMirror> {
  const signer = await makeSigner('Test Image Signing Key', new Date('2020-01-01T00:00:00Z'))
  const keyring = join(folder, 'keyring.asc')
  await put(keyring, signer.publicKey)
  for (const name of only) await makers[name](join(folder, name), signer, time)
  if (guest !== undefined) await makeGuestStream(join(folder, 'ubuntu/minimal/releases'), signer, time, guest)
  return { folder, signer, keyring }
}

export async function put(path: string, data: string | Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, data)
}

const digest = (algorithm: string, data: string | Uint8Array) => createHash(algorithm).update(data).digest('hex')

/** One release of Ubuntu. */
interface UbuntuRelease {
  codename: string
  version: string
  title: string
  name: string
  eol: string
  supported: boolean
  aliases: string
  serials: string[]
}

const ubuntuReleases: UbuntuRelease[] = [
  {
    ...{ codename: 'jammy', version: '22.04', title: '22.04 LTS', name: 'Jammy Jellyfish', eol: '2027-06-01' },
    ...{ supported: true, aliases: '22.04,j,jammy', serials: ['20261001'] },
  },
  {
    ...{ codename: 'noble', version: '24.04', title: '24.04 LTS', name: 'Noble Numbat', eol: '2029-05-31' },
    ...{ supported: true, aliases: '24.04,n,noble', serials: ['20260815', '20260901', '20260901.1'] },
  },
  {
    ...{ codename: 'questing', version: '25.10', title: '25.10', name: 'Questing Quokka', eol: '2026-07-09' },
    ...{ supported: false, aliases: '25.10,q,questing', serials: ['20260620'] },
  },
  {
    ...{ codename: 'resolute', version: '26.04', title: '26.04 LTS', name: 'Resolute Raccoon', eol: '2031-05-29' },
    ...{ supported: true, aliases: '26.04,default,lts,r,resolute', serials: ['20261015', '20261101'] },
  },
]

/** The files of one build; name of the item, end of the file's name. */
const ubuntuItems: Record<string, string> = {
  'disk1.img': '.img',
  'disk-kvm.img': '-disk-kvm.img',
  vmdk: '.vmdk',
  squashfs: '.squashfs',
  'root.tar.xz': '-root.tar.xz',
  manifest: '.manifest',
}

export const contentId = 'com.ubuntu.cloud:released:download'

async function makeUbuntu(folder: string, signer: Signer, time: Date): Promise<void> {
  await makeUbuntuStream(join(folder, 'releases'), signer, time)
}

/** Describes one build of one release, and writes its files. */
async function makeItems(folder: string, release: UbuntuRelease, serial: string, arch: string): Promise<object> {
  const items: Record<string, object> = {}
  for (const [ftype, end] of Object.entries(ubuntuItems)) {
    if (arch !== 'amd64' && ftype === 'disk-kvm.img') continue
    const path = `server/releases/${release.codename}/release-${serial}/ubuntu-${release.version}-server-cloudimg-${arch}${end}`
    const text = `Ubuntu ${release.version} ${serial} ${arch} ${ftype}\n`
    const data = await itemData(ftype, text)
    await put(join(folder, path), data)
    items[ftype] = { ftype, md5: digest('md5', data), path, sha256: digest('sha256', data), size: data.length }
  }
  return items
}

async function itemData(ftype: string, text: string): Promise<Buffer> {
  if (ftype.endsWith('.img')) return await imageBytes('qcow2', text)
  if (ftype === 'vmdk') return await imageBytes('vmdk', text, { subformat: 'streamOptimized' })
  return Buffer.from(`${text}${digest('sha512', text).repeat(20)}\n`)
}

async function makeUbuntuStream(folder: string, signer: Signer, time: Date): Promise<void> {
  const products: Record<string, object> = {}
  for (const release of ubuntuReleases) {
    for (const arch of ['amd64', 'arm64']) {
      const versions: Record<string, object> = {}
      for (const serial of release.serials) {
        versions[serial] = {
          items: await makeItems(folder, release, serial, arch),
          label: 'release',
          pubname: `ubuntu-${release.codename}-${release.version}-${arch}-server-${serial}`,
        }
      }
      products[`com.ubuntu.cloud:server:${release.version}:${arch}`] = productOf(release, arch, versions)
    }
  }
  await writeStreams(folder, signer, { products, updated: time })
}

function productOf(release: UbuntuRelease, arch: string, versions: object): object {
  return {
    aliases: release.aliases,
    arch,
    os: 'ubuntu',
    release: release.codename,
    release_codename: release.name,
    release_title: release.title,
    support_eol: release.eol,
    supported: release.supported,
    version: release.version,
    versions,
  }
}

/** A stream whose one image is a disk that boots, compressed as Ubuntu's are. */
async function makeGuestStream(folder: string, signer: Signer, time: Date, guest: string): Promise<void> {
  const release = ubuntuReleases.find(({ codename }) => codename === 'noble')
  if (release === undefined) throw new Error('there is no noble')
  const [ftype, serial] = ['disk1.img', '20260902']
  const path = `noble/release-${serial}/ubuntu-24.04-minimal-cloudimg-amd64.img`
  const data = await converted(await readFile(guest), 'qcow2', { compress: true })
  await put(join(folder, path), data)
  const item = { ftype, md5: digest('md5', data), path, sha256: digest('sha256', data), size: data.length }
  const pubname = `ubuntu-noble-24.04-amd64-minimal-${serial}`
  const versions = { [serial]: { items: { [ftype]: item }, label: 'release', pubname } }
  const products = { 'com.ubuntu.cloud:minimal:24.04:amd64': productOf(release, 'amd64', versions) }
  await writeStreams(folder, signer, { products, updated: time })
}

export const rfc2822 = (date: Date) => date.toUTCString().replace('GMT', '+0000')

/** Writes index and products of one stream, each plain, with a signature beside it, and signed around itself, as Ubuntu's mirror has them. */
export async function writeStreams(
  folder: string,
  signer: Signer,
  { products, updated = mirrorTime, change = {} }: { products: object; updated?: Date; change?: object },
): Promise<void> {
  const said = {
    content_id: contentId,
    datatype: 'image-downloads',
    format: 'products:1.0',
    license: 'http://www.canonical.com/intellectual-property-policy',
    products,
    updated: rfc2822(updated),
    ...change,
  }
  const aws = {
    content_id: 'com.ubuntu.cloud:released:aws',
    datatype: 'image-ids',
    format: 'products:1.0',
    products: {},
    updated: rfc2822(updated),
  }
  const indexOf = (end: string) => ({
    format: 'index:1.0',
    index: Object.fromEntries(
      [said, aws].map((one) => [
        one.content_id,
        {
          datatype: one.datatype,
          format: one.format,
          path: `streams/v1/${one.content_id}${end}`,
          products: Object.keys(one.products),
          updated: one.updated,
        },
      ]),
    ),
    updated: rfc2822(updated),
  })
  await writeSigned(join(folder, 'streams/v1/index'), signer, indexOf('.json'), indexOf('.sjson'), updated)
  await writeSigned(join(folder, `streams/v1/${contentId}`), signer, said, said, updated)
}

async function writeSigned(path: string, signer: Signer, plain: object, inside: object, date: Date): Promise<void> {
  const text = `${JSON.stringify(plain, null, 1)}\n`
  await put(`${path}.json`, text)
  await put(`${path}.json.gpg`, await signBeside(Buffer.from(text), signer, date))
  await put(`${path}.sjson`, await signInside(`${JSON.stringify(inside, null, 1)}\n`, signer, date))
}

/** The products of the mirror's released images, to be changed by a test. */
export async function readProducts(folder: string): Promise<Record<string, never>> {
  const text = await readFile(join(folder, `streams/v1/${contentId}.json`), 'utf8')
  return (JSON.parse(text) as { products: Record<string, never> }).products
}

async function makeDebian(folder: string, signer: Signer, time: Date): Promise<void> {
  for (const serial of ['20260801-2370', '20261103-2466']) {
    const at = join(folder, 'trixie', serial)
    const lines: string[] = []
    for (const kind of ['generic', 'genericcloud', 'nocloud']) {
      for (const arch of ['amd64', 'arm64']) {
        const name = `debian-13-${kind}-${arch}-${serial}.qcow2`
        const data = await imageBytes('qcow2', `Debian 13 ${kind} ${serial} ${arch}\n`)
        await put(join(at, name), data)
        lines.push(`${digest('sha512', data)}  ${name}\n`)
      }
    }
    await put(join(at, 'SHA512SUMS'), lines.join(''))
    await put(join(at, 'SHA512SUMS.sign'), await signBeside(Buffer.from(lines.join('')), signer, time))
  }
}

async function makeFedora(folder: string, signer: Signer, time: Date): Promise<void> {
  for (const arch of ['x86_64', 'aarch64']) {
    const at = join(folder, '43/Cloud', arch, 'images')
    const lines: string[] = []
    for (const name of [
      `Fedora-Cloud-Base-Generic-43-1.6.${arch}.qcow2`,
      `Fedora-Cloud-Base-UEFI-UKI-43-1.6.${arch}.qcow2`,
    ]) {
      const data = await imageBytes('qcow2', `${name}\n`)
      await put(join(at, name), data)
      lines.push(`# ${name}: ${data.length} bytes\nSHA256 (${name}) = ${digest('sha256', data)}\n`)
    }
    await put(join(at, `Fedora-Cloud-43-1.6-${arch}-CHECKSUM`), await signInside(lines.join(''), signer, time))
  }
}

async function makeAlpine(folder: string, signer: Signer, time: Date): Promise<void> {
  const at = join(folder, 'v3.22/releases/cloud')
  for (const release of ['3.22.1', '3.22.2']) {
    for (const firmware of ['bios', 'uefi']) {
      const name = `nocloud_alpine-${release}-x86_64-${firmware}-cloudinit-r0.qcow2`
      const data = await imageBytes('qcow2', `${name}\n`)
      await put(join(at, name), data)
      await put(join(at, `${name}.sha512`), `${digest('sha512', data)}\n`)
      await put(join(at, `${name}.asc`), await signBeside(data, signer, time))
    }
  }
}

async function makeRocky(folder: string, signer: Signer, time: Date): Promise<void> {
  const at = join(folder, '10/images/x86_64')
  const lines: string[] = []
  for (const name of [
    'Rocky-10-GenericCloud-Base-10.1-20261120.0.x86_64.qcow2',
    'Rocky-10-GenericCloud-Base.latest.x86_64.qcow2',
  ]) {
    const data = await imageBytes('qcow2', 'Rocky 10\n')
    await put(join(at, name), data)
    lines.push(`SHA256 (${name}) = ${digest('sha256', data)}\n`)
  }
  await put(join(at, 'CHECKSUM'), lines.join(''))
  await put(join(at, 'CHECKSUM.asc'), await signBeside(Buffer.from(lines.join('')), signer, time))
}
