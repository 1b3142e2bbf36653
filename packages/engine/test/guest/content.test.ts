/** File systems, volumes and partition tables as the tools of Debian make them, beside what blkid and sfdisk say of them. */
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  allFormats,
  describeGuest,
  guestData,
  inspectSource,
  openContainer,
  openMember,
  partitionedDisk,
  StreamInspector,
} from '@moraine/engine'
import { openFile } from '@moraine/engine/node'
import { describe, expect, it } from 'vitest'
import { temporaryFolder } from '../support/folder.ts'
import { describeWith, runOk, tool } from '../support/process.ts'
import { qemuImg } from '../support/qemu.ts'

const MiB = 1024 * 1024
const folder = temporaryFolder()
const path = (name: string): string => tool(name).path ?? name

async function described(file: string) {
  const source = await openFile(file)
  try {
    return await describeGuest(source)
  } finally {
    await source.close()
  }
}

/** A file of that size, on which a tool has worked. */
async function made(size: number, command: string, ...args: string[]): Promise<string> {
  const file = folder.fresh('.img')
  writeFileSync(file, '')
  truncateSync(file, size)
  await runOk(path(command), [...args, file], { input: 'secret' })
  return file
}

/** What blkid says, by its own names; empty where it says nothing. */
async function blkid(file: string): Promise<Record<string, string>> {
  const text = await runOk(path('blkid'), ['-p', '-o', 'export', file])
  return Object.fromEntries(text.split('\n').map((line) => line.split(/=(.*)/s).slice(0, 2) as [string, string]))
}

/** A disk of 64 MiB with the labels of a pool: lists in XDR, and uberblocks. */
function zfsLabels(): Buffer {
  const pair = (key: string, type: number, value: Buffer): Buffer => {
    const text = Buffer.alloc(Math.ceil(key.length / 4) * 4)
    text.write(key)
    const pieces = [numbers(0, 0, key.length), text, numbers(type, 1), value]
    pieces[0]?.writeUInt32BE(pieces.reduce((sum, { length }) => sum + length, 0))
    return Buffer.concat(pieces)
  }
  const numbers = (...values: number[]): Buffer => {
    const bytes = Buffer.alloc(values.length * 4)
    for (const [at, value] of values.entries()) bytes.writeUInt32BE(value, at * 4)
    return bytes
  }
  const large = (value: bigint): Buffer => {
    const bytes = Buffer.alloc(8)
    bytes.writeBigUInt64BE(value)
    return bytes
  }
  const list = Buffer.concat([
    Buffer.from([1, 1, 0, 0]),
    numbers(0, 1),
    pair('version', 8, large(5000n)),
    pair('name', 9, Buffer.concat([numbers(4), Buffer.from('tank')])),
    pair('state', 8, large(1n)),
    pair('pool_guid', 8, large(1_234_567_890_123_456_789n)),
    pair('guid', 8, large(9_876_543_210_987_654_321n)),
    numbers(0, 0),
  ])
  const disk = Buffer.alloc(64 * MiB)
  for (const label of [0, 256 * 1024, 64 * MiB - 512 * 1024, 64 * MiB - 256 * 1024]) {
    list.copy(disk, label + 16 * 1024)
    for (let slot = 0; slot < 128; slot++) disk.writeBigUInt64LE(0x00bab10cn, label + 128 * 1024 + slot * 1024)
  }
  return disk
}

/** Our names in blkid's words. */
function inBlkidWords({ format, subformat = '' }: { format: string; subformat?: string }): string {
  const words: Record<string, string> = { fat: 'vfat', lvm2: 'LVM2_member', zfs: 'zfs_member', luks: 'crypto_LUKS' }
  return format === 'ext' ? subformat : (words[format] ?? format)
}

const luks = (type: string, ...more: string[]) =>
  ['luksFormat', '-q', '--type', type, '--pbkdf-force-iterations', '1000', ...more, '--key-file', '-'] as const

describeWith(
  [
    'blkid',
    'mke2fs',
    'mkfs.vfat',
    'mkfs.xfs',
    'mkfs.btrfs',
    'mkfs.ntfs',
    'mkfs.exfat',
    'mkfs.f2fs',
    'mkfs.jfs',
    'mkfs.minix',
    'mkfs.nilfs2',
    'mkreiserfs',
    'mkudffs',
    'xorriso',
    'mkswap',
    'cryptsetup',
    'mksquashfs',
    'mkfs.cramfs',
  ],
  'beside blkid',
  () => {
    it.each([
      ['ext2', 8, 'mke2fs', ['-q', '-t', 'ext2', '-L', 'Wurzel']],
      ['ext3', 16, 'mke2fs', ['-q', '-t', 'ext3', '-L', 'root']],
      ['ext4', 16, 'mke2fs', ['-q', '-t', 'ext4', '-L', 'root', '-U', '01234567-89ab-cdef-0123-456789abcdef']],
      ['ext4 without a label', 16, 'mke2fs', ['-q', '-t', 'ext4', '-b', '4096']],
      ['FAT12', 1, 'mkfs.vfat', ['-n', 'ESP', '-i', '1234abcd']],
      ['FAT16', 40, 'mkfs.vfat', ['-F', '16', '-n', 'CIDATA']],
      ['FAT32', 64, 'mkfs.vfat', ['-F', '32', '-n', 'EFI SYSTEM']],
      ['FAT without a label', 40, 'mkfs.vfat', []],
      ['XFS', 320, 'mkfs.xfs', ['-q', '-L', 'data']],
      ['Btrfs', 128, 'mkfs.btrfs', ['-q', '-L', 'a longer label than others take']],
      ['NTFS', 32, 'mkfs.ntfs', ['-q', '-F', '-f', '-L', 'Systempartition']],
      ['exFAT', 32, 'mkfs.exfat', ['-L', 'Karte']],
      ['F2FS', 64, 'mkfs.f2fs', ['-q', '-l', 'flash']],
      ['JFS', 32, 'mkfs.jfs', ['-q', '-L', 'journal']],
      ['ReiserFS', 64, 'mkreiserfs', ['-q', '-f', '-l', 'Baum']],
      ['NILFS2', 160, 'mkfs.nilfs2', ['-q', '-L', 'log']],
      ['UDF', 16, 'mkudffs', ['--label=Scheibe', '--blocksize=2048', '--media-type=dvdram']],
      ['UDF in sectors of 1024 bytes', 16, 'mkudffs', ['--label=klein', '--blocksize=1024']],
      ['UDF in sectors of 4096 bytes', 16, 'mkudffs', ['--label=gross', '--blocksize=4096']],
      ['UDF in sectors of 512 bytes', 16, 'mkudffs', ['--label=stick', '--uuid=0123456789abcdef']],
      ['minix', 8, 'mkfs.minix', ['-1']],
      ['swap', 8, 'mkswap', ['-q', '-L', 'swap0']],
      ['swap with pages of 64 KiB', 8, 'mkswap', ['-q', '-p', '65536', '-L', 'swap64']],
      ['LUKS1', 20, 'cryptsetup', luks('luks1')],
      ['LUKS2', 20, 'cryptsetup', luks('luks2', '--pbkdf', 'pbkdf2', '--label', 'hidden')],
    ] as const)('%s', async (_what, size, command, args) => {
      const file = await made(size * MiB, command, ...args)
      const { content, table } = await described(file)
      expect([content.length, table], JSON.stringify(content)).toEqual([1, undefined])
      const [only] = content
      if (only === undefined) return
      const said = await blkid(file)
      expect({
        TYPE: inBlkidWords(only),
        LABEL: only.facts.label ?? only.facts.name,
        UUID: only.facts.uuid,
      }).toEqual({ TYPE: said.TYPE, LABEL: said.LABEL?.replaceAll('\\ ', ' '), UUID: said.UUID })
      if (command !== 'mkudffs') return
      // In a stream the sequence of descriptors comes before the anchor that names it.
      const stream = new StreamInspector()
      stream.push(readFileSync(file))
      const { findings } = stream.end()
      expect(findings.find(({ format }) => format === 'udf')?.facts).toEqual(only.facts)
    })

    it('a device of a pool of ZFS, written by hand', async () => {
      const file = folder.fresh('.img')
      writeFileSync(file, zfsLabels())
      const said = await blkid(file)
      const { content } = await described(file)
      expect(content.map((only) => [inBlkidWords(only), only.facts])).toEqual([
        [said.TYPE, { label: said.LABEL, uuid: said.UUID, deviceUuid: said.UUID_SUB, state: 'exported' }],
      ])
      expect([said.LABEL, said.UUID]).toEqual(['tank', '1234567890123456789'])
      // In a partition, where bytes that have passed by are gone.
      const table = Buffer.alloc(MiB)
      table.set([0x80, 0, 2, 0, 0xbf, 0xff, 0xff, 0xff, 0, 8, 0, 0, 0, 0, 2, 0], 446)
      table.set([0x55, 0xaa], 510)
      const inspector = new StreamInspector()
      inspector.push(Buffer.concat([table, zfsLabels()]))
      const [partition] = inspector.end().findings.flatMap(({ facts }) => (facts.partitions ?? []) as unknown[])
      expect(partition).toMatchObject({ content: [{ format: 'zfs', label: 'tank', uuid: said.UUID }] })
    })

    it('an optical volume', async () => {
      const [from, file] = [folder.fresh('-from'), folder.fresh('.iso')]
      mkdirSync(from)
      writeFileSync(join(from, 'a'), 'a')
      await runOk(path('xorriso'), ['-as', 'mkisofs', '-quiet', '-V', 'Optical', '-o', file, from])
      const said = await blkid(file)
      const [only] = (await described(file)).content
      const { label, uuid } = only?.facts ?? {}
      expect([only?.format, label, uuid]).toEqual([said.TYPE, said.LABEL, said.UUID])
    })

    it('SquashFS and cramfs of a folder', async () => {
      for (const [command, args] of [
        ['mksquashfs', ['-noappend', '-quiet', '-no-progress']],
        ['mkfs.cramfs', ['-n', 'small']],
      ] as const) {
        const file = folder.fresh('.img')
        const from = import.meta.dirname
        await runOk(path(command), command === 'mksquashfs' ? [from, file, ...args] : [...args, from, file])
        const said = await blkid(file)
        const [only] = (await described(file)).content
        expect([only?.format, only?.facts.label]).toEqual([said.TYPE, said.LABEL])
      }
    })
  },
)

describe('written by hand', () => {
  it('a physical volume of LVM2', async () => {
    const file = folder.fresh('.img')
    const data = Buffer.alloc(MiB)
    data.write('LABELONE', 512)
    data.writeUInt32LE(32, 512 + 20)
    data.write('LVM2 001', 512 + 24)
    data.write('abcdefGHIJklMNopQRstUVwxYZ012345', 544)
    data.writeBigUInt64LE(BigInt(MiB), 576)
    writeFileSync(file, data)
    const [only] = (await described(file)).content
    expect([only?.format, only?.facts]).toEqual(['lvm2', { uuid: 'abcdef-GHIJ-klMN-opQR-stUV-wxYZ-012345', size: MiB }])
  })

  it('nothing is recognised in nothing', async () => {
    for (const size of [0, 1, 511, 512, 70_000]) {
      const file = folder.fresh('.img')
      writeFileSync(file, Buffer.alloc(size))
      const description = await described(file)
      expect([description, guestData(description)]).toEqual([{ content: [] }, undefined])
    }
  })
})

interface SfdiskTable {
  partitiontable: {
    label: string
    id: string
    partitions: {
      node: string
      start: number
      size: number
      type: string
      uuid?: string
      name?: string
      bootable?: boolean
    }[]
  }
}

const scripts = {
  gpt: 'label: gpt\nsize=4M, type=U, name="EFI system"\nsize=20M, type=L, name="Wurzel \u00fc", attrs=LegacyBIOSBootable\nsize=8M, type=S\ntype=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709',
  mbr: 'label: dos\nsize=4M, type=c\nsize=20M, type=83, bootable\nsize=30M, type=5\nsize=5M, type=82\nsize=6M, type=83\nsize=7M, type=8e\nsize=2M, type=fd',
}

describeWith(['sfdisk', 'mke2fs', 'mkfs.vfat', 'qemu-img'], 'beside sfdisk', () => {
  const disk = async (script: string): Promise<string> => {
    const file = folder.fresh('.img')
    writeFileSync(file, '')
    truncateSync(file, 64 * MiB)
    await runOk(path('sfdisk'), ['-q', file], { input: script })
    return file
  }

  it.each(Object.entries(scripts))('%s', async (scheme, script) => {
    const file = await disk(script)
    const { partitiontable: said } = JSON.parse(await runOk(path('sfdisk'), ['-J', file])) as SfdiskTable
    const { table } = await described(file)
    expect([table?.scheme, table?.id.toLowerCase()]).toEqual([scheme, said.id.replace('0x', '').toLowerCase()])
    expect(
      table?.partitions.map(({ number, offset, size, type, uuid, name }) => ({
        number,
        start: offset / 512,
        size: size / 512,
        type,
        uuid,
        name,
      })),
    ).toEqual(
      said.partitions.map(({ node, start, size, type, uuid, name }) => ({
        number: Number(/\d+$/.exec(node)?.[0]),
        start,
        size,
        type: scheme === 'gpt' ? type.toLowerCase() : `0x${type.padStart(2, '0')}`,
        uuid: uuid?.toLowerCase() ?? `${said.id.slice(2)}-${/\d+$/.exec(node)?.[0]?.padStart(2, '0')}`,
        name,
      })),
    )
    expect(table?.partitions.filter(({ bootable }) => bootable).map(({ number }) => number)).toEqual([2])
  })

  it('what partitions hold, and partitions as members of disks of any format', async () => {
    const file = await disk(scripts.gpt)
    await runOk(path('mke2fs'), ['-q', '-t', 'ext4', '-L', 'inner', '-E', `offset=${5 * MiB}`, file, '20M'])
    await runOk(path('mkfs.vfat'), ['-n', 'FIRMWARE', '--offset', '2048', file, '4096'])
    const { table } = await described(file)
    expect(
      table?.partitions.map(({ content }) => content.map(({ subformat, facts }) => [subformat, facts.label])),
    ).toEqual([[['FAT12', 'FIRMWARE']], [['ext4', 'inner']], [], []])
    const { findings } = await inspectSource(await openFile(file))
    const inspected = findings.find(({ format }) => format === 'gpt')?.facts.partitions
    expect(inspected).toMatchObject([
      { name: 'EFI system', content: [{ format: 'fat', subformat: 'FAT12', label: 'FIRMWARE' }] },
      { name: 'Wurzel \u00fc', content: [{ format: 'ext', subformat: 'ext4', label: 'inner' }] },
      { typeName: 'Linux swap' },
      { typeName: 'Linux root (x86-64)' },
    ])
    const stream = new StreamInspector()
    stream.push(readFileSync(file))
    expect(stream.end().findings).toEqual(findings)
    const packed = folder.fresh('.qcow2')
    await qemuImg('convert', '-c', '-O', 'qcow2', file, packed)
    const plain = await openFile(file)
    const expected = new Uint8Array(20 * MiB)
    await plain.read(5 * MiB, expected)
    await plain.close()
    for (const image of [file, packed]) {
      for (const name of ['p2', 'partition2', 'Wurzel \u00fc']) {
        const container = await openContainer(await openFile(image), [partitionedDisk(allFormats)])
        if (container === undefined) throw new Error('not recognised')
        const member = await openMember(container, name)
        const bytes = new Uint8Array(member.size)
        await member.read(0, bytes)
        await member.close()
        expect(Buffer.compare(bytes, expected), `${image} ${name}`).toBe(0)
      }
    }
  })

  it('what partitions around logical ones hold is seen in one pass', async () => {
    const file = await disk(
      'label: dos\n1: start=2048, size=4M, type=83\n2: size=20M, type=5\n3: size=8M, type=83\n5: size=5M, type=83\n6: size=5M, type=83',
    )
    for (const [label, start] of [
      ['before', 1],
      ['after', 25],
    ] as const) {
      await runOk(path('mke2fs'), ['-q', '-t', 'ext2', '-L', label, '-E', `offset=${start * MiB}`, file, '4M'])
    }
    const stream = new StreamInspector()
    stream.push(readFileSync(file))
    const { findings } = stream.end()
    expect(findings).toEqual((await inspectSource(await openFile(file))).findings)
    expect(findings[0]?.facts.partitions).toMatchObject([
      { number: 1, content: [{ label: 'before' }] },
      { number: 2, typeName: 'Extended' },
      { number: 3, content: [{ label: 'after' }] },
      { number: 5 },
      { number: 6 },
    ])
  })

  it('a table that passes the end of the disk is told, and cannot be reached', async () => {
    const file = await disk(scripts.mbr)
    truncateSync(file, 30 * MiB)
    expect((await described(file)).table?.partitions).toHaveLength(5)
    const container = await openContainer(await openFile(file), [partitionedDisk(allFormats)])
    if (container === undefined) throw new Error('not recognised')
    await expect(openMember(container, 'p3')).rejects.toThrow(/no partition with content/)
    const again = await openContainer(await openFile(file), [partitionedDisk(allFormats)])
    if (again === undefined) throw new Error('not recognised')
    await expect(openMember(again, 'p5')).rejects.toThrow(
      /partition 5 passes the end of the disk.*rule: at most 31457280/,
    )
  })
})
