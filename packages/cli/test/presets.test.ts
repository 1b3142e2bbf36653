/** `--for`: every target's image, looked at by qemu-img and tar. */
import { execFileSync } from 'node:child_process'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { beforeAll, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, run } from '../../engine/test/support/process.ts'
import { qemuImg, qemuIo } from '../../engine/test/support/qemu.ts'
import { moraine, ourQemuImg } from './support/differential.ts'

const folder = temporaryFolder()
const source = folder.file('disk.qcow2')
const MiB = 1 << 20
/** No whole MiB, no whole cylinders. */
const size = 21 * MiB + 1536

async function made(...args: string[]): Promise<{ stderr: string }> {
  const { code, stderr } = await run(moraine, args)
  expect(code, stderr).toBe(0)
  return { stderr }
}

async function refusal(...args: string[]): Promise<string> {
  const { code, stderr } = await run(moraine, args)
  expect(code, stderr).toBe(1)
  return stderr
}

/** What is inside is the source with zeros behind it. */
async function compares(format: string, image: string): Promise<void> {
  expect(await qemuImg('compare', '-f', 'qcow2', '-F', format, source, image)).toContain('Images are identical.')
}

const targets: readonly (readonly [name: string, qemu: string, wholes: number, details: object | undefined])[] = [
  ['esxi', 'vmdk', MiB, { 'create-type': 'streamOptimized' }],
  ['workstation', 'vmdk', 512, { 'create-type': 'monolithicSparse' }],
  ['virtualbox', 'vdi', MiB, undefined],
  ['hyperv', 'vhdx', MiB, undefined],
  ['azure', 'vpc', MiB, undefined],
  ['aws', 'vmdk', MiB, { 'create-type': 'streamOptimized' }],
  ['openstack', 'qcow2', 512, { compat: '1.1' }],
  ['proxmox', 'qcow2', 512, { compat: '1.1' }],
  ['xen', 'vpc', 2 * MiB, undefined],
]

/** The markers of a streamOptimized VMDK, met on the way from its first grain to its end. */
function markersOf(bytes: Buffer): string[] {
  const names = ['end of stream', 'grain table', 'grain directory', 'footer']
  const found: string[] = []
  expect([bytes.toString('latin1', 0, 4), bytes.readBigUInt64LE(56)]).toEqual(['KDMV', 0xffff_ffff_ffff_ffffn])
  for (let at = Number(bytes.readBigUInt64LE(64)) * 512; at < bytes.length; ) {
    const [value, size, type] = [
      Number(bytes.readBigUInt64LE(at)),
      bytes.readUInt32LE(at + 8),
      bytes.readUInt32LE(at + 12),
    ]
    if (size > 0) {
      at += Math.ceil((12 + size) / 512) * 512
      continue
    }
    found.push(names[type] ?? `${type}`)
    at += 512 * (1 + value)
  }
  return found
}

/** A VMDK as text, without the number that it was given by chance. */
function withoutId(bytes: Buffer): string {
  return bytes.toString('latin1').replace(/^CID=\w{8}$/m, '')
}

describeWith(['qemu-img', 'tar', 'gzip'], 'presets', () => {
  beforeAll(async () => {
    await qemuImg('create', '-q', '-f', 'qcow2', source, String(size))
    await qemuIo(source, 'qcow2', 'write -P 17 64k 1M', 'write -P 34 20M 1M', `write -P 51 ${21 * MiB} 1536`)
  })

  it.each(targets)('convert --for %s', async (name, qemu, wholes, details) => {
    const image = folder.fresh()
    const { stderr } = await made('convert', '--for', name, source, image)
    const rounded = Math.ceil(size / wholes) * wholes
    const info = JSON.parse(await qemuImg('info', '-f', qemu, '--output=json', image))
    expect(info['virtual-size']).toBe(rounded)
    if (details !== undefined) expect(info['format-specific'].data).toMatchObject(details)
    await compares(qemu, image)
    expect(stderr).toMatch(new RegExp(`^moraine: ${name}: format `, 'm'))
    if (rounded !== size) expect(stderr).toContain(`from ${size} to ${rounded} bytes`)
    else expect(stderr).not.toContain('rounded')
  })

  it.each([
    ['esxi', ['--for', 'esxi']],
    ['aws', ['--for', 'aws', '-W']],
    ['itself', ['-O', 'vmdk', '-o', 'subformat=streamOptimized']],
  ])('for %s a streamOptimized VMDK in the order of importers, over a longer file too', async (_name, args) => {
    const image = folder.fresh('.vmdk')
    writeFileSync(image, Buffer.alloc(8 * MiB, 1))
    await made('convert', '-q', ...args, source, image)
    expect(await qemuImg('info', image)).toContain('create type: streamOptimized')
    await compares('vmdk', image)
    const bytes = readFileSync(image)
    expect(markersOf(bytes)).toEqual(['grain table', 'grain directory', 'footer', 'end of stream'])
    expect(bytes.subarray(512, 20 * 512).toString('latin1')).toContain('ddb.adapterType = "lsilogic"')
    const piped = folder.fresh()
    execFileSync('sh', [
      '-c',
      'out=$1; shift; "$@" > "$out"',
      'sh',
      piped,
      moraine,
      'convert',
      '-q',
      ...args,
      source,
      '-',
    ])
    expect(withoutId(readFileSync(piped))).toBe(withoutId(bytes))
  })

  it('created empty for aws it has that order, too', async () => {
    const image = folder.fresh('.vmdk')
    const { stderr } = await made('create', '--for', 'aws', image, '5M')
    expect(stderr).toContain('nothing can be written into it')
    expect(JSON.parse(await qemuImg('info', '--output=json', image))['virtual-size']).toBe(5 * MiB)
    expect(markersOf(readFileSync(image))).toEqual(['grain directory', 'footer', 'end of stream'])
    // A plain creation is for writing into.
    const plain = folder.fresh('.vmdk')
    await made('create', '-q', '-f', 'vmdk', '-o', 'subformat=streamOptimized', plain, String(size))
    await made('convert', '-n', '-O', 'vmdk', source, plain)
    await compares('vmdk', plain)
  })

  it('under the name qemu-img it has the layout of QEMU', async () => {
    const image = folder.fresh('.vmdk')
    const args = ['convert', '-O', 'vmdk', '-o', 'subformat=streamOptimized', source, image]
    expect((await run(ourQemuImg, args)).code).toBe(0)
    // The directory stands where the header says, in front.
    expect(readFileSync(image).readBigUInt64LE(56)).toBeLessThan(0x1000n)
    await compares('vmdk', image)
  })

  it('for Azure and Xen the footer says the size as it is, and the kind', async () => {
    for (const [name, kind, wholes] of [
      ['azure', 2, MiB],
      ['xen', 3, 2 * MiB],
    ] as const) {
      const image = folder.fresh()
      await made('convert', '-q', '--for', name, source, image)
      const bytes = readFileSync(image)
      const footer = bytes.subarray(-512)
      expect(footer.toString('latin1', 0, 8)).toBe('conectix')
      expect(Number(footer.readBigUInt64BE(48))).toBe(Math.ceil(size / wholes) * wholes)
      expect(footer.readUInt32BE(60)).toBe(kind)
      if (name === 'azure') expect(bytes.length).toBe(22 * MiB + 512)
      else expect(bytes.readUInt32BE(512 + 32)).toBe(2 * MiB)
    }
  })

  it('for Google a sparse disk.raw of whole GiB in an archive that tar reads', async () => {
    const archive = folder.fresh('.tar.gz')
    const { stderr } = await made('convert', '--for', 'gcp', source, archive)
    expect(stderr).toContain('packed as disk.raw in a .tar.gz')
    expect(stderr).toContain(`from ${size} to ${1 << 30} bytes`)
    execFileSync('gzip', ['-t', archive])
    const list = execFileSync('tar', ['--numeric-owner', '-tvzf', archive], { encoding: 'utf8' })
    expect(list).toMatch(/^-rw-r--r-- 0\/0\s+1073741824 .* disk\.raw\n$/)
    const home = folder.fresh()
    execFileSync('mkdir', [home])
    execFileSync('tar', ['-xzf', archive, '-C', home])
    const stats = statSync(`${home}/disk.raw`)
    expect(stats.size).toBe(1 << 30)
    expect(stats.blocks * 512).toBeLessThan(8 * MiB)
    await compares('raw', `${home}/disk.raw`)
    // Through a pipe it is the same.
    const piped = folder.fresh()
    execFileSync('sh', ['-c', '"$1" convert -q --for gcp "$2" - > "$3"', 'sh', moraine, source, piped])
    expect(readFileSync(piped).equals(readFileSync(archive))).toBe(true)
  })

  it('for Google many holes, and none', async () => {
    const holes = folder.fresh('.raw')
    await qemuImg('create', '-q', '-f', 'raw', holes, '64M')
    await qemuIo(holes, 'raw', ...Array.from({ length: 60 }, (_, index) => `write -P ${index + 1} ${index}M 4k`))
    const archive = folder.fresh('.tar.gz')
    await made('convert', '-q', '--for', 'gcp', holes, archive)
    const home = folder.fresh()
    execFileSync('mkdir', [home])
    execFileSync('tar', ['-xzf', archive, '-C', home])
    expect(await qemuImg('compare', '-f', 'raw', '-F', 'raw', holes, `${home}/disk.raw`)).toContain('identical')
  })

  it.each([
    ['esxi', 'vmdk', 'vmfs'],
    ['workstation', 'vmdk', 'monolithicSparse'],
  ])('create --for %s', async (name, format, type) => {
    const image = folder.fresh('.vmdk')
    await made('create', '--for', name, image, '10M')
    const info = JSON.parse(await qemuImg('info', '-f', format, '--output=json', image))
    expect(info['format-specific'].data['create-type']).toBe(type)
    expect(info['virtual-size']).toBe(10 * MiB)
  })

  it('create rounds, too', async () => {
    const image = folder.fresh('.vhd')
    const { stderr } = await made('create', '--for', 'azure', image, '10000000')
    expect(stderr).toContain('from 10000000 to 10485760 bytes')
    expect(statSync(image).size).toBe(10 * MiB + 512)
  })

  it('takes further options, and refuses those that contradict', async () => {
    const image = folder.fresh()
    await made('convert', '--for', 'openstack', '-c', '-o', 'compression_type=zstd,compat=1.1', source, image)
    expect(await qemuImg('info', image)).toContain('compression type: zstd')
    await made('convert', '--for', 'azure', '-O', 'vpc', '-o', 'force_size=yes', source, folder.fresh())
    expect(await refusal('convert', '--for', 'azure', '-O', 'qcow2', source, image)).toContain(
      "format 'qcow2' contradicts the preset 'azure'",
    )
    expect(await refusal('convert', '--for', 'azure', '-o', 'subformat=dynamic', source, image)).toContain(
      "option 'subformat=dynamic' contradicts the preset 'azure'",
    )
    expect(await refusal('convert', '--for', 'gcp', '--wrap', 'xz', source, image)).toContain(
      '--wrap contradicts --for',
    )
    expect(await refusal('create', '--for', 'gcp', image, '1G')).toContain('is only made by converting')
    expect(await refusal('convert', '-n', '--for', 'azure', source, image)).toContain('--for has no effect')
    expect(await refusal('convert', '--for', 'mars', source, image)).toContain("Unknown preset 'mars'")
  })

  it('lists them; for qemu-img --for is short for --force-share', async () => {
    const { stdout } = await run(moraine, ['convert', '--for', 'help'])
    for (const [name] of targets) expect(stdout).toMatch(new RegExp(`^  ${name} `, 'm'))
    expect(stdout).toMatch(/^ {2}gcp /m)
    writeFileSync(folder.file('a.raw'), 'x')
    expect(
      (await run(ourQemuImg, ['convert', '--for', 'azure', folder.file('a.raw'), folder.fresh()])).stderr,
    ).toContain("Could not open 'azure'")
  })
})

describeWith(['qemu-img', 'vmdkinfo'], 'presets beside libvmdk', () => {
  it('what is made for ESXi has extents and sizes as libvmdk reads them', async () => {
    const [raw, image] = [folder.file('plain.raw'), folder.fresh('.vmdk')]
    writeFileSync(raw, Buffer.alloc(3 * MiB, 'what a disk holds '))
    await made('convert', '-q', '--for', 'esxi', raw, image)
    const { code, stdout, stderr } = await run('vmdkinfo', [image])
    expect(code, stderr).toBe(0)
    expect(stdout).toMatch(/Disk type:\s+Stream optimized/i)
    expect(stdout).toContain('3145728 bytes')
  })
})
