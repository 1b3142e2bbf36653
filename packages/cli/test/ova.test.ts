/** `ova`: what it makes is read by tar, sha256sum, openssl, xmllint, qemu-img and virt-v2v; what it reads was made by them, or damaged. */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import { makeCertificate } from '../../engine/test/support/certificate.ts'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, run } from '../../engine/test/support/process.ts'
import { qemuImg, qemuIo } from '../../engine/test/support/qemu.ts'
import { isWholeRun } from '../../engine/test/support/random.ts'
import { command, ok, other, unpackInto } from './support/appliance.ts'
import { moraine } from './support/differential.ts'

const folder = temporaryFolder()
const size = 3 << 20
const raw = folder.file('disk.raw')

const unpack = (archive: string) => unpackInto(folder.fresh('.d'), archive)

describeWith(['qemu-img', 'tar', 'sha256sum', 'openssl', 'xmllint'], 'ova', () => {
  const [key, certificate] = [folder.file('key.pem'), folder.file('cert.pem')]
  const signed = folder.file('signed.ova')

  beforeAll(async () => {
    await qemuImg('create', '-q', '-f', 'raw', raw, String(size))
    await qemuIo(raw, 'raw', 'write -P 17 64k 1M', 'write -P 34 2M 4k')
    await qemuImg('convert', '-O', 'qcow2', raw, folder.file('disk.qcow2'))
    makeCertificate(key, certificate, 'maker')
    await ok(
      ...[
        'ova',
        'create',
        '--disk',
        folder.file('disk.qcow2'),
        '--disk',
        raw,
        '--cpus',
        '2',
        '--memory',
        '2G',
        '--os',
        'ubuntu',
        '--firmware',
        'efi',
      ],
      ...[
        '--for',
        'vmware',
        '--nic',
        'LAN & WAN',
        '--nic',
        'net,model=E1000',
        '--name',
        'a <b> c',
        '--sign',
        `${key},${certificate}`,
        signed,
      ],
    )
  })

  it('makes an archive that tar, sha256sum and openssl read, and disks that qemu-img reads', async () => {
    const { path, names } = unpack(signed)
    expect(names).toEqual(['signed.ovf', 'signed.mf', 'signed.cert', 'signed-disk1.vmdk', 'signed-disk2.vmdk'])
    for (const name of ['signed-disk1.vmdk', 'signed-disk2.vmdk']) {
      expect(await qemuImg('compare', '-f', 'raw', '-F', 'vmdk', raw, join(path, name))).toContain(
        'Images are identical.',
      )
    }
    const manifest = readFileSync(join(path, 'signed.mf'), 'utf8')
    const list = manifest.replace(/^SHA256\((.*)\)= (.*)$/gm, '$2  $1')
    expect(other('sha256sum', ['-c', '-'], { cwd: path, input: list })).toBe(
      'signed.ovf: OK\nsigned-disk1.vmdk: OK\nsigned-disk2.vmdk: OK\n',
    )
    const text = readFileSync(join(path, 'signed.cert'), 'utf8')
    const [, hex = ''] = /^SHA256\(signed\.mf\)= ([0-9a-f]+)$/m.exec(text) ?? []
    writeFileSync(join(path, 'signature'), Buffer.from(hex, 'hex'))
    const publicKey = other('openssl', ['x509', '-in', join(path, 'signed.cert'), '-noout', '-pubkey'])
    writeFileSync(join(path, 'public'), publicKey)
    const verified = other(
      'openssl',
      ['dgst', '-sha256', '-verify', 'public', '-signature', 'signature', 'signed.mf'],
      { cwd: path },
    )
    expect(verified).toBe('Verified OK\n')
    expect(await command('ova', 'check', signed)).toMatch(/^0\nnote certificate: .*\nNo errors were found\.\n$/)
  })

  it('shows the machine, for people and for programs', async () => {
    const text = await ok('info', signed)
    expect(text).toContain(
      'appliance: ova, OVF 1.0\nmachine: a <b> c\n  system: Ubuntu Linux (64-bit)\n  hardware: vmx-13\n  firmware: efi\n  processors: 2\n  memory: 2 GiB\n',
    )
    expect(text).toContain(
      '  disk2: signed-disk2.vmdk, 3 MiB, scsi 0:1 (VirtualSCSI)\n  network: LAN & WAN, VmxNet3\n  network: net, E1000\n',
    )
    const [machine] = JSON.parse(await ok('info', '--output=json', signed)).machines
    expect(machine).toMatchObject({
      cpus: 2,
      memory: 2 * 2 ** 30,
      firmware: 'efi',
      nics: [{ network: 'LAN & WAN' }, { network: 'net' }],
    })
    expect(JSON.parse(await ok('ova', 'info', '--output=json', signed)).members).toHaveLength(5)
    const single = JSON.parse(await ok('info', '--output=json', `${signed}#disk1`))
    expect(single).toMatchObject({
      format: 'vmdk',
      'virtual-size': size,
      container: { format: 'ova', member: 'signed-disk1.vmdk' },
    })
    expect(single.machines).toBeUndefined()
  })

  it('makes the same package as files beside one another, and through a pipe', async () => {
    const target = folder.file('beside.ovf')
    await ok('ova', 'create', '--disk', raw, '--for', 'virtualbox', '--digest', 'sha1', target)
    expect(
      readdirSync(folder.file('.'))
        .filter((name) => name.startsWith('beside'))
        .sort(),
    ).toEqual(['beside-disk1.vmdk', 'beside.mf', 'beside.ovf'])
    expect(await ok('ova', 'check', target)).toBe('No errors were found.\n')
    expect(await ok('compare', target, raw)).toContain('Images are identical.')
    const piped = folder.file('piped.ova')
    execFileSync('sh', [
      '-c',
      '"$0" ova create --disk "$1" --sign "$2" --name piped - > "$3"',
      moraine,
      raw,
      `${key},${certificate}`,
      piped,
    ])
    expect(unpack(piped).names).toEqual(['piped.ovf', 'piped-disk1.vmdk', 'piped.mf', 'piped.cert'])
    expect(await command('ova', 'check', piped)).toMatch(/^0\n/)
    expect(await ok('compare', piped, raw)).toContain('Images are identical.')
  })

  it('signs with a key of an elliptic curve, and refuses a key that is not that of the certificate', async () => {
    const [ecKey, ecCertificate] = [folder.file('ec.pem'), folder.file('ec-cert.pem')]
    other('openssl', [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-keyout',
      ecKey,
      '-out',
      ecCertificate,
      '-subj',
      '/CN=ec',
    ])
    const target = folder.file('ec.ova')
    await ok('ova', 'create', '--disk', raw, '--sign', `${ecKey},${ecCertificate}`, target)
    expect(await command('ova', 'check', target)).toMatch(/^0\n/)
    const refused = folder.file('refused.ova')
    expect(await command('ova', 'create', '--disk', raw, '--sign', `${key},${ecCertificate}`, refused)).toContain(
      'the private key is not that of the certificate',
    )
    expect(existsSync(refused)).toBe(false)
    expect(readdirSync(folder.file('.')).filter((name) => name.includes('refused'))).toEqual([])
  })

  /** A package of which something is changed; the archive is made anew in the given order. */
  async function changed(
    change: (path: string) => void,
    order: (names: string[]) => string[] = (names) => names,
  ): Promise<string> {
    const { path, names } = unpack(signed)
    change(path)
    const archive = folder.fresh('.ova')
    execFileSync('tar', ['--format=ustar', '-C', path, '-cf', archive, ...order(names)])
    return await command('ova', 'check', archive)
  }

  const edit = (name: string, from: RegExp | string, to: string) => (path: string) => {
    const file = join(path, name)
    const text = readFileSync(file, 'latin1')
    const edited = text.replace(from, to)
    expect(edited).not.toBe(text)
    writeFileSync(file, edited, 'latin1')
  }

  const nothing = () => {}

  it.each([
    ['digest', edit('signed-disk1.vmdk', /.$/s, 'x'), undefined],
    ['digest', edit('signed.ovf', 'a &lt;b&gt; c', 'another'), undefined],
    ['signature', edit('signed.mf', /^SHA256\(signed\.ovf\)= ./m, 'SHA256(signed.ovf)= 0'), undefined],
    ['manifest', edit('signed.mf', /^SHA256/m, 'MD5'), undefined],
    ['manifest-complete', edit('signed.mf', /^SHA256\(signed-disk2.*\n/m, ''), undefined],
    ['missing-file', edit('signed.mf', 'signed-disk2', 'signed-disk3'), undefined],
    ['certificate', edit('signed.cert', /MII/, 'XXX'), undefined],
    ['size', edit('signed-disk1.vmdk', /$/, 'more'), undefined],
    ['image', edit('signed-disk1.vmdk', /^KDMV/, 'KDMX'), undefined],
    ['capacity', edit('signed.ovf', `ovf:capacity="${size}"`, 'ovf:capacity="1048576"'), undefined],
    ['descriptor-first', nothing, (names: string[]) => [...names.slice(1), names[0] ?? '']],
    [
      'manifest-place',
      nothing,
      (names: string[]) => [names[0] ?? '', names[3] ?? '', names[1] ?? '', names[2] ?? '', names[4] ?? ''],
    ],
    ['file-order', nothing, (names: string[]) => [...names.slice(0, 3), names[4] ?? '', names[3] ?? '']],
    ['missing-file', nothing, (names: string[]) => names.slice(0, 4)],
  ] as const)('finds a fault: %s', async (rule, change, order) => {
    expect(await changed(change, order)).toMatch(new RegExp(`^2\\n(?:.*\\n)*error ${rule}: `))
  })

  it.each([
    ['as OpenSSL 3 has it', (text: string) => text.replace(/^SHA256\(/gm, 'SHA2-256(')],
    ['with blanks', (text: string) => text.replace(/\)= /gm, ') = ').replace(/\(/g, ' (')],
    [
      'in capitals, with carriage returns',
      (text: string) => text.replace(/= .*$/gm, (hex) => `${hex.toUpperCase()}\r`),
    ],
    ['as sha256sum has it', (text: string) => text.replace(/^SHA256\((.*)\)= (.*)$/gm, '$2  $1')],
  ])('reads a manifest %s, and says that it is odd', async (_how, respell) => {
    const output = await changed(
      (path) => {
        const file = join(path, 'signed.mf')
        writeFileSync(file, respell(readFileSync(file, 'utf8')))
        execFileSync('rm', [join(path, 'signed.cert')])
      },
      (names) => names.filter((name) => !name.endsWith('.cert')),
    )
    expect(output).toMatch(/^3\nwarning manifest-spelling: .*\n0 errors and 1 warning were found\.\n$/)
  })

  it('finds links, folders and names that lead out', async () => {
    const { path, names } = unpack(signed)
    execFileSync('ln', ['-s', '/etc/passwd', join(path, 'link')])
    execFileSync('mkdir', [join(path, 'folder')])
    const archive = folder.fresh('.ova')
    execFileSync('tar', ['-C', path, '-cPf', archive, ...names, 'link', 'folder', `../${basename(path)}/signed.ovf`])
    const output = await command('ova', 'check', archive)
    expect(output).toMatch(/^error member-type: the member 'link' is a symlink to '\/etc\/passwd'$/m)
    expect(output).toMatch(/^error member-type: the folder/m)
    expect(output).toMatch(/^error member-name: the member '\.\.\/.*leads out of the package$/m)
  })

  it.each([
    [['--disk', 'none.raw'], /Could not open '.*none\.raw'/],
    [['--disk', raw, '--cpus', '0'], /Invalid number of processors '0'/],
    [['--disk', raw, '--memory', '1000'], /Invalid memory '1000'/],
    [['--disk', raw, '--os', 'beos'], /Unknown system 'beos': known are linux/],
    [['--disk', raw, '--for', 'nobody'], /Unknown target 'nobody': known are vmware/],
    [['--disk', raw, '--nic', ',model=x'], /Invalid network adapter/],
    [['--disk', raw, '--name', 'a\u0001'], /a character that XML cannot have/],
    [['--disk', raw, '--secure-boot'], /--secure-boot needs --firmware efi/],
    [[], /At least one --disk is needed/],
  ])('create %j is refused and leaves nothing', async (args, said) => {
    const target = folder.fresh('.ova')
    expect(await command('ova', 'create', ...args, target)).toMatch(said)
    expect(existsSync(target)).toBe(false)
  })

  it('gives the same archive for the same disk, save for what VMDK draws by chance', async () => {
    const [first, second] = [folder.file('same.ova'), folder.file('again/same.ova')]
    execFileSync('mkdir', [folder.file('again')])
    await ok('ova', 'create', '--disk', raw, first)
    await ok('ova', 'create', '--disk', raw, second)
    expect(statSync(first).size).toBe(statSync(second).size)
    expect(readFileSync(first).subarray(0, 4096).equals(readFileSync(second).subarray(0, 4096))).toBe(true)
  })

  it('changes the machine and nothing else, and brings the manifest up to date', async () => {
    const target = folder.file('changed.ova')
    const changes = [
      '--cpus',
      '4',
      '--memory',
      '8G',
      '--firmware',
      'bios',
      '--name',
      'new & name',
      '--network',
      'net=other',
      '--add-nic',
      'DMZ',
      '--remove-nic',
      '1',
    ]
    const { code, stderr } = await run(moraine, ['ova', 'set', ...changes, signed, target])
    expect([code, stderr]).toEqual([0, 'moraine: note: the signature was of the old manifest and is gone\n'])
    expect(await command('ova', 'check', target)).toBe('0\nNo errors were found.\n')
    const [machine] = JSON.parse(await ok('ova', 'info', '--output=json', target)).machines
    expect(machine).toMatchObject({
      name: 'new & name',
      cpus: 4,
      memory: 8 * 2 ** 30,
      firmware: 'bios',
      nics: [{ network: 'other', model: 'E1000' }, { network: 'DMZ' }],
    })
    const { path } = unpack(target)
    other('xmllint', ['--noout', '--nonet', join(path, 'signed.ovf')])
    // In place, signed again; what was set before stays.
    await ok('ova', 'set', '--cpus', '1', '--sign', `${key},${certificate}`, target)
    expect(await command('ova', 'check', target)).toMatch(/^0\nnote certificate: /)
    expect(JSON.parse(await ok('ova', 'info', '--output=json', target)).machines[0]).toMatchObject({
      cpus: 1,
      memory: 8 * 2 ** 30,
    })
    expect(await ok('compare', `${target}#disk2`, raw)).toContain('Images are identical.')
    expect(readdirSync(folder.file('.')).filter((name) => name.startsWith('.moraine'))).toEqual([])
  })

  it('changes a package whose files lie beside one another', async () => {
    const target = folder.file('lies.ovf')
    await ok('ova', 'create', '--disk', raw, '--sign', `${key},${certificate}`, target)
    await ok('ova', 'set', '--cpus', '3', target)
    expect(existsSync(folder.file('lies.cert'))).toBe(false)
    expect(await command('ova', 'check', target)).toBe('0\nNo errors were found.\n')
    expect(await ok('info', target)).toContain('processors: 3\n')
  })

  it.each([
    [[], /nothing would change/],
    [['--machine', 'nobody', '--cpus', '2'], /there is no machine 'nobody'[\s\S]*It has 'a_<b>_c'/],
    [['--network', 'nobody=x'], /there is no network 'nobody'[\s\S]*It has 'LAN & WAN', 'net'/],
    [['--remove-nic', '3'], /there is no network adapter 3/],
    [['--name', 'a\u0001'], /a character that XML cannot have/],
  ])('set %j is refused and changes nothing', async (args, said) => {
    const before = readFileSync(signed)
    expect(await command('ova', 'set', ...args, signed)).toMatch(said)
    expect(readFileSync(signed).equals(before)).toBe(true)
  })

  it('does not pass on a file that is not what the manifest says', async () => {
    const damaged = folder.file('damaged.ova')
    const bytes = readFileSync(signed)
    bytes.fill(7, bytes.length - 20_000, bytes.length - 19_000)
    writeFileSync(damaged, bytes)
    const target = folder.file('never.ova')
    expect(await command('ova', 'set', '--cpus', '2', damaged, target)).toMatch(/^1\n.*is not what the manifest says/)
    expect(existsSync(target)).toBe(false)
    const to = folder.file('never')
    expect(await command('ova', 'extract', damaged, '--to', to)).toMatch(
      /^1\n.*'signed-disk2\.vmdk' is not what the manifest says/,
    )
    expect(readdirSync(to)).not.toContain('signed-disk2.vmdk')
  })

  it('extracts into a folder and nowhere else', async () => {
    const to = folder.file('taken')
    expect(await ok('ova', 'extract', signed, 'disk1', 'signed.ovf', '--to', to)).toBe(
      'extracted: signed-disk1.vmdk\nextracted: signed.ovf\n',
    )
    expect(await qemuImg('compare', raw, join(to, 'signed-disk1.vmdk'))).toContain('Images are identical.')
    expect(await command('ova', 'extract', signed, '--to', to)).toMatch(/^1\n.*it is there already/)
    const outside = folder.file('outside')
    execFileSync('ln', ['-sf', outside, join(to, 'signed.mf')])
    await ok('ova', 'extract', signed, '--force', '--to', to)
    expect(existsSync(outside)).toBe(false)
    const { path } = unpack(signed)
    const archive = folder.fresh('.ova')
    execFileSync('tar', [
      '-C',
      path,
      '--transform',
      's,signed-disk1,../../out,',
      '-cPf',
      archive,
      'signed.ovf',
      'signed-disk1.vmdk',
    ])
    expect(await command('ova', 'extract', archive, '--to', to)).toMatch(
      /^1\n.*leads out of the package.*\.\.\/\.\.\/out\.vmdk/,
    )
  })

  it('has no heading over options that there are none of', async () => {
    expect(await ok('ova', '--help')).not.toContain('Options of all of them')
    expect(await ok('image', '--help')).toContain('Options of all of them:\n')
  })

  it('tells what a package that is not whole lacks, and takes the rest', async () => {
    const { path } = unpack(signed)
    const archive = folder.fresh('.ova')
    execFileSync('ln', ['-sf', '/etc/passwd', join(path, 'signed-disk1.vmdk')])
    truncateSync(join(path, 'signed-disk2.vmdk'), 1000)
    const names = ['signed.ovf', 'signed-disk1.vmdk', 'signed-disk2.vmdk']
    execFileSync('tar', ['-C', path, '-cf', archive, ...names])
    const to = folder.file('rest')
    const said = await command('ova', 'extract', archive, '--to', to)
    expect(said).toMatch(/^1\nextracted: signed\.ovf\nextracted: signed-disk2\.vmdk\n/)
    expect(said).toMatch(/'signed-disk1\.vmdk' was not extracted: it is no plain file\n/)
    expect(said).toMatch(/'signed-disk2\.vmdk' is not as large as the descriptor says/)
    expect(readdirSync(to).sort()).toEqual(['signed-disk2.vmdk', 'signed.ovf'])
    execFileSync('tar', ['-C', path, '-cf', archive, 'signed.ovf'])
    expect(await command('ova', 'extract', archive, '--to', folder.file('less'))).toMatch(
      /^1\nextracted: signed\.ovf\n.*the package has no file 'signed-disk1\.vmdk'/,
    )
    // What is asked for by name is all that is looked at.
    await ok('ova', 'extract', archive, 'signed.ovf', '--to', folder.file('one'))
  })

  it('writes descriptors that xmllint finds well-formed', () => {
    const { path } = unpack(signed)
    other('xmllint', ['--noout', '--nonet', join(path, 'signed.ovf')])
  })

  // It brings 83 packages, a kernel's worth of them, so CI does not install it.
  const virtV2v = '/usr/bin/virt-v2v'
  // Too large for CI, and for whoever runs a part of the tests.
  const absent = !isWholeRun
    ? ' [skipped: only with MORAINE_BUDGET of 1 or more]'
    : existsSync(virtV2v)
      ? ''
      : ' [skipped: virt-v2v not installed]'
  it.skipIf(absent !== '')(`virt-v2v finds the machine${absent}`, async () => {
    const said = execFileSync(virtV2v, ['-i', 'ova', signed, '-o', 'null', '--print-source'], {
      encoding: 'utf8',
      env: { ...process.env, LIBGUESTFS_BACKEND: 'direct' },
    })
    expect(said).toMatch(
      /source name: a <b> c\n[\s\S]*memory: 2147483648 \(bytes\)\n +nr vCPUs: 2\n[\s\S]*firmware: uefi\n/,
    )
    expect(said).toMatch(
      /disks:\n\s*0 \[scsi\]\n\s*1 \[scsi\]\n[\s\S]*NICs:\n\s*Bridge "LAN & WAN" \[vmxnet3\]\n\s*Bridge "net" \[e1000\]/,
    )
    for (const target of ['virtualbox', 'generic']) {
      const archive = folder.file(`${target}.ova`)
      await ok('ova', 'create', '--disk', raw, '--for', target, archive)
      const found = execFileSync(virtV2v, ['-i', 'ova', archive, '-o', 'null', '--print-source'], {
        encoding: 'utf8',
        env: { ...process.env, LIBGUESTFS_BACKEND: 'direct' },
      })
      expect(found).toContain(target === 'virtualbox' ? '0 [sata]' : '0 [scsi]')
    }
  })
})
