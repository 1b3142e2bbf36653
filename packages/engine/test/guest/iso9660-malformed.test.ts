/** Malformed and hostile volumes: each gives one clear error, or a warning and what can be read, in bounded time. */
import {
  type ErrorKind,
  isMoraineError,
  MemoryStore,
  type NewVolumeOptions,
  openIsoFileSystem,
  planIsoVolume,
} from '@moraine/engine'
import { beforeAll, describe, expect, it } from 'vitest'
import { budget, Random, seed, timeFor } from '../support/random.ts'
import { bytesOf, describeFiles, entriesOf, kindAndContent, type Tree } from './support/iso.ts'

const tree: Tree = {
  'file.txt': 'content',
  'folder/inner.txt': 'inner',
  'folder/deeper/deepest.txt': 'deepest',
  'other/x': 'x',
  link: '-> folder/inner.txt',
  // Its name needs a continuation area.
  [`${'long'.repeat(60)}`]: 'long',
  'boot.img': new Uint8Array(4096).fill(3),
}

let sound: Uint8Array
let soundJoliet: Uint8Array

beforeAll(async () => {
  const options: NewVolumeOptions = {
    time: 1_700_000_000,
    boot: [{ path: 'boot.img', platform: 'bios', infoTable: true }],
  }
  sound = await bytesOf(planIsoVolume(entriesOf(tree), { ...options, joliet: false }))
  soundJoliet = await bytesOf(planIsoVolume(entriesOf(tree), { ...options, rockRidge: false }))
})

/** Changes a copy of an image. */
class Patch {
  readonly bytes: Uint8Array
  readonly view: DataView

  constructor(image: Uint8Array) {
    this.bytes = image.slice()
    this.view = new DataView(this.bytes.buffer)
  }

  /** Where some bytes stand for the first time. */
  at(text: string, encoding: 'latin1' | 'utf16be' = 'latin1'): number {
    const wanted = encoding === 'latin1' ? Buffer.from(text, 'latin1') : Buffer.from(text, 'utf16le').swap16()
    const found = Buffer.from(this.bytes.buffer).indexOf(wanted)
    if (found < 0) throw new Error(`the image has no '${text}'`)
    return found
  }

  /** The directory record of a plain name. */
  record(identifier: string): number {
    return this.at(String.fromCharCode(identifier.length) + identifier) - 32
  }

  /** A field of system use in the record of a plain name. */
  field(identifier: string, signature: string): number {
    const start = this.record(identifier)
    const end = start + (this.bytes[start] ?? 0)
    const found = Buffer.from(this.bytes.buffer)
      .subarray(start, end)
      .indexOf(signature, 33 + identifier.length, 'latin1')
    if (found < 0) throw new Error(`${identifier} has no ${signature}`)
    return start + found
  }

  both32(at: number, value: number): void {
    this.view.setUint32(at, value, true)
    this.view.setUint32(at + 4, value)
  }

  block(identifier: string): number {
    return this.view.getUint32(this.record(identifier) + 2, true)
  }
}

interface Row {
  name: string
  change(image: Patch): void
  /** Of the image without Joliet (default), or of the one without Rock Ridge. */
  joliet?: true
  /** Bytes that are left of it. */
  cut?: number
  error?: readonly [kind: ErrorKind, field: string]
  warning?: RegExp
  /** Paths that are there. */
  paths?: readonly string[]
  /** All is as in a sound one. */
  same?: true
}

const longPlain = 'LONGLONGLONGLONGLONGLONGLONGLO.;1'

const rows: Row[] = [
  { name: 'a sound one', change: () => {}, same: true },
  { name: 'cut before its descriptors', change: () => {}, cut: 30_000, error: ['not-this-format', ''] },
  { name: 'cut within its directories', change: () => {}, cut: 23 * 2048, error: ['corrupt', 'location of extent'] },
  { name: 'cut within its files', change: () => {}, cut: 28 * 2048, error: ['corrupt', 'location of extent'] },
  { name: 'no primary descriptor', change: (image) => (image.bytes[16 * 2048] = 3), error: ['not-this-format', ''] },
  {
    name: 'UDF alone',
    change: (image) => {
      image.bytes.fill(0, 16 * 2048, 20 * 2048)
      for (const [index, id] of ['BEA01', 'NSR03', 'TEA01'].entries())
        image.bytes.set(Buffer.from(id), (16 + index) * 2048 + 1)
    },
    error: ['unsupported', 'volume descriptors'],
  },
  {
    name: 'blocks of 3 bytes',
    change: (image) => image.view.setUint16(16 * 2048 + 128, 3, true),
    error: ['corrupt', 'logical block size'],
  },
  {
    name: 'a root record of no length',
    change: (image) => (image.bytes[16 * 2048 + 156] = 0),
    error: ['corrupt', 'root directory record'],
  },
  {
    name: 'a root outside',
    change: (image) => image.both32(16 * 2048 + 158, 0xffff_ff00),
    error: ['corrupt', 'location of extent'],
  },
  {
    name: 'a root of 4 GiB',
    change: (image) => image.both32(16 * 2048 + 166, 0xffff_ffff),
    error: ['corrupt', 'location of extent'],
  },
  {
    name: 'a number written twice, differently',
    change: (image) => image.view.setUint32(16 * 2048 + 84, 7),
    warning: /volume space size is written twice/,
    same: true,
  },
  {
    name: 'a directory that is its parent',
    change: (image) => image.both32(image.record('DEEPER') + 2, image.block('FOLDER')),
    error: ['corrupt', 'location of extent'],
  },
  {
    name: 'a directory that is the root',
    change: (image) => image.both32(image.record('DEEPER') + 2, image.view.getUint32(16 * 2048 + 158, true)),
    error: ['corrupt', 'location of extent'],
  },
  {
    name: 'two directories that are one',
    change: (image) => image.both32(image.record('OTHER') + 2, image.block('FOLDER')),
    error: ['corrupt', 'location of extent'],
  },
  {
    name: 'a directory longer than the image',
    change: (image) => image.both32(image.record('OTHER') + 10, 1 << 20),
    error: ['corrupt', 'location of extent'],
  },
  {
    name: 'a directory of files',
    change: (image) => image.both32(image.record('OTHER') + 2, image.block('BOOT.IMG;1')),
    error: ['corrupt', 'length of directory record'],
  },
  {
    name: 'a record shorter than its head',
    change: (image) => (image.bytes[image.record('OTHER')] = 20),
    error: ['corrupt', 'length of directory record'],
  },
  {
    name: 'a record past the end of its sector',
    change: (image) => (image.bytes[image.record('X.;1')] = 255),
    paths: ['/other/x'],
  },
  {
    name: 'a name longer than its record',
    change: (image) => (image.bytes[image.record('OTHER') + 32] = 200),
    error: ['corrupt', 'length of directory record'],
  },
  {
    name: 'a file outside',
    change: (image) => image.both32(image.record('FILE.TXT;1') + 2, 0xffff_0000),
    error: ['corrupt', 'location of extent'],
  },
  {
    name: 'a file of 4 GiB',
    change: (image) => image.both32(image.record('FILE.TXT;1') + 10, 0xffff_ffff),
    error: ['corrupt', 'location of extent'],
  },
  {
    name: 'a file that goes on in nothing',
    change: (image) => (image.bytes[image.record('X.;1') + 25] = 0x80),
    error: ['corrupt', 'file flags'],
  },
  {
    name: 'a file that goes on in another',
    change: (image) => (image.bytes[image.record('BOOT.IMG;1') + 25] = 0x80),
    error: ['corrupt', 'file flags'],
  },
  {
    name: 'an interleaved file',
    change: (image) => (image.bytes[image.record('FILE.TXT;1') + 26] = 1),
    error: ['unsupported', '/file.txt'],
  },
  { name: 'a continuation that goes in a circle', change: circle, error: ['corrupt', 'CE'] },
  {
    name: 'a continuation outside',
    change: (image) => image.both32(image.field(longPlain, 'CE') + 4, 0xffff_ffff),
    error: ['corrupt', 'CE'],
  },
  {
    name: 'a continuation of 1 MiB',
    change: (image) => image.both32(image.field(longPlain, 'CE') + 20, 1 << 20),
    error: ['corrupt', 'CE'],
  },
  {
    name: 'a continuation in the files',
    change: (image) => image.both32(image.field(longPlain, 'CE') + 4, image.block('BOOT.IMG;1')),
    paths: ['/longlonglonglonglonglonglonglo'],
  },
  {
    name: 'a name with a slash',
    change: (image) => image.bytes.set(Buffer.from('../.e.tx'), image.field('FILE.TXT;1', 'NM') + 5),
    warning: /"\.\.\/\.e\.tx" cannot be the name/,
    paths: ['/.._.e.tx'],
  },
  {
    name: 'a name with a zero',
    change: (image) => (image.bytes[image.field('FILE.TXT;1', 'NM') + 6] = 0),
    warning: /cannot be the name/,
    paths: ['/f_le.txt'],
  },
  {
    name: 'a file that is called ..',
    change: (image) => {
      const at = image.field('LINK.;1', 'NM')
      image.bytes.set([0x4e, 0x4d, 9, 1, 0, 0x2e, 0x2e, 0x2f, 0x2f], at)
    },
    warning: /cannot be the name/,
    paths: ['/..__'],
  },
  {
    name: 'an empty name',
    change: (image) => (image.bytes[image.field('X.;1', 'NM') + 2] = 5),
    warning: /"" cannot be the name/,
    paths: ['/other/x'],
  },
  {
    name: 'a field of no length',
    change: (image) => (image.bytes[image.field('FILE.TXT;1', 'PX') + 2] = 0),
    paths: ['/file.txt'],
  },
  {
    name: 'a field past its record',
    change: (image) => (image.bytes[image.field('FILE.TXT;1', 'NM') + 2] = 200),
    paths: ['/file.txt'],
  },
  {
    name: 'a link that leads nowhere',
    change: (image) => image.bytes.set(Buffer.from('ZZ'), image.field('LINK.;1', 'SL')),
    warning: /does not say where it leads/,
    paths: ['/link'],
  },
  {
    name: 'a link whose parts pass its field',
    change: (image) => (image.bytes[image.field('LINK.;1', 'SL') + 6] = 255),
    paths: ['/link'],
  },
  {
    name: 'a sparse file',
    change: (image) => image.bytes.set(Buffer.from('SF'), image.field('FILE.TXT;1', 'TF')),
    error: ['unsupported', '/file.txt'],
  },
  { name: 'a packed file that is none', change: packed, error: ['corrupt', 'size'] },
  {
    name: 'a directory elsewhere that is outside',
    change: (image) => elsewhere(image, 0xffff_ffff),
    error: ['corrupt', 'location of extent'],
  },
  { name: 'a directory elsewhere that is empty', change: (image) => elsewhere(image, 0), error: ['corrupt', 'CL'] },
  {
    name: 'a directory elsewhere that is its parent',
    change: (image) => elsewhere(image, image.block('FOLDER')),
    error: ['corrupt', 'location of extent'],
  },
  {
    name: 'a boot catalogue outside',
    change: (image) => image.view.setUint32(17 * 2048 + 71, 0xffff_fff0, true),
    warning: /boot catalogue.*outside/,
    same: true,
  },
  {
    name: 'a boot catalogue with a wrong checksum',
    change: (image) => (image.bytes[catalogAt(image) + 4] = 1),
    warning: /wrong checksum/,
    same: true,
  },
  {
    name: 'a boot image outside',
    change: (image) => image.view.setUint32(catalogAt(image) + 40, 0xffff_fff0, true),
    warning: /boot image.*outside/,
    same: true,
  },
  {
    name: 'sections without an end',
    change: (image) => image.bytes.fill(0x90, catalogAt(image) + 64, catalogAt(image) + 2048),
    same: true,
  },
  {
    name: 'Joliet with a slash in a name',
    joliet: true,
    change: (image) => image.view.setUint16(image.at('file.txt', 'utf16be') + 8, 0x2f),
    warning: /cannot be the name/,
    paths: ['/file_txt'],
  },
  {
    name: 'Joliet with half a pair',
    joliet: true,
    change: (image) => image.view.setUint16(image.at('file.txt', 'utf16be'), 0xd800),
    paths: ['/\ufffdile.txt'],
  },
]

/** The continuation of the long name goes on where it began. */
function circle(image: Patch): void {
  const at = image.field(longPlain, 'CE')
  const block = image.view.getUint32(at + 4, true)
  const offset = image.view.getUint32(at + 12, true)
  const place = block * 2048 + offset
  image.bytes.copyWithin(place, at, at + 28)
}

function packed(image: Patch): void {
  const at = image.field('FILE.TXT;1', 'TF')
  image.bytes.set(Buffer.from('ZF'), at)
  image.bytes.set([16, 1, 0x70, 0x7a, 4, 15], at + 2)
  image.both32(at + 8, 1000)
  // What is left of the field is padding.
  image.bytes.set([0x50, 0x44, 10, 1], at + 16)
}

function elsewhere(image: Patch, block: number): void {
  const at = image.field('LINK.;1', 'SL')
  image.bytes.set([0x43, 0x4c, 12, 1], at)
  image.both32(at + 4, block)
}

function catalogAt(image: Patch): number {
  return image.view.getUint32(17 * 2048 + 71, true) * 2048
}

/** Everything that can be asked of an image. */
async function readAll(bytes: Uint8Array) {
  const warnings: string[] = []
  const files = await openIsoFileSystem(MemoryStore.from(bytes, 'hostile.iso'), { warn: (text) => warnings.push(text) })
  const found = await describeFiles(files, kindAndContent)
  const faults = (await files.checkPathTables()).faults
  await files.bootCatalog()
  await files.systemArea()
  return { warnings, found, faults }
}

describe('malformed volumes', () => {
  it.each(rows.map((row) => [row.name, row] as const))('%s', async (_name, row) => {
    const image = new Patch(row.joliet ? soundJoliet : sound)
    row.change(image)
    const bytes = row.cut === undefined ? image.bytes : image.bytes.slice(0, row.cut)
    const started = performance.now()
    const outcome = await readAll(bytes).catch((error: unknown) => error)
    expect(performance.now() - started).toBeLessThan(1000)
    if (outcome instanceof Error) {
      if (!isMoraineError(outcome)) throw outcome
      expect([outcome.kind, outcome.field ?? ''], outcome.message).toEqual(row.error)
      expect(outcome.path).toMatch(/^hostile\.iso/)
      return
    }
    const { warnings, found } = outcome as Awaited<ReturnType<typeof readAll>>
    expect(row.error, `it was read: ${Object.keys(found)}`).toBeUndefined()
    if (row.warning === undefined) expect(warnings).toEqual([])
    else expect(warnings.join('\n')).toMatch(row.warning)
    for (const path of row.paths ?? []) expect(Object.keys(found)).toContain(path)
    if (row.same) expect(found).toEqual((await readAll(sound)).found)
  })

  it('finds path tables that are not the tree', async () => {
    const image = new Patch(sound)
    const table = image.view.getUint32(16 * 2048 + 140, true) * 2048
    image.view.setUint32(table + 2, 9, true)
    const { faults } = await readAll(image.bytes)
    expect(faults.join('; ')).toMatch(
      /entry 1 differs in the two path tables.*leads to block 9.*is not in the path table/,
    )
    const outside = new Patch(sound)
    outside.view.setUint32(16 * 2048 + 140, 0xffff_ff00, true)
    expect((await readAll(outside.bytes)).faults[0]).toMatch(/lies outside the image/)
  })

  it(
    'ends well whatever changes',
    async () => {
      const random = new Random(seed('iso9660 mutation'))
      const end = Date.now() + budget(3000)
      let runs = 0
      let errors = 0
      // Descriptors, tables, directories and the catalogue; the files are what stands behind.
      const last = 40 * 2048
      while (Date.now() < end || runs < 20) {
        const bytes = random.pick([sound, soundJoliet]).slice()
        for (let i = random.int(1, 12); i > 0; i--) {
          let at = random.int(16 * 2048, Math.min(last, bytes.length) - 40)
          // Most of it is zeros that nobody reads.
          for (let tries = 0; bytes[at] === 0 && tries < 30; tries++)
            at = random.int(16 * 2048, Math.min(last, bytes.length) - 40)
          if (random.bool(0.6)) bytes[at] = random.int(0, 255)
          else bytes.set(bytes.slice(random.int(16 * 2048, bytes.length - 40)).subarray(0, random.int(1, 34)), at)
        }
        const started = performance.now()
        try {
          const { found } = await readAll(bytes)
          for (const path of Object.keys(found)) {
            expect(
              path
                .split('/')
                .slice(1)
                .every((name) => !['', '.', '..'].includes(name) && !name.includes('\0')),
            ).toBe(true)
          }
        } catch (error) {
          if (!isMoraineError(error) && !/stands there twice/.test((error as Error).message)) throw error
          errors++
        }
        expect(performance.now() - started).toBeLessThan(3000)
        runs++
      }
      console.info(`iso9660 mutation: ${runs} images, ${errors} refused`)
    },
    timeFor(3000),
  )
})
