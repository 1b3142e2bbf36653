/** The proof that images are whole: a kernel, a ramdisk and a root go into the image service and come out again, and what came out boots; so does the same root in each format that QEMU
 *  boots, and out of a bundle. */
import { mkdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, it } from 'vitest'
import { makeCertificate } from '../../../engine/test/support/certificate.ts'
import { debianKernel } from '../../../engine/test/support/debian.ts'
import { temporaryFolder } from '../../../engine/test/support/folder.ts'
import { describeWith, runOk } from '../../../engine/test/support/process.ts'
import { sample, seed, timeFor } from '../../../engine/test/support/random.ts'
import { bootGuest, buildGuest, guestTools, type TinyGuest } from '../../../engine/test/support/tiny-guest.ts'
import { type Subject, services } from '../../../server/test/support/service.ts'
import { moraine } from '../support/differential.ts'
import { type ImageCommand, imageCommand } from './support/command.ts'

const folder = temporaryFolder()
const start = services()
const sampleMilliseconds = 30_000

/** Each format that QEMU boots, by our options and QEMU's name. */
const formats: readonly (readonly [qemu: string, ...options: string[]])[] = [
  ['qcow2', '-O', 'qcow2'],
  ['qcow2', '-O', 'qcow2', '-c'],
  ['qcow2', '-O', 'qcow2', '-c', '-o', 'compression_type=zstd'],
  ['qcow2', '-O', 'qcow2', '-o', 'compat=0.10,cluster_size=512'],
  ['qcow2', '-O', 'qcow2', '-o', 'extended_l2=on,cluster_size=128k'],
  ['qcow', '-O', 'qcow'],
  ['qed', '-O', 'qed'],
  ['vmdk', '-O', 'vmdk'],
  ['vmdk', '-O', 'vmdk', '-o', 'subformat=streamOptimized'],
  ['vmdk', '-O', 'vmdk', '-o', 'subformat=monolithicFlat'],
  ['vmdk', '-O', 'vmdk', '-o', 'subformat=twoGbMaxExtentSparse'],
  ['vdi', '-O', 'vdi'],
  ['vdi', '-O', 'vdi', '-o', 'static=on'],
  ['vpc', '-O', 'vhd'],
  ['vpc', '-O', 'vhd', '-o', 'subformat=fixed'],
  ['vhdx', '-O', 'vhdx'],
  ['vhdx', '-O', 'vhdx', '-o', 'subformat=fixed'],
  ['parallels', '-O', 'parallels'],
  ['raw', '-O', 'raw'],
]

describeWith([...guestTools, 'openssl'], 'what boots', () => {
  let guest: TinyGuest | undefined
  let subject: Subject
  let command: ImageCommand
  beforeAll(async () => {
    const kernel = debianKernel()
    if (kernel === undefined) return
    const at = folder.file('guest')
    mkdirSync(at)
    guest = buildGuest(at, kernel)
    subject = await start()
    command = imageCommand(folder, { OS_ENDPOINT: subject.url })
  }, 300_000)

  interface Image {
    id: string
    name: string
    status: string
    disk_format: string
    container_format: string
    [property: string]: string
  }

  it('goes into the image service and comes out', { timeout: 300_000 }, async (test) => {
    if (guest === undefined) return test.skip("Debian's kernel cannot be fetched")
    const { kernel, ramdisk, root, marker } = guest
    const files = ['--kernel', kernel, '--ramdisk', ramdisk, '--root', root]
    const planned = await command.json<{ writes: string[] }>('push', 'tiny', ...files, '--dry-run')
    expect(planned).toMatchObject({ target: 'tiny', format: 'ami', lost: [] })
    const sizes = [kernel, ramdisk, root].map((file) => statSync(file).size)
    expect(planned.writes).toEqual(
      [`'tiny-kernel' (aki)`, `'tiny-ramdisk' (ari)`, `'tiny' (ami)`].map(
        (what, at) => `a new image ${what} of the service; it takes ${sizes[at]} bytes`,
      ),
    )
    expect(await command.json('list')).toEqual([])
    const ami = await command.json<Image>(
      'push',
      'tiny',
      ...files,
      '--property',
      'os_command_line=console=ttyS0',
      '--tag',
      'try',
      '--protected',
    )
    expect(ami).toMatchObject({
      name: 'tiny',
      status: 'active',
      disk_format: 'ami',
      container_format: 'ami',
      os_command_line: 'console=ttyS0',
      protected: true,
    })
    const [aki, ari] = await Promise.all(
      [ami.kernel_id, ami.ramdisk_id].map((id) => command.json<Image>('show', id ?? '')),
    )
    expect(aki).toMatchObject({
      name: 'tiny-kernel',
      disk_format: 'aki',
      container_format: 'aki',
      tags: ['try'],
      protected: true,
      size: readFileSync(kernel).length,
    })
    expect(ari).toMatchObject({
      name: 'tiny-ramdisk',
      disk_format: 'ari',
      container_format: 'ari',
      tags: ['try'],
      protected: true,
    })
    const pulled = { kernel: folder.fresh(), ramdisk: folder.fresh(), root: folder.fresh() }
    await command.ok('pull', aki?.id ?? '', pulled.kernel)
    await command.ok('pull', ari?.id ?? '', pulled.ramdisk)
    await command.ok('pull', 'tiny', pulled.root)
    expect(readFileSync(pulled.root).equals(readFileSync(root))).toBe(true)
    expect(await bootGuest(pulled, pulled.root, 'raw')).toBe(marker)
  })

  it('is all of it or nothing', { timeout: 120_000 }, async (test) => {
    if (guest === undefined) return test.skip("Debian's kernel cannot be fetched")
    const { kernel, ramdisk, root } = guest
    const before = await command.ok('list', '-q')
    const refused = async (...args: string[]): Promise<string> => {
      const { code, stderr } = await command.run('push', ...args)
      expect([code, await command.ok('list', '-q')]).toEqual([1, before])
      return stderr
    }
    expect(await refused('x', '--kernel', root, '--root', root)).toMatch(
      /'.*root\.img' is no kernel, but a file system/,
    )
    expect(await refused('x', '--kernel', kernel, '--ramdisk', kernel, '--root', root)).toMatch(
      /is no ramdisk, but a kernel/,
    )
    expect(await refused('x', '--kernel', kernel)).toMatch(/--kernel and --root belong together/)
    expect(await refused('x', '--kernel', kernel, '--root', root, '--method', 'tus')).toMatch(
      /--method does not belong to --kernel/,
    )
    expect(await refused('--kernel', kernel, '--root', root)).toMatch(/Expecting NAME/)
    // The kernel and the ramdisk are stored when the root is refused.
    const small = await start({ imageSizeCap: 20 * 1024 * 1024 })
    const other = imageCommand(folder, { OS_ENDPOINT: small.url })
    expect((await other.run('push', 'x', '--kernel', kernel, '--ramdisk', ramdisk, '--root', root)).code).toBe(1)
    expect(await other.ok('list', '-q')).toBe('')
    // The service refuses what the command was told to send.
    expect(await refused('x', '--kernel', root, '--root', root, '--unsafe')).toMatch(/a kernel is expected/)
  })

  it('boots from each format that QEMU boots', { timeout: timeFor(sampleMilliseconds) + 240_000 }, async (test) => {
    if (guest === undefined) return test.skip("Debian's kernel cannot be fetched")
    const { root, marker } = guest
    const trio = guest
    await sample(
      'boots',
      formats,
      { seed: seed('boots'), ms: sampleMilliseconds, atLeast: 3 },
      async ([format, ...options]) => {
        const to = folder.fresh(`.${format}`)
        await runOk(moraine, ['convert', ...options, root, to])
        expect(await bootGuest(trio, to, format)).toBe(marker)
        rmSync(to)
      },
    )
  })

  it('boots out of a bundle', { timeout: 240_000 }, async (test) => {
    if (guest === undefined) return test.skip("Debian's kernel cannot be fetched")
    const at = folder.fresh('-bundle')
    mkdirSync(at)
    const [key, cert] = [join(at, 'key.pem'), join(at, 'cert.pem')]
    makeCertificate(key, cert, 'user')
    const keys = ['--cert', cert, '--private-key', key]
    await runOk(moraine, ['ami', 'bundle', guest.root, ...keys, '--ec2-cert', cert, '--to', at, '--part-size', '1M'])
    const out = join(at, 'out.img')
    await runOk(moraine, ['ami', 'unbundle', join(at, 'root.img.manifest.xml'), out, ...keys])
    expect(await bootGuest(guest, out, 'raw')).toBe(guest.marker)
  })
})
