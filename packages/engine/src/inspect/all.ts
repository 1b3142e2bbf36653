/** Every inspector, in the order in which findings are listed. */
import type { Inspector } from './contract.ts'
import { archive } from './formats/archive.ts'
import { asif } from './formats/asif.ts'
import { bochs } from './formats/bochs.ts'
import { cloop } from './formats/cloop.ts'
import { content } from './formats/content.ts'
import { dmg } from './formats/dmg.ts'
import { iso } from './formats/iso.ts'
import { luks } from './formats/luks.ts'
import { ovf } from './formats/ovf.ts'
import { parallels } from './formats/parallels.ts'
import { partitions } from './formats/partitions.ts'
import { qcow } from './formats/qcow.ts'
import { qcow2 } from './formats/qcow2.ts'
import { qed } from './formats/qed.ts'
import { vdi } from './formats/vdi.ts'
import { vhd } from './formats/vhd.ts'
import { vhdx } from './formats/vhdx.ts'
import { vmdk } from './formats/vmdk.ts'
import { wrapper } from './formats/wrapper.ts'

/** What is looked for where a caller names nothing else. */
export const allInspectors: readonly Inspector[] = [
  qcow2,
  qcow,
  qed,
  vhd,
  vhdx,
  vmdk,
  vdi,
  parallels,
  bochs,
  cloop,
  dmg,
  asif,
  luks,
  iso,
  archive,
  ovf,
  wrapper,
  partitions,
  content,
]
