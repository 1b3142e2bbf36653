/** Lines as libvirt, Nova, Cinder, Ironic, Glance and the makers of images call qemu-img: written down while they ran (packages/cli/test/callers), with other names; and what stands next to them. */
import { all } from '../cover.ts'
import { secret } from '../images.ts'

const key = secret.split(' ')[1] ?? ''
const backing = 'backing.driver=qcow2,backing.file.filename'

const each = (...table: string[][]): string[] => all(table)

/** Lines of all verbs, as programs put them together. */
export function callerLines(): string[] {
  return [
    // libvirt
    ...each(
      ['create -f'],
      ['qcow2 -o compat=0.10', 'qcow2 -o nocow=on,compat=0.10', 'qed', 'vmdk', 'vpc', 'vdi', 'bochs', 'cow'],
      ['new'],
      ['8192K', '977K', '0K'],
    ),
    'create -f qcow2 -o compat=0.10 new 8796093022208K',
    'create -f qcow2 -o preallocation=falloc,compat=0.10 new 1024K',
    'create -f qcow2 -b q.qcow2 -o backing_fmt=qcow2,compat=0.10 new 65536K',
    'create -f qcow2 -b a.raw -o backing_fmt=raw,compat=1.1,cluster_size=4096,lazy_refcounts new 65536K',
    'create -f qed -b q.qcow2 -o backing_fmt=qcow2 new 65536K',
    'create -f vmdk -b a.raw -o backing_fmt=raw new 65536K',
    'create -f qcow2 -o compat=1.1,cluster_size=131072,lazy_refcounts,extended_l2=on new 20480K',
    `create -f luks --object ${key} -o key-secret=s,iter-time=10,cipher-alg=aes-256,cipher-mode=cbc,hash-alg=sha256,ivgen-alg=essiv,ivgen-hash-alg=sha256 new 1024K`,
    `create -f qcow2 --object ${key} -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10,compat=0.10 new 1024K`,
    ...each(
      ['convert -f qcow2 -O'],
      [
        'qcow2 -o compat=1.1,cluster_size=65536',
        'qcow2 -o preallocation=metadata,compat=1.1,cluster_size=65536',
        'qcow2 -o compat=0.10',
        'raw',
        'vdi',
        'vpc',
      ],
      ['q.qcow2 new', 'over.qcow2 new'],
    ),
    `convert --image-opts -n --target-image-opts --object ${key} driver=raw,file.filename=a.raw driver=luks,file.filename=k.luks,key-secret=s`,
    `convert --image-opts -n --target-image-opts --object ${key} driver=luks,file.filename=k.luks,key-secret=s driver=raw,file.filename=b.raw`,
    `convert --image-opts -n --target-image-opts --object ${key} driver=qcow2,file.filename=luks.qcow2,encrypt.key-secret=s driver=raw,file.filename=b.raw`,
    `resize --object ${key} --image-opts driver=luks,key-secret=s,file.filename=k.luks 16777216`,
    `resize --object ${key} --image-opts driver=qcow2,encrypt.key-secret=s,file.filename=luks.qcow2 16777216`,
    // Nova
    'info q.qcow2 --force-share --output=json',
    'info q.qcow2 --force-share --output=json -f qcow2',
    'create -f qcow2 -o backing_file=q.qcow2,backing_fmt=qcow2,cluster_size=65536 new 67108864',
    'create -f qcow2 -o backing_file=a.raw,backing_fmt=raw new',
    `create -f qcow2 --object ${key} -o encrypt.key-secret=s -o encrypt.format=luks -o encrypt.cipher-alg=aes-256 -o encrypt.cipher-mode=xts -o encrypt.hash-alg=sha256 -o encrypt.iter-time=10 -o encrypt.ivgen-alg=plain64 -o encrypt.ivgen-hash-alg=sha256 new 4194304`,
    ...each(
      ['convert -t'],
      ['none', 'writeback'],
      ['-O qcow2 -f raw -c a.raw new', '-O raw -f qcow2 q.qcow2 new', '-O raw q.qcow2 new'],
    ),
    "rebase -b '' over.qcow2",
    'rebase -b q.qcow2 -F qcow2 other.qcow2',
    // Cinder, Ironic
    'convert -O luks -f qcow2 -o cipher-alg=aes-256,cipher-mode=xts,ivgen-alg=plain64,iter-time=10 --object secret,id=s,format=raw,data=horse -o key-secret=s q.qcow2 new',
    'convert --object secret,id=s,format=raw,data=horse --object secret,id=s2,format=raw,data=horse --image-opts encrypt.format=luks,encrypt.key-secret=s,file.filename=luks.qcow2 -O luks -o key-secret=s2,iter-time=10 new',
    'convert -O vpc -o subformat=fixed -f raw a.raw new',
    'convert -O raw -t directsync -S 0 -W q.qcow2 new',
    'convert -O raw -t writeback -S 64k q.qcow2 new',
    'resize -f qcow2 q.qcow2 1G',
    'create -fqcow2 -o preallocation=metadata new 1048576',
    'rebase -u -b q.qcow2 over.qcow2 -F qcow2',
    'rebase -u -b other.qcow2 -F qcow2 over.qcow2',
    `rebase -u --object ${key} -b q.qcow2 -F qcow2 --image-opts encrypt.key-secret=s,file.filename=luks.qcow2`,
    'commit -d over.qcow2',
    ...each(
      ['commit', 'commit -d'],
      [
        `--image-opts driver=qcow2,file.filename=over.qcow2,${backing}=q.qcow2`,
        `--image-opts file.filename=over.qcow2,${backing}=other.qcow2`,
        `--image-opts file.filename=q.qcow2,${backing}=other.qcow2`,
        `--image-opts file.filename=over.qcow2,${backing}=absent.qcow2`,
      ],
    ),
    `commit -b other.qcow2 --image-opts file.filename=over.qcow2,${backing}=other.qcow2`,
    `commit -b q.qcow2 --image-opts file.filename=over.qcow2,${backing}=other.qcow2`,
    // A backing file in place of none, and none in place of one.
    ...each(
      ['map', 'check', 'convert -O qcow2', 'compare a.raw', 'measure -O raw', 'info'],
      ['qcow2 q.qcow2', 'qcow q.qcow', 'qed q.qed', 'vdi d.vdi', 'raw a.raw', 'qcow2 over.qcow2'],
      ['null', '{"driver":"qcow2","file":{"driver":"file","filename":"other.qcow2"}}'],
    ).map(withBacking),
    'create -f qcow2 -b \'json:{"driver":"qcow2","backing.file.filename":"other.qcow2","file":{"driver":"file","filename":"q.qcow2"}}\' -F qcow2 new',
    'create -f qcow2 -b \'json:{"driver":"qcow2","backing.file.filename":"other.qcow2","file":{"driver":"file","filename":"q.qcow2"}}\' new',
    // A name that VHD has elsewhere; Glance and Cinder say it.
    ...each(['info', 'check', 'map', 'info --output=json', 'resize', 'bench'], ['-f vhd d.vpc']),
    ...each([
      'create -f vhd new 1M',
      'convert -O vhd a.raw new',
      'convert -f vhd d.vpc new',
      'measure -O vhd a.raw',
      'rebase -u -b d.vpc -F vhd over.qcow2',
      'dd -O vhd if=a.raw of=new',
      'compare -F vhd a.raw d.vpc',
      'info --image-opts driver=vhd,file.filename=d.vpc',
    ]),
    ...each(
      [
        'create -f qcow2',
        'create -u -f qcow2',
        'create -u -f qed',
        'create -u -f vmdk',
        'convert -O qcow2',
        'convert -O qed',
      ],
      ['-b d.vpc -F'],
      ['vhd', 'iso', 'nope'],
      ['new'],
    ).map((line) => (line.startsWith('create') ? `${line} 1M` : line.replace('-b', '-B').replace('new', 'a.raw new'))),
    // Makers of images
    'convert -onocow=on -fraw -Oqcow2 a.raw new',
    'convert -c -p -W -m 8 -f raw a.raw -O qcow2 new',
    'convert -f raw a.raw -O vmdk -o adapter_type=lsilogic,subformat=streamOptimized new',
    'convert -f raw a.raw -O vpc -o force_size new',
    'resize -f qcow2 q.qcow2 +1G',
    'snapshot -l q.qcow2',
    'snapshot -c 20260901T000000Z q.qcow2',
  ]
}

/** `verb format file options` as a `json:` name. */
function withBacking(line: string): string {
  const [, verb, format, file, below] = /^(.*) (\S+) (\S+) (\S+)$/.exec(line) ?? []
  const name = `'json:{"driver":"${format}","file":{"driver":"file","filename":"${file}"},"backing":${below}}'`
  return verb === 'convert -O qcow2' ? `${verb} ${name} new` : `${verb} ${name}`
}
