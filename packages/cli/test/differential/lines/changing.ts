/** Lines of the verbs that change images: amend, bitmap, commit, rebase, resize, snapshot, bench; and lines without a verb. */
import { all, cover } from '../cover.ts'
import { images, secret, wrong } from '../images.ts'

const good = Object.keys(images)
const bad = Object.keys(wrong)
const qcow2 = good.filter((file) => file.endsWith('.qcow2'))
const badNumbers = ['x', '-1', '1Z', '9E', '16E', "''", '1.5.5', '3kB', '0x', '0', '1e3', '+5']

/** QEMU needs a quarter of a minute to widen counts of one bit. */
const slow = /refcount_bits=(8|16|64) lazy\./

export function amendLines(): string[] {
  const changes = [
    'compat=0.10',
    'compat=1.1',
    'compat=v2',
    'lazy_refcounts=on',
    'lazy_refcounts=off',
    'refcount_bits=1',
    'refcount_bits=8',
    'refcount_bits=64',
    'refcount_bits=16',
    'size=2M',
    'size=1536k',
    'size=512k',
    'data_file_raw=on',
    'data_file=new.data',
    'compat=1.1,lazy_refcounts=on',
    'compat=0.10,refcount_bits=16',
  ]
  const refused = [
    'compat=0.9',
    'refcount_bits=3',
    'refcount_bits=0',
    'refcount_bits=x',
    'cluster_size=4k',
    'cluster_size=64k',
    'preallocation=full',
    'preallocation=off',
    'encryption=on',
    'encrypt.format=luks',
    'backing_file=a.raw',
    'backing_fmt=raw',
    'extended_l2=on',
    'compression_type=zstd',
    'nope=1',
    'size=x',
    'size=-1',
    'lazy_refcounts=maybe',
    'help',
    ',',
    'table_size=1',
  ]
  const slots = [
    'state=inactive,keyslot=0',
    'state=inactive,keyslot=1',
    'state=active',
    'state=nope',
    'keyslot=9',
    'state=inactive',
    'old-secret=s,state=inactive',
  ]
  return [
    ...cover(110, [
      ['amend'],
      ['', '-q', '-p'],
      ['', '', '-f qcow2', '-t none'],
      changes.map((c) => `-o ${c}`),
      qcow2,
    ]).filter((line) => !slow.test(line)),
    'amend -o compat=0.10 kept.qcow2',
    ...all([['amend'], refused.map((c) => `-o ${c}`), ['q.qcow2', 'v2.qcow2']]),
    ...all([['amend -o compat=1.1'], [...good.filter((file) => !qcow2.includes(file)), ...bad]]),
    ...all([
      ['amend'],
      [
        '',
        'q.qcow2',
        '-o compat=1.1',
        '-o compat=1.1 q.qcow2 v2.qcow2',
        '-o',
        '-z q.qcow2',
        '-o help',
        '-f nope -o help',
      ],
      ['', '-f qcow2', '-f raw', '-t nope'],
    ]),
    ...all([
      [`amend ${secret}`],
      ['', '--force'],
      slots.map((s) => `-o encrypt.${s.replace(',', ',encrypt.')}`),
      ['--image-opts driver=qcow2,encrypt.key-secret=s,file.filename=luks.qcow2'],
    ]),
    ...all([
      [`amend ${secret}`],
      slots.map((s) => `-o ${s}`),
      ['--image-opts driver=luks,key-secret=s,file.filename=k.luks'],
    ]),
  ]
}

/** Bitmaps that nobody vouches for any more. */
const stale = 'stale.qcow2'

export function bitmapLines(): string[] {
  const names = ['b0', 'b1', 'b2', 'new', "''"]
  return [
    ...all([['bitmap'], ['--add', '--remove', '--clear', '--enable', '--disable'], ['bits.qcow2'], names]),
    ...all([['bitmap'], ['--add', '--clear'], [...good, ...bad], ['b0']]),
    ...cover(60, [
      ['bitmap'],
      ['--add', '--add --disable', '--clear', '--remove --add', '--enable', '--disable', '--remove'],
      ['', '--merge b0', '--merge b1 --merge b2', '--merge nope', '--merge b0 --clear'],
      ['', '-g 4k', '-g 512', '-g 2M', '--granularity=64k'],
      ['', '-f qcow2', '-f raw'],
      ['bits.qcow2'],
      ['b0', 'b2', 'new'],
    ]),
    ...cover(40, [
      ['bitmap'],
      ['--merge b0', '--merge b1', '--add --merge b0', '--merge nope', '--merge b0 --merge b0'],
      [
        '-b bits2.qcow2',
        '-b q.qcow2',
        '-b a.raw',
        '-b absent.img',
        '-b bits.qcow2',
        '--source-file=bits2.qcow2',
        '-b dir',
      ],
      ['', '-F qcow2', '-F raw', '-F nope'],
      ['bits.qcow2'],
      ['b0', 'b2', 'new'],
    ]),
    ...all([['bitmap'], ['--add', '--clear', '--remove'], [stale], ['b0', 'new']]),
    ...all([['bitmap --add -g'], ['511', '256', '1000', '4G', '2G', ...badNumbers], ['bits.qcow2 new']]),
    ...all([
      ['bitmap'],
      [
        '',
        'bits.qcow2',
        'bits.qcow2 b0',
        '--add',
        '--add bits.qcow2',
        '--add bits.qcow2 x y',
        '--nope bits.qcow2 b0',
        '-z bits.qcow2 b0',
        '--merge',
        '--clear -g 4k bits.qcow2 b0',
        '--clear -b bits2.qcow2 bits.qcow2 b0',
        '--add -F qcow2 bits.qcow2 new',
        '--add --image-opts driver=qcow2,file.filename=bits.qcow2 new',
        '--add -f qcow2 --image-opts driver=qcow2,file.filename=bits.qcow2 new',
        '--merge b0 --image-opts -b bits2.qcow2 driver=qcow2,file.filename=bits.qcow2 b0',
      ],
    ]),
  ]
}

const overlays = ['over.qcow2', 'top.qcow2', 'onraw.qcow2', 'over.qcow', 'over.qed', 'over.vmdk']
const caches = ['', '', '-t none', '-t writeback', '-t unsafe', '-t nope']

export function commitLines(): string[] {
  return [
    ...all([['commit'], ['', '-d', '-q', '-p'], [...overlays, 'orphan.qcow2', 'snaps.qcow2']]),
    ...all([['commit'], [...good, ...bad]]),
    ...cover(60, [
      ['commit'],
      ['', '-q', '-p'],
      ['', '-d'],
      caches,
      ['', '', '-f qcow2', '-f qed', '-f raw'],
      ['', '', '-b q.qcow2', '-b over.qcow2', '-b a.raw', '-b absent.img', '-b top.qcow2'],
      ['', '', '-r 100M', '-r x'],
      overlays,
    ]),
    ...all([
      ['commit'],
      ['', 'over.qcow2 top.qcow2', '-z over.qcow2', '-b', '--nope over.qcow2', '-f', '-f nope over.qcow2'],
    ]),
    ...all([['commit -r'], badNumbers.slice(0, 10), ['over.qcow2']]),
    'commit --image-opts driver=qcow2,file.filename=over.qcow2',
    'commit -f qcow2 --image-opts driver=qcow2,file.filename=over.qcow2',
  ]
}

export function rebaseLines(): string[] {
  const bases = ['q.qcow2', 'other.qcow2', 'a.raw', 'b.raw', 'odd.raw', 'empty.qcow2', 'zero.qcow2', 'snaps.qcow2']
  return [
    ...cover(120, [
      ['rebase'],
      ['', '', '-u'],
      ['', '', '-p', '-q'],
      caches,
      ['', '', '-f qcow2', '-T none', '-U'],
      ['', '-F qcow2', '-F raw'],
      [...bases.map((base) => `-b ${base}`), "-b ''", '-b absent.img', '-b dir', '-b v.vmdk'],
      [...overlays, 'q.qcow2', 'empty.qcow2', 'v2.qcow2'],
    ]),
    ...all([['rebase -b q.qcow2 -F qcow2'], [...good, ...bad]]),
    ...all([
      ['rebase -u'],
      ['-b absent.img -F qcow2', "-b ''", '-b a.raw', '-b a.raw -F nope', '-b top.qcow2 -F qcow2'],
      [...overlays, 'q.qcow2', 'a.raw', 'v.vmdk', 'orphan.qcow2', 'd.vdi'],
    ]),
    ...all([
      ['rebase'],
      [
        '',
        'over.qcow2',
        '-b',
        '-b q.qcow2',
        '-b q.qcow2 over.qcow2 top.qcow2',
        '-z -b q.qcow2 over.qcow2',
        '-F qcow2 over.qcow2',
        '-b q.qcow2 -F nope over.qcow2',
        '-T nope -b q.qcow2 over.qcow2',
        '-f nope -b q.qcow2 over.qcow2',
      ],
    ]),
    'rebase --image-opts -b q.qcow2 -F qcow2 driver=qcow2,file.filename=over.qcow2',
  ]
}

export function resizeLines(): string[] {
  const sizes = ['2M', '512k', '+1M', '-512k', '1M', '1000000', '0', '+0', '1500000', '3G', '-2M', '70k', '+513']
  return [
    ...cover(130, [
      ['resize'],
      ['', '-q'],
      ['', '', '--shrink'],
      ['', '', '', '--preallocation=off', '--preallocation=metadata', '--preallocation=falloc', '--preallocation=full'],
      [
        'a.raw',
        'q.qcow2',
        'odd.raw',
        ...qcow2,
        'q.qed',
        'over.qed',
        '-f raw a.raw',
        '-f qcow2 a.raw',
        '-f raw q.qcow2',
      ],
      sizes,
    ]),
    ...all([['resize'], [...good, ...bad, stale], ['2M']]),
    ...all([['resize a.raw'], [...badNumbers, '+x', '-x', '+', '-', '--5', '+-5', '++5', '8E', '7E', '-8E', '1M1']]),
    ...all([['resize q.qcow2'], badNumbers]),
    ...all([
      ['resize'],
      [
        '',
        'a.raw',
        'a.raw 2M 3M',
        '-z a.raw 2M',
        '--preallocation=nope a.raw 2M',
        '--preallocation',
        '--nope a.raw 2M',
        '-f',
        '--shrink a.raw',
        'a.raw 2M -q',
      ],
    ]),
    ...all([
      [`resize ${secret}`],
      ['', '--shrink'],
      [
        '--image-opts driver=luks,key-secret=s,file.filename=k.luks',
        '--image-opts driver=qcow2,encrypt.key-secret=s,file.filename=luks.qcow2',
        'k.luks',
      ],
      ['2M', '100k', '+1000'],
    ]),
  ]
}

export function snapshotLines(): string[] {
  return [
    ...all([['snapshot'], ['-l', '-c three'], [...good, ...bad]]),
    ...all([
      ['snapshot'],
      ['-a one', '-a two', '-a nope', '-d one', '-d two', '-d nope', '-c one', '-a 1', '-d 2', "-c ''", '-l'],
      ['snaps.qcow2', 'q.qcow2', 'bits.qcow2', 'a.raw'],
    ]),
    ...all([['snapshot'], ['-a one', '-a nope', '-c x', '-l'], ['kept.qcow2', stale]]),
    ...cover(40, [
      ['snapshot'],
      ['', '-q', '-U'],
      ['-l', '-a one', '-c x', '-d two', ''],
      ['', '--image-opts'],
      ['snaps.qcow2', 'driver=qcow2,file.filename=snaps.qcow2', 'over.qcow2', 'df.qcow2', 'ext.qcow2', 'v2.qcow2'],
    ]),
    ...all([
      ['snapshot'],
      ['', '-l -a one', '-c x -d one', '-a', '-c', '-d', '-z', '--nope', '-l -l', '-f qcow2 -l'],
      ['', 'snaps.qcow2', 'snaps.qcow2 q.qcow2'],
    ]),
  ]
}

export function benchLines(): string[] {
  return [
    ...cover(70, [
      ['bench -c 4'],
      ['', '-q'],
      ['', '', '-w', '-w --flush-interval=2', '-w --pattern=65', '-w --flush-interval=1 --no-drain'],
      ['', '-d 1', '-d 8'],
      ['', '-s 512', '-s 64k', '-s 1000'],
      ['', '-S 4096', '-S 128k', '-S 0'],
      ['', '-o 0', '-o 64k', '-o 512k'],
      ['', '', '-t none', '-t writeback', '-U', '-i threads'],
      ['q.qcow2', 'a.raw', '-f raw a.raw', 'over.qcow2', 'v.vmdk', 'd.vdi', 'q.qed', 'p.hds'],
    ]),
    ...all([
      ['bench -c 2'],
      ['-s', '-S', '-o', '-d', '-c', '--pattern', '--flush-interval', '-t', '-i'],
      [...badNumbers.slice(0, 7), '256'],
      ['q.qcow2'],
    ]),
    ...all([
      ['bench'],
      [
        '',
        'q.qcow2 a.raw',
        '-z q.qcow2',
        'absent.img',
        'dir',
        '--no-drain -c 1 q.qcow2',
        '-t nope -S 8E q.qcow2',
        '-S 8E -t nope q.qcow2',
        '--flush-interval=2 -c 1 q.qcow2',
        '--pattern=1 -c 1 q.qcow2',
      ],
    ]),
  ]
}

export function bareLines(): string[] {
  const verbs =
    'amend bench bitmap check commit compare convert create dd info map measure rebase resize snapshot'.split(' ')
  return [
    ...['', '--help', '-h', '--version', '-V', '--nope', '-z', 'nope', "''", 'Create', 'creat', '--', '-- info a.raw'],
    ...[
      '--vers',
      '--hel',
      '--version info a.raw',
      '--version=3',
      '-hV',
      '-Vh',
      'help',
      '-q info a.raw',
      '-f raw info a.raw',
    ],
    ...verbs.flatMap((verb) => [
      verb,
      `${verb} --help`,
      `${verb} -h`,
      `${verb} --nope`,
      `${verb} -Z`,
      `${verb} ''`,
      `${verb} --`,
      `${verb} -- -x`,
      `${verb} --object`,
      `${verb} --object nope,id=x a.raw`,
      `${verb} --object secret,id=s a.raw`,
      `${verb} --image-opts a.raw`,
      `${verb} --image-opts driver=raw,file.filename=a.raw`,
      `${verb} -f`,
      `${verb} absent.img`,
      `${verb} absent.img absent.img absent.img absent.img`,
      `${verb} --object=secret,id=s,data=x --nope`,
      `${verb} --imag absent.img`,
    ]),
  ]
}
