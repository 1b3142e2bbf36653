/** OpenStack's own inspector (`glance.common.format_inspector`) beside ours, over the same files: all that it refuses we refuse, and what it is known to miss we
 *  see. Where it refuses what is sound, the case stands here by name, with the reason. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Inspection } from '@moraine/engine'
import { beforeAll, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../support/folder.ts'
import { runOk, tool } from '../support/process.ts'
import { qemuImg } from '../support/qemu.ts'
import { Random, seed } from '../support/random.ts'
import * as images from './images.ts'
import { look } from './look.ts'

const python = '/usr/bin/python3'
const module = '/usr/lib/python3/dist-packages/glance/common/format_inspector.py'

/** What stands in the way of asking it; in CI nothing may. */
function absent(): string[] {
  const missing = [python, module].filter((path) => !existsSync(path))
  if (missing.length > 0 && process.env.CI === 'true') throw new Error(`not installed: ${missing.join(', ')}`)
  return [...missing, ...['qemu-img'].filter((name) => tool(name).path === undefined)]
}

const program = `
import json, logging, os, sys
logging.disable(logging.CRITICAL)
from glance.common import format_inspector
answers = {}
for name in sorted(os.listdir(sys.argv[1])):
    inspector = format_inspector.detect_file_format(os.path.join(sys.argv[1], name))
    try:
        safe = bool(inspector.safety_check())
    except Exception:
        safe = False
    answers[name] = {'format': str(inspector), 'safe': safe}
print(json.dumps(answers))
`

/** Sound images that it refuses, and why it should not. */
const slips: Record<string, string> = {
  'made qcow2 extended_l2=on':
    'bit 4 (extended L2 entries) is a feature of QEMU 5.2 and later; it knows bits 0 to 3 only',
}

/** Files by name. */
const corpus = new Map<string, Buffer>()
const folder = temporaryFolder()
let theirs: Record<string, { format: string; safe: boolean }> = {}
const ours = new Map<string, Inspection>()

const { descriptor } = images
const vmdks: [string, Buffer][] = [
  ['vmdk sound', images.vmdk()],
  ['vmdk flat', images.vmdk(descriptor('monolithicFlat', 'RW 1 FLAT "/etc/passwd" 0'))],
  ['vmdk slash', images.vmdk(descriptor(undefined, 'RW 1 SPARSE "a/b"'))],
  ['vmdk no extent', images.vmdk(descriptor(undefined, ''))],
  ['vmdk odd line', images.vmdk(descriptor(undefined, undefined, 'odd line'))],
  ['vmdk blank before the sign', images.vmdk(descriptor().replace('CID=1', 'CID =1'))],
  ['vmdk tab in an extent', images.vmdk(descriptor(undefined, 'RW\t4096 SPARSE "x"'))],
  ['vmdk not ASCII', images.vmdk(descriptor(undefined, undefined, 'x="\xff"'))],
  ['vmdk behind a NUL', images.vmdk(`${descriptor()}\0\0odd line`)],
]

/** What it takes for safe, or for raw, though it is neither. */
const missed: [string, Buffer, string, string][] = [
  ['missed: fixed VHD', images.fixedVhd(), 'raw', 'vhd'],
  ['missed: VMDK with its directory in the footer', images.streamOptimized(), 'raw', 'vmdk'],
  ['missed: VMDK with a footer only', images.streamOptimized((data) => data.fill(0, 0, 4)), 'raw', 'vmdk'],
  ['missed: DMG by its trailer', images.dmg(), 'raw', 'dmg'],
  [
    'missed: VMDK descriptor on its own',
    Buffer.from(descriptor('monolithicFlat', 'RW 1 FLAT "/etc/passwd" 0')),
    'raw',
    'vmdk',
  ],
  ['missed: ESX extent', Buffer.concat([Buffer.from('COWD\x01\0\0\0'), Buffer.alloc(4096)]), 'raw', 'vmdk'],
  ['missed: LUKS', images.luks1(), 'raw', 'luks'],
  ['missed: ISO', images.iso(), 'raw', 'iso'],
]

/** What it takes for safe and we refuse. */
const fooled: [string, Buffer][] = [
  [
    'fooled: VMDK with a flat extent that has a plain name',
    images.vmdk(descriptor('monolithicFlat', 'RW 1 FLAT "passwd" 0')),
  ],
  ['fooled: VMDK without a type', images.vmdk(descriptor().replace(/createType.*\n/, ''))],
  ['fooled: VMDK with two types', images.vmdk(descriptor(undefined, undefined, 'createType="monolithicFlat"'))],
  ['fooled: VMDK with a parent', images.vmdk(descriptor(undefined, undefined, 'parentFileNameHint="/etc/passwd"'))],
  ['fooled: VMDK with a Windows path', images.vmdk(descriptor(undefined, 'RW 1 SPARSE "C:\\secret"'))],
  ['fooled: VMDK of impossible grains', images.vmdk(undefined, (data) => data.writeBigUInt64LE(3456n, 20))],
  ['fooled: VMDK with a giant directory', images.vmdk(undefined, (data) => data.writeBigUInt64LE(1n << 43n, 12))],
  ['fooled: differencing VHD', images.dynamicVhd(4)],
  ['fooled: undo VDI', images.vdi((data) => data.writeUInt32LE(3, 76))],
  ['fooled: qcow2 with a giant table', images.qcow2((data) => data.writeUInt32BE(0x7fffffff, 36))],
  [
    'fooled: qcow2 that is an ISO too',
    (() => {
      const data = images.iso()
      images.qcow2().copy(data, 0, 0, 512)
      return data
    })(),
  ],
]

/** VMDKs and qcow2s bent by chance. */
function fuzzed(random: Random): [string, Buffer][] {
  const words = [
    'RW 1 FLAT "x" 0',
    '/etc/passwd',
    '"',
    '=',
    '\n',
    '\r\n',
    '\0',
    '\t',
    ' ',
    '#',
    'ddb.x = "1"',
    'createType="vmfs"',
    'é',
    'noaccess',
    'RDONLY ',
  ]
  return Array.from({ length: 400 }, (_, index) => {
    if (index % 4 === 3) {
      const data = images.qcow2((header) => header.set(random.bytes(random.int(1, 8)), random.int(4, 79)))
      return [`fuzzed qcow2 ${index}`, data.subarray(0, 200_000)]
    }
    let text = descriptor()
    for (let count = random.int(1, 3); count > 0; count--) {
      const at = random.int(0, text.length)
      const gone = random.int(0, random.bool() ? 0 : 12)
      text = text.slice(0, at) + random.pick(words) + text.slice(at + gone)
    }
    const data = images.vmdk(text, (header) => {
      if (random.bool(0.2)) header.set(random.bytes(random.int(1, 4)), random.int(4, 79))
    })
    return [`fuzzed vmdk ${index}`, data.subarray(0, 64 * 1024)]
  })
}

/** Whether a qcow2 header asks for extended L2 entries and for nothing else that Glance does not know. */
function hasExtendedEntries(data: Buffer | undefined): boolean {
  return data !== undefined && data.readBigUInt64BE(72) >> 4n === 1n
}

const reasons = absent()
const title = reasons.length === 0 ? 'beside Glance' : `beside Glance [skipped: ${reasons.join(', ')} not installed]`
describe.skipIf(reasons.length > 0)(title, () => {
  beforeAll(async () => {
    for (const [name, data] of [...vmdks, ...fooled, ...fuzzed(new Random(seed('beside Glance')))])
      corpus.set(name, data)
    for (const [name, data] of missed) corpus.set(name, data)
    for (const [index, bend] of [
      (data: Buffer) => data.writeBigUInt64BE(512n, 8),
      (data: Buffer) => data.writeBigUInt64BE(4n, 72),
      (data: Buffer) => data.writeBigUInt64BE(1n << 5n, 72),
      (data: Buffer) => data.writeBigUInt64BE(1n << 60n, 72),
    ].entries()) {
      corpus.set(`qcow2 ${index}`, images.qcow2(bend))
    }
    corpus.set('qed', images.qed())
    corpus.set('raw', images.withMbr())
    for (const [format, options] of [
      ['qcow2', ''],
      ['qcow2', 'compat=0.10'],
      ['qcow2', 'extended_l2=on'],
      ['qcow2', 'lazy_refcounts=on,compression_type=zstd'],
      ['vmdk', ''],
      ['vmdk', 'subformat=streamOptimized'],
      ['vmdk', 'subformat=monolithicFlat'],
      ['vdi', ''],
      ['vhdx', ''],
      ['vpc', ''],
      ['vpc', 'subformat=fixed'],
      ['qed', ''],
    ] as const) {
      const path = folder.fresh()
      await qemuImg('create', '-q', '-f', format, ...(options === '' ? [] : ['-o', options]), path, '2M')
      corpus.set(`made ${format} ${options}`.trimEnd(), readFileSync(path))
    }
    const place = folder.fresh()
    mkdirSync(place)
    for (const [name, data] of corpus) writeFileSync(join(place, name), data)
    // The same bytes by their names: what a name has of `/` or `:` is no file name's business.
    theirs = JSON.parse(await runOk(python, ['-c', program, place], { timeout: 120_000 })) as typeof theirs
    for (const [name, data] of corpus) ours.set(name, await look(data))
  })

  it('all that it refuses we refuse', () => {
    const taken = [...ours]
      .filter(([name, { verdict }]) => theirs[name]?.safe === false && verdict !== 'failed')
      // Chance sets the bit that it does not know, too.
      .filter(([name]) => !(name.startsWith('fuzzed qcow2') && hasExtendedEntries(corpus.get(name))))
      .map(([name]) => name)
    expect(taken).toEqual(Object.keys(slips))
    expect(Object.keys(theirs).length).toBe(corpus.size)
    expect(Object.values(theirs).filter(({ safe }) => !safe).length).toBeGreaterThan(100)
  })

  it('what it recognises we recognise as the same', () => {
    for (const [name, { format }] of Object.entries(theirs)) {
      if (format === 'raw') continue
      expect([name, ours.get(name)?.findings.map((finding) => finding.format.replace(/^qcow$/, 'qcow2'))]).toEqual([
        name,
        expect.arrayContaining([format]),
      ])
    }
  })

  it.each(missed)('%s', (name, _data, taken, format) => {
    expect([theirs[name]?.format, ours.get(name)?.format]).toEqual([taken, format])
  })

  it.each(fooled)('%s', (name) => {
    expect([theirs[name]?.safe, ours.get(name)?.verdict]).toEqual([true, 'failed'])
  })

  it('the sound ones are sound', () => {
    const sound = [...corpus.keys()].filter((name) =>
      /^made (qcow2|vmdk$|vmdk subformat=stream|vdi|vhdx|vpc)|sound$|^raw$/.test(name),
    )
    expect(sound.filter((name) => ours.get(name)?.verdict !== 'passed')).toEqual([])
  })
})
