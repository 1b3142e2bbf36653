/** Every disk format the engine has, in probing order of preference. */
import { bochs } from './bochs/index.ts'
import { cloop } from './cloop/index.ts'
import { dmg } from './dmg/index.ts'
import type { DiskFormat } from './format.ts'
import { iso } from './iso/index.ts'
import { luks, luks2 } from './luks/index.ts'
import { asif, vhds } from './named-only.ts'
import { parallels } from './parallels/index.ts'
import { qcow } from './qcow/index.ts'
import { qcow2 } from './qcow2/index.ts'
import { qed } from './qed/index.ts'
import { raw } from './raw/index.ts'
import { vdi } from './vdi/index.ts'
import { vhd } from './vhd/index.ts'
import { vhdx } from './vhdx/index.ts'
import { vmdk } from './vmdk/index.ts'

/** Pass this list, or a part of it, wherever `formats` is asked for. */
export const allFormats: readonly DiskFormat[] = [
  qcow2,
  qcow,
  qed,
  vmdk,
  vdi,
  vhdx,
  vhd,
  parallels,
  bochs,
  cloop,
  dmg,
  luks,
  luks2,
  vhds,
  asif,
  iso,
  raw,
]
