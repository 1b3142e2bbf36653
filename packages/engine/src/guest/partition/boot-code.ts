/** Whose code stands in the first sector. */
import { latin1 } from '../../bytes/header.ts'

const loaders: readonly (readonly [RegExp, string])[] = [
  [/GRUB/, 'GRUB'],
  [/isolinux/i, 'ISOLINUX'],
  [/SYSLINUX|EXTLINUX/i, 'SYSLINUX'],
  [/LILO/, 'LILO'],
  [/Invalid partition table|Missing operating system/, 'an MBR boot loader'],
  [/FreeBSD|Boot:/, 'a BSD boot loader'],
  [/NTLDR|BOOTMGR/, 'Windows'],
]

/** The boot loader in the first sector, `unknown` where nobody here knows it; undefined where there is no code. */
export function bootLoaderOf(head: Uint8Array): string | undefined {
  const code = latin1(head, 0, 440)
  if (/^\0*$/.test(code)) return undefined
  return loaders.find(([pattern]) => pattern.test(code))?.[1] ?? 'unknown'
}
