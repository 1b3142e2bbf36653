/** Recognition: each format by the bytes that make it one, with size and verdict; what is two at once; and what other tools and vendors write. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith } from '../support/process.ts'
import { qemuImg } from '../support/qemu.ts'
import { samples, samplesFolder, unpackedSample } from '../support/samples.ts'
import * as images from './images.ts'
import { failures, look, sentenceFor } from './look.ts'

const MiB = 1024 * 1024
const folder = temporaryFolder()

describe('written by hand', () => {
  it.each([
    ['qcow2', images.qcow2(), MiB, []],
    ['qcow', images.qcow(), MiB, ['obsolete-format']],
    ['qed', images.qed(), MiB, ['obsolete-format']],
    ['vmdk', images.vmdk(), 2 * MiB, []],
    ['vmdk', images.streamOptimized(), 2 * MiB, []],
    [
      'vmdk',
      Buffer.from(images.descriptor('monolithicFlat', 'RW 4096 FLAT "x-flat.vmdk" 0')),
      2 * MiB,
      ['external-extents'],
    ],
    [
      'vmdk',
      Buffer.concat([Buffer.from('COWD\x01\0\0\0\x03\0\0\0\0\x10\0\0', 'latin1'), Buffer.alloc(4096)]),
      2 * MiB,
      ['descriptor'],
    ],
    [
      'vmdk',
      Buffer.concat([Buffer.from('bebafeca000000000100000002000000', 'hex'), Buffer.alloc(4096)]),
      0,
      ['descriptor'],
    ],
    ['vhd', images.fixedVhd(), MiB, []],
    ['vhd', images.fixedVhd(images.withMbr()), MiB, []],
    ['vhd', images.fixedVhd(images.iso(undefined, 512)), MiB, []],
    ['vhd', images.dynamicVhd(), 4 * MiB, []],
    ['vhd', images.dynamicVhd(4), 4 * MiB, ['parent-locator']],
    ['vdi', images.vdi(), 2 * MiB, []],
    ['parallels', images.parallels(), 4 * MiB, []],
    ['bochs', images.bochs(), MiB, []],
    ['cloop', images.cloop(), 131072, []],
    ['dmg', images.dmg(), MiB, []],
    ['dmg', images.dmg(undefined, Buffer.concat([Buffer.from('BZh91AY&SY'), Buffer.alloc(65536)])), MiB, []],
    ['asif', images.asif(), MiB, []],
    ['luks', images.luks1(), MiB, []],
    ['luks', images.luks2(), MiB, []],
    ['iso', images.iso(), 65536, []],
    ['iso', images.withMbr(images.iso()), 65536, []],
    ['iso', images.udf(), undefined, []],
    ['raw', images.withMbr(), MiB, []],
    ['raw', images.gpt(), MiB, []],
    ['raw', Buffer.alloc(0), 0, []],
    ['raw', Buffer.from('something'), 9, []],
    [
      'ova',
      images.tar([
        { name: 'a.ovf', data: images.ovf(['a.vmdk']) },
        { name: 'a.vmdk', data: Buffer.alloc(700) },
      ]),
      undefined,
      [],
    ],
    ['tar', images.tar([{ name: 'disk.raw', data: Buffer.alloc(1024) }]), undefined, []],
    ['ovf', images.ovf(['disk.vmdk']), undefined, []],
  ] as const)('%s (%#)', async (format, data, size, failed) => {
    const found = await look(data)
    expect([found.format, found.virtualSize, failures(found)]).toEqual([format, size, failed])
    expect(found.verdict).toBe(failed.length > 0 ? 'failed' : 'passed')
    expect(found.size).toBe(data.length)
  })

  it('partition tables and boot code are facts about a raw disk', async () => {
    const found = await look(images.withMbr(undefined, (data) => data.write('GRUB ', 100)))
    expect(found.findings.map(({ format, kind, facts }) => [format, kind, facts])).toEqual([
      [
        'mbr',
        'partitions',
        { bootCode: 'GRUB', partitions: [{ number: 1, type: 0x83, typeName: 'Linux', first: 1, sectors: 7 }] },
      ],
      ['raw', 'disk', {}],
    ])
    expect(sentenceFor(found, 'boot-code')).toContain('which is no fault')
    const { findings } = await look(images.gpt())
    expect(findings[0]?.facts).toMatchObject({ partitions: [{ first: 64, last: 1000 }], backup: 'not at the end' })
  })

  it('a kernel and a file system that are signed like boot sectors have no partition table', async () => {
    const kernel = images.withMbr(undefined, (data) => data.write('HdrS', 514))
    expect((await look(kernel)).findings.map(({ format }) => format)).toEqual(['linux-kernel', 'raw'])
    const fat = images.withMbr(undefined, (data) =>
      data.write('eb3c904d53444f53352e30000204010002e000400bf0', 0, 'hex'),
    )
    expect((await look(fat)).findings.map(({ format }) => format)).toEqual(['boot-sector', 'fat', 'raw'])
  })

  it('the table of a hybrid volume may bend the rules, that of a disk may not', async () => {
    const bent = (data: Buffer): Buffer => images.withMbr(data, (sector) => sector.write('EFI PART', 512))
    const volume = await look(bent(images.iso()))
    expect([volume.format, volume.verdict]).toEqual(['iso', 'passed'])
    expect(sentenceFor(volume, 'partition-table')).toMatch(
      /^of no matter on an optical volume: there is no protective MBR/,
    )
    expect(failures(await look(bent(Buffer.alloc(65_536))))).toEqual(['partition-table'])
  })

  it('the footer of a stale VHD is none', async () => {
    expect((await look(Buffer.concat([Buffer.alloc(MiB), images.vhdFooter(2 * MiB, 2)]))).format).toBe('raw')
    expect((await look(images.fixedVhd(undefined, (footer) => footer.writeUInt32BE(1, 60)))).format).toBe('raw')
    const wrong = images.fixedVhd()
    wrong.writeUInt8(1, wrong.length - 1)
    expect((await look(wrong)).format).toBe('raw')
  })
})

describe('two formats at once', () => {
  const over = (below: Buffer, above: Buffer): Buffer => {
    above.subarray(0, 512).copy(below)
    return below
  }
  it.each([
    ['qcow2 and iso', over(images.iso(), images.qcow2())],
    ['qcow2 and a partition table', images.withMbr(images.qcow2())],
    ['qcow2 and a boot signature', images.qcow2((data) => data.writeUInt16BE(0x55aa, 510))],
    ['qcow2 and vdi', images.qcow2((data) => data.writeUInt32LE(0xbeda107f, 64))],
    ['qcow2 in a fixed VHD', images.fixedVhd(images.qcow2())],
    ['qcow2 with the trailer of a DMG', images.dmg(undefined, images.qcow2())],
    ['luks and iso', over(images.iso(), images.luks1())],
    ['gzip and iso', over(images.iso(), Buffer.from('1f8b0800'.padEnd(1024, '0'), 'hex'))],
    [
      'iso in a tar',
      (() => {
        const data = images.tar([{ name: 'a', data: images.iso() }])
        data.write('CD001', 32769)
        return data
      })(),
    ],
  ])('%s', async (_what, data) => {
    const found = await look(data)
    expect(failures(found)).toContain('polyglot')
    expect(found.verdict).toBe('failed')
    expect(sentenceFor(found, 'polyglot')).toMatch(/several formats at once: \w+, \w+/)
  })
})

describe.skipIf(samplesFolder === undefined)(
  samplesFolder === undefined ? 'samples [skipped: the folder MORAINE_SAMPLES is not there]' : 'samples',
  () => {
    // To an inspection these are bytes like any other.
    const plain = ['json', 'ovf-manifest']
    it.each(samples().map((sample) => [sample.file, sample] as const))('%s', async (_file, sample) => {
      const found = await look(readFileSync(unpackedSample(sample, folder.fresh())))
      const expected = /no-ovf/.test(sample.file) ? 'tar' : plain.includes(sample.format) ? 'raw' : sample.format
      expect(found.format).toBe(expected)
      const isDisk = !['ova', 'tar', 'ovf'].includes(found.format)
      if (sample.kind !== 'negative' && isDisk && sample.virtualSize !== undefined)
        expect(found.virtualSize).toBe(sample.virtualSize)
      const unsafe =
        sample.kind === 'negative' || sample.kind === 'chain' || /descriptor|vmfs flat/.test(sample.variant)
      if (expected !== 'tar') expect(found.verdict === 'failed', JSON.stringify(found, undefined, 1)).toBe(unsafe)
    })
  },
)

describeWith(['qemu-img'], 'made by qemu-img', () => {
  it.each([
    ['qcow2', 'qcow2', ''],
    ['qcow2', 'qcow2', 'compat=0.10'],
    ['qcow2', 'qcow2', 'extended_l2=on,cluster_size=128k,compression_type=zstd'],
    ['qcow2', 'qcow2', 'preallocation=metadata,cluster_size=512'],
    ['vdi', 'vdi', ''],
    ['vdi', 'vdi', 'static=on'],
    ['vhdx', 'vhdx', ''],
    ['vhdx', 'vhdx', 'subformat=fixed,block_size=1M'],
    ['vpc', 'vhd', 'force_size=on'],
    ['vpc', 'vhd', 'subformat=fixed,force_size=on'],
    ['vmdk', 'vmdk', ''],
    ['vmdk', 'vmdk', 'subformat=streamOptimized'],
    ['vmdk', 'vmdk', 'zeroed_grain=on,adapter_type=lsilogic'],
    ['parallels', 'parallels', ''],
    ['raw', 'raw', ''],
  ])('%s is %s, with %s', async (format, name, options) => {
    const path = folder.fresh()
    await qemuImg('create', '-q', '-f', format, ...(options === '' ? [] : ['-o', options]), path, '6M')
    const found = await look(readFileSync(path))
    expect([found.format, found.virtualSize, found.verdict, failures(found)]).toEqual([name, 6 * MiB, 'passed', []])
  })

  it('an image of terabytes is seen by a few reads', async () => {
    const path = folder.fresh()
    await qemuImg('create', '-q', '-f', 'vhdx', '-o', 'block_size=256M', path, '20T')
    const found = await look(readFileSync(path))
    expect([found.virtualSize, found.verdict]).toEqual([20 * 1024 ** 4, 'passed'])
  })
})
