/** Files that both programs left: equal to the byte, save for what is drawn or read from a clock; or else to the guest and to `check`. */
import { closeSync, lstatSync, openSync, readSync } from 'node:fs'
import { join } from 'node:path'
import { run, tool } from '../../../engine/test/support/process.ts'
import { secret } from './images.ts'

/** Files up to this length are compared whole, longer ones where they are short of holes: head and tail. */
const compared = 32 << 20

/** What differs between two files of one name. `layout`: only where things lie in the file, or what is not in use. */
export interface FileDifference {
  layout: boolean
  text: string
}

/** Compares two files of one name; undefined where nothing differs but what no two runs share. `isNew`: nothing was written into the image, so that what
 *  an encrypted one shows is noise. */
export async function difference(
  theirs: string,
  ours: string,
  name: string,
  isNew: boolean,
): Promise<FileDifference | undefined> {
  const [their, our] = [head(join(theirs, name)), head(join(ours, name))]
  if (their.equals(our)) return undefined
  const format = formatOf(their)
  const [a, b] = [masked(their, format), masked(our, format)]
  if (a.equals(b)) return undefined
  const meaning = await otherMeaning(theirs, ours, name, format ?? 'raw', isNew && format === 'luks')
  if (meaning !== undefined) return { layout: false, text: meaning }
  // Keys and salts are drawn, and all that they encrypt looks random.
  if (format === 'luks') return undefined
  const sizes = their.length === our.length ? '' : ` (${their.length} and ${our.length} bytes)`
  return {
    layout: true,
    text: `${name}: other bytes of ${format ?? 'no format'} from ${firstDifference(a, b)}${sizes}`,
  }
}

function head(path: string): Buffer {
  const size = lstatSync(path).size
  const bytes = Buffer.alloc(Math.min(size, compared) + (size > compared ? 1 << 20 : 0))
  const file = openSync(path, 'r')
  try {
    readSync(file, bytes, 0, Math.min(size, compared), 0)
    if (size > compared) readSync(file, bytes, compared, 1 << 20, size - (1 << 20))
  } finally {
    closeSync(file)
  }
  return bytes
}

function formatOf(bytes: Buffer): string | undefined {
  const text = bytes.toString('latin1', 0, 64)
  if (bytes.length < 72) return undefined
  if (text.startsWith('QFI\xfb')) return bytes.readUInt32BE(4) === 1 ? 'qcow' : cryptOf(bytes) ? 'luks' : 'qcow2'
  if (text.startsWith('KDMV') || text.startsWith('# Disk Desc')) return 'vmdk'
  if (text.startsWith('<<< ')) return 'vdi'
  if (text.startsWith('QED\0')) return 'qed'
  if (text.startsWith('Withou')) return 'parallels'
  if (text.startsWith('conectix') || bytes.toString('latin1', bytes.length - 512, bytes.length - 504) === 'conectix')
    return 'vpc'
  if (text.startsWith('vhdxfile')) return 'vhdx'
  if (text.startsWith('LUKS\xba\xbe')) return 'luks'
  return undefined
}

function cryptOf(bytes: Buffer): boolean {
  return bytes.readUInt32BE(32) === 2
}

/** Without what no two runs share: random identities and times, and the sums over them. */
function masked(bytes: Buffer, format: string | undefined): Buffer {
  const copy = Buffer.from(bytes)
  const blank = (from: number, to: number) => copy.fill(0, from, Math.min(to, copy.length))
  switch (format) {
    case 'qcow2':
      maskSnapshots(copy)
      break
    case 'vmdk':
      return maskContentIds(copy)
    case 'vdi':
      blank(0x188, 0x1a8)
      break
    case 'vpc':
      for (const at of [0, copy.length - 512]) {
        if (at < 0 || copy.toString('latin1', at, at + 8) !== 'conectix') continue
        blank(at + 24, at + 28)
        blank(at + 64, at + 84)
      }
      break
    case 'vhdx':
      // The program that made it, and numbers that QEMU draws.
      blank(8, 520)
      for (const at of [65_536, 131_072]) {
        blank(at + 4, at + 64)
      }
      maskVhdxLog(copy)
      maskVhdxRegions(copy)
      maskVhdxIdentity(copy)
      break
  }
  return copy
}

/** The content ids in a descriptor, which are as long as their value; what is behind its text does not count where it is a file of its own. */
function maskContentIds(bytes: Buffer): Buffer {
  const start = Math.max(0, bytes.indexOf('# Disk DescriptorFile'))
  const zero = bytes.indexOf(0, start)
  const end = zero < 0 ? bytes.length : zero
  const text = bytes.toString('latin1', start, end)
  const ids = text.replaceAll(/CID=(?!f{8}\n)[0-9a-f]{1,8}\n/g, 'CID=…\n')
  if (start === 0) return Buffer.from(ids)
  return Buffer.concat([bytes.subarray(0, start), Buffer.from(ids), bytes.subarray(Math.max(end, start + 2048))])
}

/** Dates of internal snapshots. */
function maskSnapshots(bytes: Buffer): void {
  const count = bytes.readUInt32BE(60)
  let at = Number(bytes.readBigUInt64BE(64))
  for (let i = 0; i < count && at + 40 < bytes.length; i++) {
    const length = 40 + bytes.readUInt16BE(at + 12) + bytes.readUInt16BE(at + 14) + bytes.readUInt32BE(at + 36)
    bytes.fill(0, at + 16, at + 24)
    at += Math.ceil(length / 8) * 8
  }
}

/** The identity of the log in its entries, which is drawn for each opening, and the sums over them. */
function maskVhdxLog(bytes: Buffer): void {
  // Behind the first MiB, as long as the first header says.
  const start = 1 << 20
  if (bytes.length < start) return
  const end = Math.min(start + bytes.readUInt32LE(65_536 + 68), bytes.length - 48)
  for (let at = start; at < end; at += 4096) {
    if (bytes.toString('latin1', at, at + 4) !== 'loge') continue
    bytes.fill(0, at + 4, at + 8)
    bytes.fill(0, at + 32, at + 48)
  }
}

/** Whether regions are required, which the format asks for and QEMU leaves out, and the sums over the tables that say so. */
function maskVhdxRegions(bytes: Buffer): void {
  for (const table of [196_608, 262_144]) {
    if (bytes.toString('latin1', table, table + 4) !== 'regi') continue
    bytes.fill(0, table + 4, table + 8)
    const count = Math.min(bytes.readUInt32LE(table + 8), 2047)
    for (let at = table + 16; at < table + 16 + 32 * count; at += 32) bytes.fill(0, at + 28, at + 32)
  }
}

/** The identity of a disk among its metadata: Page 83 data, BECA12AB-B2E6-4523-93EF-C309E000C746. */
function maskVhdxIdentity(bytes: Buffer): void {
  const item = Buffer.from('ab12cabee6b2234593efc309e000c746', 'hex')
  for (let table = bytes.indexOf('metadata'); table >= 0; table = bytes.indexOf('metadata', table + 1)) {
    const at = bytes.indexOf(item, table)
    if (at < 0 || at > table + 65_536) continue
    const value = table + bytes.readUInt32LE(at + 16)
    bytes.fill(0, value, value + bytes.readUInt32LE(at + 20))
  }
}

function firstDifference(a: Buffer, b: Buffer): number {
  const length = Math.min(a.length, b.length)
  for (let at = 0; at < length; at++) if (a[at] !== b[at]) return at
  return length
}

/** What real qemu-img makes of both: the same guest content, the same findings, the same description. */
async function otherMeaning(
  theirs: string,
  ours: string,
  name: string,
  format: string,
  isNoise: boolean,
): Promise<string | undefined> {
  const qemuImg = async (args: string[], cwd: string) => {
    const { code, stdout, stderr } = await run(tool('qemu-img').path ?? 'qemu-img', args, { cwd })
    return { code, stdout, stderr }
  }
  const opened = (folder: string): string => {
    const path = join(folder, name)
    if (format !== 'luks') return `driver=${format},file.filename=${path}`
    return head(path).toString('latin1', 0, 3) === 'QFI'
      ? `driver=qcow2,encrypt.key-secret=s,file.filename=${path}`
      : `driver=luks,key-secret=s,file.filename=${path}`
  }
  const password = format === 'luks' ? secret.split(' ') : []
  // Terabytes of zeros would take minutes: of those, what is mapped is asked for instead.
  const { stdout } = await qemuImg(['info', '--output=json', ...password, '--image-opts', opened(theirs)], theirs)
  const size = Number(/"virtual-size": (\d+)/.exec(stdout)?.[1] ?? 0)
  if (size < 4 * 2 ** 30 && !isNoise) {
    const compared = await qemuImg(['compare', ...password, '--image-opts', opened(theirs), opened(ours)], theirs)
    // Not to be opened any more by anybody, as when the last password was taken away: there is nothing to compare then.
    const shut =
      compared.code === 2 &&
      (await qemuImg(['compare', ...password, '--image-opts', opened(ours), opened(ours)], ours)).code === 2
    if (compared.code !== 0 && !shut) return `${name}: other content\n${compared.stdout}${compared.stderr}`
  }
  for (const verb of size < 4 * 2 ** 30 ? ['check', 'info'] : ['check', 'info', 'map']) {
    const [their, our] = await Promise.all([theirs, ours].map((folder) => qemuImg([verb, name], folder)))
    const [a, b] = [their, our].map((seen) =>
      JSON.stringify(seen).replace(
        /[0-9a-f-]{36}|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d|CID: \d+|cid: \d+|iters: \d+|disk size: [^\\]*|[\d.]+% fragmented|Image end offset: \d+/g,
        '…',
      ),
    )
    if (a !== b) return `${name}: other answer to ${verb}\n${a}\n${b}`
  }
  return undefined
}
