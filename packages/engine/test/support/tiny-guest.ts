/** A real guest that boots in seconds: Debian's kernel, a ramdisk of busybox with the few modules that are needed, and a root disk whose program prints a marker with the digest of a file
 *  on that disk. It is booted by QEMU's emulator. */
import { execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, copyFileSync, mkdirSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { gzipSync } from 'node:zlib'
import type { DebianKernel } from './debian.ts'
import { tool } from './process.ts'
import { Random } from './random.ts'

/** The programs that building and booting need. */
export const guestTools = ['busybox', 'cpio', 'mke2fs', 'qemu-system-x86_64', 'apt-get', 'dpkg'] as const

/** The files of a guest. */
export interface TinyGuest {
  kernel: string
  ramdisk: string
  /** A bare ext4, raw. */
  root: string
  /** The line that a boot must print. */
  marker: string
}

/** In the order in which they are loaded; some are built into some kernels. */
export const diskModules: readonly string[] =
  'virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk crc16 crc32c_generic libcrc32c mbcache jbd2 ext4'.split(
    ' ',
  )

const init = `#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev; $b mount -t proc proc /proc; $b mount -t sysfs sys /sys
for m in ${diskModules.join(' ')}; do [ -f /modules/$m.ko ] && $b insmod /modules/$m.ko 2>/dev/null; done
n=0; while [ ! -b /dev/vda ] && [ $n -lt 100 ]; do $b usleep 50000; n=$((n+1)); done
if $b mount -t ext4 /dev/vda /root; then $b chroot /root /sbin/marker; else echo "MARKER no root"; fi
$b sync; $b poweroff -f
`

const marker = `#!/bin/busybox sh
echo "MARKER $(/bin/busybox sha256sum /payload | /bin/busybox cut -d" " -f1)"
`

/** A program of a guest. */
export function writeProgram(path: string, text: string): void {
  writeFileSync(path, text)
  chmodSync(path, 0o755)
}

/** A ramdisk of busybox, some of the kernel's modules in `/modules`, and what runs first. */
export function makeRamdisk(
  folder: string,
  kernel: DebianKernel,
  { modules, init }: { modules: readonly string[]; init: string },
): Buffer {
  const ram = join(folder, 'ram')
  for (const name of ['bin', 'dev', 'proc', 'sys', 'root', 'modules']) mkdirSync(join(ram, name), { recursive: true })
  copyFileSync(tool('busybox').path ?? '', join(ram, 'bin/busybox'))
  const wanted = new Set(modules.map((name) => `${name}.ko`))
  for (const path of readdirSync(kernel.modules, { recursive: true, encoding: 'utf8' })) {
    if (wanted.has(basename(path))) copyFileSync(join(kernel.modules, path), join(ram, 'modules', basename(path)))
  }
  writeProgram(join(ram, 'init'), init)
  const archive = execFileSync('sh', ['-c', `find . | ${tool('cpio').path} -o -H newc --quiet`], {
    cwd: ram,
    maxBuffer: 1 << 28,
  })
  rmSync(ram, { recursive: true })
  return gzipSync(archive, { level: 1 })
}

/** Builds one in a folder that is there. */
export function buildGuest(folder: string, kernel: DebianKernel): TinyGuest {
  const guest: TinyGuest = {
    kernel: join(folder, 'vmlinuz'),
    ramdisk: join(folder, 'initrd.img'),
    root: join(folder, 'root.img'),
    marker: '',
  }
  copyFileSync(kernel.image, guest.kernel)
  writeFileSync(guest.ramdisk, makeRamdisk(folder, kernel, { modules: diskModules, init }))
  const root = join(folder, 'root')
  for (const name of ['bin', 'sbin', 'etc', 'dev', 'proc']) mkdirSync(join(root, name), { recursive: true })
  copyFileSync(tool('busybox').path ?? '', join(root, 'bin/busybox'))
  const payload = new Random(20_26).bytes(2_000_000)
  writeFileSync(join(root, 'payload'), payload)
  writeProgram(join(root, 'sbin/marker'), marker)
  writeFileSync(guest.root, '')
  truncateSync(guest.root, 24 * 1024 * 1024)
  execFileSync(tool('mke2fs').path ?? '', ['-q', '-t', 'ext4', '-L', 'tiny', '-d', root, guest.root])
  rmSync(root, { recursive: true })
  return { ...guest, marker: `MARKER ${createHash('sha256').update(payload).digest('hex')}` }
}

/** Boots a disk in the format that QEMU calls so, with a kernel and a ramdisk; the line with the marker, or the end of what was printed. What the guest writes is thrown away. */
export function bootGuest(
  { kernel, ramdisk }: Pick<TinyGuest, 'kernel' | 'ramdisk'>,
  disk: string,
  format: string,
  seconds = 120,
): Promise<string> {
  const args =
    `-machine q35,accel=tcg -m 256 -nographic -no-reboot -nic none -kernel ${kernel} -initrd ${ramdisk} ` +
    `-drive file=${disk},format=${format},if=virtio,snapshot=on`
  return new Promise((resolve, reject) => {
    const emulator = spawn(
      tool('qemu-system-x86_64').path ?? '',
      [...args.split(' '), '-append', 'console=ttyS0 quiet panic=-1'],
      {
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    )
    let text = ''
    const timer = setTimeout(() => emulator.kill('SIGKILL'), seconds * 1000)
    const take = (chunk: Buffer): void => {
      text += chunk.toString('latin1').replaceAll('\r', '')
      // All is said: nobody waits for the machine to power off.
      if (/MARKER .*\n/.test(text)) emulator.kill('SIGKILL')
    }
    emulator.stdout.on('data', take)
    emulator.stderr.on('data', take)
    emulator.on('error', reject)
    emulator.on('close', () => {
      clearTimeout(timer)
      resolve(/MARKER .*/.exec(text)?.[0] ?? `no marker: ${text.slice(-500)}`)
    })
  })
}
