/** The images that generated command lines are about, by name. `fixtures.ts` makes them. */

/** The password of every encrypted fixture. */
export const secret = '--object secret,id=s,data=horse'

/** Fixtures that other ones need beside them. */
const needed: Readonly<Record<string, readonly string[]>> = {
  'df.qcow2': ['df.data'],
  'dr.qcow2': ['dr.data'],
  'over.qcow2': ['q.qcow2'],
  'top.qcow2': ['over.qcow2', 'q.qcow2'],
  'onraw.qcow2': ['a.raw'],
  'over.qcow': ['a.raw'],
  'over.qed': ['a.raw'],
  'flat.vmdk': ['flat-flat.vmdk'],
  'split.vmdk': ['split-s001.vmdk'],
  'pieces.vmdk': ['pieces-f001.vmdk'],
  'over.vmdk': ['v.vmdk'],
}

/** Images in order, and the format each is of. */
export const images: Readonly<Record<string, string>> = {
  'a.raw': 'raw',
  'b.raw': 'raw',
  'odd.raw': 'raw',
  'none.raw': 'raw',
  'q.qcow2': 'qcow2',
  'other.qcow2': 'qcow2',
  'v2.qcow2': 'qcow2',
  'fine.qcow2': 'qcow2',
  'ext.qcow2': 'qcow2',
  'lazy.qcow2': 'qcow2',
  'packed.qcow2': 'qcow2',
  'zstd.qcow2': 'qcow2',
  'df.qcow2': 'qcow2',
  'dr.qcow2': 'qcow2',
  'empty.qcow2': 'qcow2',
  'zero.qcow2': 'qcow2',
  'pre.qcow2': 'qcow2',
  'over.qcow2': 'qcow2',
  'top.qcow2': 'qcow2',
  'onraw.qcow2': 'qcow2',
  'snaps.qcow2': 'qcow2',
  'bits.qcow2': 'qcow2',
  'q.qcow': 'qcow',
  'over.qcow': 'qcow',
  'q.qed': 'qed',
  'over.qed': 'qed',
  'fine.qed': 'qed',
  'v.vmdk': 'vmdk',
  'flat.vmdk': 'vmdk',
  'split.vmdk': 'vmdk',
  'pieces.vmdk': 'vmdk',
  'stream.vmdk': 'vmdk',
  'zeroed.vmdk': 'vmdk',
  'over.vmdk': 'vmdk',
  'd.vdi': 'vdi',
  'static.vdi': 'vdi',
  'd.vpc': 'vpc',
  'fixed.vpc': 'vpc',
  'd.vhdx': 'vhdx',
  'p.hds': 'parallels',
}

/** Images that need the password, and the format each is of. */
export const encrypted: Readonly<Record<string, string>> = {
  'luks.qcow2': 'qcow2',
  'aes.qcow2': 'qcow2',
  'aes.qcow': 'qcow',
  'k.luks': 'luks',
}

/** Things that are no image in good order: damaged, cut, of another kind, or not there. */
export const wrong: Readonly<Record<string, string>> = {
  'absent.img': 'qcow2',
  dir: 'raw',
  'text.txt': 'qcow2',
  'orphan.qcow2': 'qcow2',
  'leak.qcow2': 'qcow2',
  'corrupt.qcow2': 'qcow2',
  'both.qcow2': 'qcow2',
  'stub.qcow2': 'qcow2',
  'cut.qcow2': 'qcow2',
  'version.qcow2': 'qcow2',
  'feature.qcow2': 'qcow2',
  'dirty.qcow2': 'qcow2',
  'marked.qcow2': 'qcow2',
  'tables.qcow2': 'qcow2',
  'cluster.qcow2': 'qcow2',
  'stub.qcow': 'qcow',
  'stub.qed': 'qed',
  'cut.qed': 'qed',
  'check.qed': 'qed',
  'stub.vmdk': 'vmdk',
  'lone.vmdk': 'vmdk',
  'cut.vmdk': 'vmdk',
  'stub.vdi': 'vdi',
  'cut.vdi': 'vdi',
  'sum.vpc': 'vpc',
  'cut.vpc': 'vpc',
  'cut.vhdx': 'vhdx',
  'stub.vhdx': 'vhdx',
  'cut.hds': 'parallels',
  'open.hds': 'parallels',
  'stub.luks': 'luks',
}

/** The formats that qemu-img makes. */
export const formats = ['raw', 'qcow', 'qcow2', 'qed', 'vmdk', 'vdi', 'vpc', 'vhdx', 'parallels', 'luks'] as const

/** The fixtures that a command line names, with those that they need. */
export function filesOf(args: readonly string[]): string[] {
  const found = new Set<string>()
  for (const arg of args) {
    for (const word of arg.split(/[^\w.-]+/)) {
      for (const name of [word, ...(needed[word] ?? [])]) found.add(name)
    }
  }
  return [...found]
}
