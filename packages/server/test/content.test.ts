/** What is uploaded is looked at: it must be what its owner says, and nothing that could harm those who open it. */
import { randomBytes } from 'node:crypto'
import { readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, run } from '../../engine/test/support/process.ts'
import { qemuImg } from '../../engine/test/support/qemu.ts'
import { ask, createImage, type Subject, services, showImage, upload } from './support/service.ts'

const start = services()
const folder = temporaryFolder()
let subject: Subject
beforeAll(async () => {
  subject = await start({ requireFormatAgreement: false })
})

const MiB = 1024 * 1024

/** Uploads as an image of a format; what the service said, and the image then. */
async function offer(data: Uint8Array, disk_format: string, container_format = 'bare', to = subject) {
  const id = await createImage(to.url, { disk_format, container_format })
  const answer = await upload(to.url, id, data)
  const { status, virtual_size } = await showImage(to.url, id)
  return { code: answer.status, said: answer.body.toString(), status, virtual_size }
}

const taken = (virtual_size: number | null) => ({ code: 204, said: '', status: 'active', virtual_size })

function refused(code: number, text: string) {
  return { code, said: expect.stringContaining(text) as unknown as string, status: 'queued', virtual_size: null }
}

/** A qcow2 header of version 3 in a file of 256 KiB, with fields to be bent. */
function qcow2Header(bend: (header: Buffer) => void = () => {}): Buffer {
  const header = Buffer.alloc(256 * 1024)
  header.write('QFI\xfb', 'latin1')
  header.writeUInt32BE(3, 4)
  header.writeUInt32BE(16, 20)
  header.writeBigUInt64BE(BigInt(MiB), 24)
  header.writeUInt32BE(1, 36)
  header.writeBigUInt64BE(196608n, 40)
  header.writeBigUInt64BE(65536n, 48)
  header.writeUInt32BE(1, 56)
  header.writeUInt32BE(4, 96)
  header.writeUInt32BE(112, 100)
  bend(header)
  return header
}

/** A boot sector with one partition. */
function bootSector(into: Buffer = Buffer.alloc(4096)): Buffer {
  into.set([0x80, 0, 2, 0, 0x83, 0, 3, 0, 1, 0, 0, 0, 7, 0, 0, 0], 446)
  into.writeUInt16BE(0x55aa, 510)
  return into
}

function iso(sectors = 20): Buffer {
  const data = Buffer.alloc(sectors * 2048)
  data[16 * 2048] = 1
  data.write('CD001\x01', 16 * 2048 + 1, 'latin1')
  data.writeUInt32LE(sectors, 16 * 2048 + 80)
  data.writeUInt16LE(2048, 16 * 2048 + 128)
  return data
}

function vmdk(descriptor: string, bend: (header: Buffer) => void = () => {}): Buffer {
  const data = Buffer.alloc(MiB)
  data.write('KDMV', 'latin1')
  data.writeUInt32LE(1, 4)
  data.writeBigUInt64LE(4096n, 12)
  data.writeBigUInt64LE(128n, 20)
  data.writeBigUInt64LE(1n, 28)
  data.writeBigUInt64LE(20n, 36)
  data.writeUInt32LE(512, 44)
  data.writeBigUInt64LE(21n, 56)
  data.write(descriptor, 512)
  bend(data)
  return data
}

const descriptor = (type: string, extents: string, more = '') =>
  `# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="${type}"\n${more}\n# Extent description\n${extents}\n\nddb.adapterType = "ide"\n`
const extent = 'RW 4096 SPARSE "disk.vmdk"'

describeWith(['qemu-img'], 'images made by qemu-img', () => {
  async function make(format: string, ...options: string[]): Promise<Buffer> {
    const path = folder.fresh(`.${format}`)
    await qemuImg('create', '-q', '-f', format, ...options, path, '5M')
    return readFileSync(path)
  }

  it.each([
    ['qcow2', 'qcow2', []],
    ['qcow2', 'qcow2', ['-o', 'compat=0.10']],
    ['qcow2', 'qcow2', ['-o', 'extended_l2=on,cluster_size=128k']],
    ['qcow2', 'qcow2', ['-o', 'preallocation=metadata,lazy_refcounts=on']],
    ['vdi', 'vdi', []],
    ['vhdx', 'vhdx', []],
    ['vmdk', 'vmdk', []],
    ['vmdk', 'vmdk', ['-o', 'subformat=streamOptimized']],
  ])('%s as %s, options %s', async (format, declared, options) => {
    expect(await offer(await make(format, ...options), declared)).toEqual(taken(5 * MiB))
  })

  it.each([
    ['dynamic', []],
    ['fixed', ['-o', 'subformat=fixed']],
  ])('a %s VHD, with the size in its footer', async (_kind, options) => {
    const data = await make('vpc', ...options)
    const size = Number(data.subarray(-512).readBigUInt64BE(48))
    expect(await offer(data, 'vhd')).toEqual(taken(size))
    // The footer of a fixed VHD is not waited for when the beginning is enough to refuse.
    const found = options.length === 0 ? 'vhd' : 'raw'
    expect(await offer(data, 'qcow2')).toEqual(refused(415, `is ${found}, but disk_format says qcow2`))
  })

  it('each declared as another', async () => {
    expect(await offer(await make('qcow2'), 'vmdk')).toEqual(refused(415, 'is qcow2, but disk_format says vmdk'))
    expect(await offer(await make('vdi'), 'qcow2')).toEqual(refused(415, 'is vdi, but disk_format says qcow2'))
    expect(await offer(await make('vhdx'), 'iso')).toEqual(refused(415, 'is vhdx, but disk_format says iso'))
    expect(await offer(await make('raw'), 'qcow2')).toEqual(refused(415, 'is raw, but disk_format says qcow2'))
    expect(await offer(await make('qcow2'), 'aki')).toEqual(refused(415, 'is qcow2, but disk_format says aki'))
  })

  it('with a backing file', async () => {
    const base = folder.fresh('.qcow2')
    await qemuImg('create', '-q', '-f', 'qcow2', base, '5M')
    for (const version of ['0.10', '1.1']) {
      const data = await make('qcow2', '-b', base, '-F', 'qcow2', '-o', `compat=${version}`)
      expect(await offer(data, 'qcow2')).toEqual(refused(400, 'it names a backing file'))
      // Declared raw, nobody should open it as qcow2; but somebody might.
      expect(await offer(data, 'raw')).toEqual(refused(400, 'it names a backing file'))
    }
  })

  it('with a data file', async () => {
    const data = await make('qcow2', '-o', `data_file=${folder.fresh('.raw')},data_file_raw=on`)
    expect(await offer(data, 'qcow2')).toEqual(refused(400, 'it names an external data file'))
  })

  it('as a flat VMDK, whose descriptor names a file', async () => {
    expect(await offer(await make('vmdk', '-o', 'subformat=monolithicFlat'), 'vmdk')).toEqual(
      refused(400, 'it is a descriptor that names other files'),
    )
  })

  it('as QED', async () => {
    expect(await offer(await make('qed'), 'raw')).toEqual(refused(400, 'QED is not taken'))
  })

  it('encrypted', async () => {
    const path = folder.fresh('.qcow2')
    const made = await run('qemu-img', [
      ...['create', '-q', '-f', 'qcow2', '--object', 'secret,id=s,data=abc'],
      ...['-o', 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10', path, '5M'],
    ])
    expect([made.code, made.stderr]).toEqual([0, ''])
    expect(await offer(readFileSync(path), 'qcow2')).toEqual(taken(5 * MiB))
  })

  it('handed out unchanged', async () => {
    const data = await make('qcow2', '-o', 'preallocation=metadata')
    const id = await createImage(subject.url, { disk_format: 'qcow2' })
    await upload(subject.url, id, data)
    const answer = await ask(`${subject.url}/v2/images/${id}/file`)
    writeFileSync(folder.file('back.qcow2'), answer.body)
    expect(answer.body.equals(data)).toBe(true)
    await qemuImg('check', '-q', folder.file('back.qcow2'))
  })
})

describeWith(['qemu-img', 'qemu-io'], 'qcow2 that is cut', () => {
  /** Data at the beginning, in the middle and at the end of 96 MiB. */
  async function make(...options: string[]): Promise<Buffer> {
    const raw = folder.fresh('.raw')
    writeFileSync(raw, '')
    truncateSync(raw, 96 * MiB)
    const pieces = [0, 50 * MiB, 95 * MiB].flatMap((at) => ['-c', `write -q -P 5 ${at} 1M`])
    const filled = await run('qemu-io', ['-f', 'raw', ...pieces, '-c', `write -q -s ${noise()} 1M 1M`, raw])
    expect([filled.code, filled.stdout]).toEqual([0, ''])
    const path = folder.fresh('.qcow2')
    await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', ...options, raw, path)
    return readFileSync(path)
  }

  /** What does not compress. */
  function noise(): string {
    const path = folder.file('noise')
    writeFileSync(path, randomBytes(MiB))
    return path
  }

  it.each([
    ['', []],
    ['version 2', ['-o', 'compat=0.10']],
    ['small clusters', ['-o', 'cluster_size=512']],
    ['large clusters', ['-o', 'cluster_size=2M']],
    ['extended L2', ['-o', 'extended_l2=on']],
    ['compressed', ['-c']],
    ['compressed with zstd', ['-c', '-o', 'compression_type=zstd,cluster_size=4k']],
    ['metadata in place', ['-o', 'preallocation=metadata']],
  ])('is refused: %s', async (_what, options) => {
    const whole = await make(...options)
    expect(await offer(whole, 'qcow2')).toEqual(taken(96 * MiB))
    for (const part of [0.3, 0.6]) {
      const cut = whole.subarray(0, Math.floor(whole.length * part))
      expect(await offer(cut, 'qcow2')).toEqual(refused(400, 'the image data is a broken qcow2: '))
    }
    // Within its last cluster a file may end anywhere.
    expect((await offer(whole.subarray(0, whole.length - 200), 'qcow2')).code).toBe(204)
  })

  it('says where', async () => {
    const whole = await make()
    const found = await offer(whole.subarray(0, whole.length - 3 * 65536), 'qcow2')
    expect(found).toEqual(refused(400, `and it ends at ${whole.length - 3 * 65536}`))
    expect(found.said).toContain('the file is cut: a cluster should be at byte')
  })

  it('as it grew, with snapshots and holes, is whole', async () => {
    const path = folder.fresh('.qcow2')
    await qemuImg('create', '-q', '-f', 'qcow2', path, '1T')
    for (const at of ['0', '500G', '1023G']) {
      const wrote = await run('qemu-io', ['-f', 'qcow2', '-c', `write -q ${at} 1M`, path])
      expect(wrote.code).toBe(0)
      await qemuImg('snapshot', '-c', at, path)
    }
    expect(await offer(readFileSync(path), 'qcow2')).toEqual(taken(1024 ** 4))
  })

  it('is not looked for forever in tables that name each other', async () => {
    const image = qcow2Header((header) => {
      // A disk of 16 TiB: 4 MiB of entries for 2^19 tables, which are all one.
      header.writeBigUInt64BE(2n ** 48n, 24)
      header.writeUInt32BE(2 ** 19, 36)
    })
    const table = Buffer.alloc(2 ** 19 * 8)
    for (let at = 0; at < table.length; at += 8) table.writeBigUInt64BE(131072n, at)
    const before = performance.now()
    const data = Buffer.concat([image.subarray(0, 196608), table])
    expect(await offer(data, 'qcow2')).toEqual(refused(400, 'names the same L2 tables again and again'))
    expect(performance.now() - before).toBeLessThan(20_000)
  })
})

describe('hostile headers', () => {
  it.each([
    ['a version nobody knows', (header: Buffer) => header.writeUInt32BE(9, 4), 'qcow2 version 9 is not known'],
    ['version 1', (header: Buffer) => header.writeUInt32BE(1, 4), 'qcow2 version 1 is not known'],
    ['an unknown feature', (header: Buffer) => header.writeBigUInt64BE(1n << 5n, 72), 'unknown incompatible features'],
    ['a backing file', (header: Buffer) => header.writeBigUInt64BE(512n, 8), 'names a backing file'],
    ['a table between clusters', (header: Buffer) => header.writeBigUInt64BE(196609n, 40), 'broken qcow2'],
    ['a giant table', (header: Buffer) => header.writeUInt32BE(0x7fffffff, 36), 'broken qcow2'],
    ['a giant size', (header: Buffer) => header.writeBigUInt64BE(1n << 62n, 24), 'broken qcow2'],
    ['impossible clusters', (header: Buffer) => header.writeUInt32BE(40, 20), 'broken qcow2'],
  ])('qcow2 with %s', async (_what, bend, said) => {
    expect(await offer(qcow2Header(bend), 'qcow2')).toEqual(refused(400, said))
  })

  it('qcow2 that ends in its header', async () => {
    expect(await offer(qcow2Header().subarray(0, 90), 'qcow2')).toEqual(refused(400, 'the header is cut'))
  })

  it('two formats at once', async () => {
    expect(await offer(bootSector(qcow2Header()), 'qcow2')).toEqual(refused(400, 'has a partition table too'))
    const both = iso()
    qcow2Header().copy(both, 0, 0, 512)
    for (const declared of ['iso', 'qcow2', 'raw']) {
      expect(await offer(both, declared)).toEqual(refused(400, 'several formats at once: qcow2, iso'))
    }
  })

  it.each([
    ['a flat subformat', descriptor('monolithicFlat', 'RW 4096 FLAT "/etc/passwd" 0'), 'subformat "monolithicflat"'],
    ['a name in another folder', descriptor('monolithicSparse', 'RW 1 SPARSE "../x.vmdk"'), 'in another folder'],
    ['no extent', descriptor('monolithicSparse', ''), 'has no extent'],
    ['no descriptor', '', 'there is no descriptor'],
    ['two types', descriptor('monolithicSparse', extent, 'createType="vmfs"'), 'does not say what it is'],
    ['a parent', descriptor('monolithicSparse', extent, 'parentFileNameHint="base.vmdk"'), 'names a parent'],
    ['a line of its own kind', descriptor('monolithicSparse', extent, 'open /etc/passwd'), 'no known kind'],
    ['letters that are none', descriptor('monolithicSparse', extent, 'x="é"'), 'not plain text'],
  ])('VMDK with %s', async (_what, text, said) => {
    expect(await offer(vmdk(text), 'vmdk')).toEqual(refused(400, said))
  })

  it('VMDK that is sound', async () => {
    expect(await offer(vmdk(descriptor('monolithicSparse', extent)), 'vmdk')).toEqual(taken(2 * MiB))
  })

  it('VMDK with a header of another shape', async () => {
    const text = descriptor('monolithicSparse', extent)
    const offered = (bend: (header: Buffer) => void) => offer(vmdk(text, bend), 'vmdk')
    expect(await offered((data) => data.writeUInt32LE(4, 4))).toEqual(refused(400, 'version 4 is not known'))
    expect(await offered((data) => data.writeBigUInt64LE(2n, 28))).toEqual(refused(400, 'not in sector 1'))
    expect(await offered((data) => data.writeBigUInt64LE(0xffff_ffff_ffff_ffffn, 56))).toEqual(
      refused(400, 'header and footer do not agree'),
    )
  })

  it('differencing disks', async () => {
    const vhd = Buffer.alloc(4096)
    vhd.write('conectix')
    vhd.writeUInt32BE(4, 60)
    expect(await offer(vhd, 'vhd')).toEqual(refused(400, 'it is a differencing disk'))
    const vdi = Buffer.alloc(4096)
    vdi.writeUInt32LE(0xbeda107f, 64)
    vdi.writeUInt32LE(4, 0x4c)
    expect(await offer(vdi, 'vdi')).toEqual(refused(400, 'undo or differencing'))
    const vhdx = Buffer.alloc(512 * 1024)
    vhdx.write('vhdxfile')
    expect(await offer(vhdx, 'vhdx')).toEqual(refused(400, 'metadata cannot be found'))
  })
})

describe('the rest', () => {
  it('raw may hold anything that is safe; its virtual size is its length', async () => {
    expect(await offer(bootSector(), 'raw')).toEqual(taken(4096))
    expect(await offer(iso(), 'raw')).toEqual(taken(20 * 2048))
    expect(await offer(Buffer.from('LUKS\xba\xbe\0\x02 and more', 'latin1'), 'raw')).toEqual(taken(17))
    expect(await offer(Buffer.alloc(1000), 'raw')).toEqual(taken(1000))
  })

  it('ISO, hybrid ones too', async () => {
    expect(await offer(iso(), 'iso')).toEqual(taken(20 * 2048))
    expect(await offer(bootSector(iso()), 'iso')).toEqual(taken(20 * 2048))
    expect(await offer(Buffer.alloc(100_000), 'iso')).toEqual(refused(415, 'is raw, but disk_format says iso'))
  })

  it('kernels and what has no signature', async () => {
    expect(await offer(bootSector(), 'aki', 'bare')).toEqual(taken(null))
    expect(await offer(Buffer.from('anything'), 'ploop', 'bare')).toEqual(taken(null))
  })

  it('other containers are not looked into', async () => {
    expect(await offer(Buffer.from('anything'), 'qcow2', 'ovf')).toEqual(taken(null))
    expect(await offer(Buffer.from('anything'), 'raw', 'compressed')).toEqual(taken(null))
  })

  it('a mismatch is taken where the operator says so, danger never', async () => {
    const lenient = await start({ requireFormatMatch: false, requireFormatAgreement: false })
    expect(await offer(Buffer.from('anything'), 'qcow2', 'bare', lenient)).toEqual(taken(null))
    const backed = qcow2Header((header) => header.writeBigUInt64BE(512n, 8))
    expect(await offer(backed, 'vmdk', 'bare', lenient)).toEqual(refused(400, 'names a backing file'))
  })
})
