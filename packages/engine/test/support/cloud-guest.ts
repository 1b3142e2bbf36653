/** A disk as publishers of cloud images make them: it boots by itself (GRUB, a partition with an ext4, kernel and ramdisk in it) and looks for a seed beside it. Its init stands for
 *  cloud-init: it mounts what is labelled `cidata`, takes the host's name from the user data, and says on the serial line what it found. */
import { execFileSync } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { DebianKernel } from './debian.ts'
import { tool } from './process.ts'
import { diskModules, guestTools, makeRamdisk, writeProgram } from './tiny-guest.ts'

/** The programs that building such a disk needs; GRUB's own parts are in Debian's grub-pc-bin. */
export const cloudGuestTools = [...guestTools, 'grub-mkimage', '/usr/lib/grub/i386-pc/boot.img'] as const

const modules = [...diskModules, 'cdrom', 'isofs']
const MiB = 1024 * 1024
const sector = 512
const partitionStart = MiB
const partitionSize = 40 * MiB

const init = `#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev; $b mount -t proc proc /proc; $b mount -t sysfs sys /sys
for m in ${modules.join(' ')}; do [ -f /modules/$m.ko ] && $b insmod /modules/$m.ko 2>/dev/null; done
n=0; while [ ! -b /dev/vda1 ] && [ $n -lt 100 ]; do $b usleep 50000; n=$((n+1)); done
$b mount -t ext4 /dev/vda1 /root && exec $b chroot /root /sbin/first-boot
echo "first boot: no root"; $b poweroff -f
`

const firstBoot = `#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev; $b mount -t proc proc /proc; $b mount -t sysfs sys /sys
echo "first boot: the disk has $(($($b cat /sys/block/vda/size) / 2048)) MiB"
[ -b /dev/vdb ] && label=$($b dd if=/dev/vdb bs=1 skip=$((32768 + 40)) count=32 2>/dev/null)
if [ "$(echo $label)" = cidata ] && $b mount -t iso9660 -o ro /dev/vdb /mnt; then
  $b hostname "$($b sed -n 's/^hostname: *//p' /mnt/user-data)"
  echo "first boot: seed with $(cd /mnt; echo *) mounted, this is $($b hostname)"
else
  echo "first boot: no seed"
fi
$b umount -a -r 2>/dev/null; $b poweroff -f
`

/** Commands of GRUB. The screen is nobody's, so it says nothing. */
const grub = `set root=(hd0,msdos1)
linux /boot/vmlinuz console=ttyS0 quiet panic=-1
initrd /boot/initrd.img
boot
`

/** Builds one, raw; the path of it. */
export function buildCloudGuest(folder: string, kernel: DebianKernel): string {
  mkdirSync(folder, { recursive: true })
  const root = join(folder, 'root')
  for (const name of ['bin', 'sbin', 'boot', 'dev', 'proc', 'sys', 'mnt']) {
    mkdirSync(join(root, name), { recursive: true })
  }
  const busybox = tool('busybox').path ?? ''
  copyFileSync(busybox, join(root, 'bin/busybox'))
  writeProgram(join(root, 'sbin/first-boot'), firstBoot)
  copyFileSync(kernel.image, join(root, 'boot/vmlinuz'))
  writeFileSync(join(root, 'boot/initrd.img'), makeRamdisk(folder, kernel, { modules, init }))
  const disk = join(folder, 'disk.raw')
  writeFileSync(disk, startOfDisk(folder))
  truncateSync(disk, partitionStart + partitionSize)
  const where = ['-E', `offset=${partitionStart}`, disk, `${partitionSize / 1024}k`]
  execFileSync(tool('mke2fs').path ?? '', ['-q', '-t', 'ext4', '-L', 'cloudimg-rootfs', '-d', root, ...where])
  rmSync(root, { recursive: true })
  return disk
}

/** The boot sector with one partition, and GRUB behind it: its image begins at sector 1, where the boot sector looks unless it is told otherwise. */
function startOfDisk(folder: string): Buffer {
  const [config, core] = [join(folder, 'grub.cfg'), join(folder, 'core.img')]
  writeFileSync(config, grub)
  const parts = ['biosdisk', 'part_msdos', 'ext2', 'linux']
  const args = ['-O', 'i386-pc', '-p', '(hd0,msdos1)/boot/grub', '-c', config, '-o', core, ...parts]
  execFileSync(tool('grub-mkimage').path ?? '', args, { stdio: 'pipe' })
  const start = Buffer.alloc(partitionStart)
  readFileSync('/usr/lib/grub/i386-pc/boot.img').copy(start, 0, 0, 440)
  start.set([0x80, 0, 2, 0, 0x83, 0xff, 0xff, 0xff], 446)
  start.writeUInt32LE(partitionStart / sector, 454)
  start.writeUInt32LE(partitionSize / sector, 458)
  start.set([0x55, 0xaa], 510)
  readFileSync(core).copy(start, sector)
  return start
}
