/** Verbs that write: create, convert, resize, snapshot, check -r. What they say, and the files they leave, byte for byte as qemu-img's. */
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { beforeAll, describe } from 'vitest'
import { describeWith } from '../../engine/test/support/process.ts'
import { Fixtures } from './support/differential.ts'

describeWith(['qemu-img', 'qemu-io'], 'writing, as qemu-img writes', () => {
  const fixtures = new Fixtures()

  beforeAll(async () => {
    const file = openSync(fixtures.path('a.raw'), 'w')
    writeSync(file, 'b'.repeat(65536), 1 << 20)
    writeSync(file, 'c'.repeat(4096), 5 << 20)
    writeSync(file, 'd'.repeat(3 << 20), 9 << 20)
    closeSync(file)
    truncateSync(fixtures.path('a.raw'), 16 << 20)
    copyFileSync(fixtures.path('a.raw'), fixtures.path('a2.raw'))
    writeFileSync(fixtures.path('odd.raw'), 'x'.repeat(1000))
    await fixtures.qemuImg('create -q -f qcow2 base.qcow2 10M')
    await fixtures.qemuIo('base.qcow2', 'write -P 1 0 128k', 'write -z 1M 64k', 'write -P 2 9M 1M')
    await fixtures.qemuImg('create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2 12M')
    await fixtures.qemuIo('top.qcow2', 'write -P 3 256k 128k', 'write -z 64k 64k')
    await fixtures.qemuImg('convert -c -O qcow2 base.qcow2 packed.qcow2')
    await fixtures.qemuImg('create -q -f qcow2 snapshots.qcow2 4M')
    await fixtures.qemuIo('snapshots.qcow2', 'write -P 1 0 1M')
    await fixtures.qemuImg('snapshot -c one snapshots.qcow2')
    await fixtures.qemuIo('snapshots.qcow2', 'write -P 2 512k 1M')
    await fixtures.qemuImg('snapshot -c two snapshots.qcow2')
    await fixtures.qemuImg('create -q -f qcow2 -o refcount_bits=2 narrow.qcow2 4M')
    await fixtures.qemuIo('narrow.qcow2', 'write -P 1 0 1M')
    await fixtures.qemuImg('create -q -f qcow2 -o compat=0.10 v2.qcow2 3M')
    makeDamaged(fixtures)
    mkdirSync(fixtures.path('sub'))
    await fixtures.qemuImg('create -q -f qcow2 sub/base 5M')
  })

  describe('create raw', () => {
    for (const line of [
      'create x 1M',
      'create -f raw x 5',
      'create x 0',
      'create -q x 1M',
      'create -o preallocation=full x 1M',
      'create -o preallocation=falloc x 1M',
      'create -o size=1M,preallocation=off,nocow=off,extent_size_hint=0 x',
      'create x',
      'create -b a.raw x 1M',
      'create -F raw x 1M',
      'create /nodir/x 1M',
      'create . 1M',
      'create file:x 1M',
      'create foo:x 1M',
      'create -f zzz x 1M',
    ]) {
      fixtures.sameOnCopies('a.raw', line)
    }
    for (const mode of ['foo', 'metadata']) {
      // qemu-img leaves an empty file.
      fixtures.sameOnCopies('a.raw', `create -o preallocation=${mode} x 1M`, { files: false })
    }
    fixtures.sameOnCopies('a.raw', [['create', '', '1M']])
    fixtures.sameOnCopies('a.raw', 'create a.raw 1M')
  })

  describe('create qcow2', () => {
    for (const line of [
      'create -f qcow2 x 1M',
      'create -f qcow2 x 1000',
      'create -f qcow2 x 0',
      'create -f qcow2 x 1T',
      'create -f qcow2 -o compat=0.10 x 1M',
      'create -f qcow2 -o compat=v3 x 1M',
      'create -f qcow2 -o cluster_size=512 x 1M',
      'create -f qcow2 -o cluster_size=2M x 100M',
      'create -f qcow2 -o refcount_bits=1 x 1M',
      'create -f qcow2 -o refcount_bits=64,cluster_size=4k x 100M',
      'create -f qcow2 -o extended_l2=on x 1M',
      'create -f qcow2 -o lazy_refcounts=on x 1M',
      'create -f qcow2 -o lazy_refcounts x 1M',
      'create -f qcow2 -o nolazy_refcounts x 1M',
      'create -f qcow2 -o compression_type=zstd x 1M',
      'create -f qcow2 -o preallocation=metadata x 10M',
      'create -f qcow2 -o preallocation=falloc x 10M',
      'create -f qcow2 -o preallocation=full x 10M',
      'create -f qcow2 -o preallocation=metadata,cluster_size=4k x 10M',
      'create -f qcow2 -o preallocation=metadata,extended_l2=on x 10M',
      'create -f qcow2 -o data_file=d x 1M',
      'create -f qcow2 -o data_file=d,data_file_raw=on x 1M',
      'create -f qcow2 -b base.qcow2 -F qcow2 x',
      'create -f qcow2 -b base.qcow2 -F qcow2 x 20M',
      'create -f qcow2 -b a.raw -F raw -o cluster_size=4k x',
      'create -f qcow2 -o backing_file=base.qcow2,backing_fmt=qcow2 x',
      'create -f qcow2 -o backing_file=base.qcow2,backing_fmt=qcow2,compat=0.10 x',
      'create -f qcow2 -b base -F qcow2 sub/over',
      'create -u -f qcow2 -b nofile -F qcow2 x 1M',
      'create -f qcow2 -b base.qcow2 -F qcow2 -o preallocation=metadata,extended_l2=on x',
      'create -f qcow2 base.qcow2 1M',
    ]) {
      fixtures.sameOnCopies('base.qcow2 a.raw sub/base', line)
    }
  })

  describe('create qcow2, refused', () => {
    for (const line of [
      'create -f qcow2 x',
      'create -f qcow2 -o size=1Z x',
      'create -f qcow2 -o size=1M x 2M',
      'create -f qcow2 -o foo=1 x 1M',
      'create -f qcow2 -o cluster_size=3 x 1M',
      'create -f qcow2 -o cluster_size=4M x 1M',
      'create -f qcow2 -o compat=0.9 x 1M',
      'create -f qcow2 -o compression_type=foo x 1M',
      'create -f qcow2 -o preallocation=foo x 1M',
      'create -f qcow2 -o lazy_refcounts=maybe x 1M',
      'create -f qcow2 -o refcount_bits=x x 1M',
      'create -f qcow2 -o refcount_bits=7 x 1M',
      'create -f qcow2 -o refcount_bits=128 x 1M',
      'create -f qcow2 -o compat=v2,refcount_bits=8 x 1M',
      'create -f qcow2 -o compat=v2,lazy_refcounts=on x 1M',
      'create -f qcow2 -o compat=v2,extended_l2=on x 1M',
      'create -f qcow2 -o compat=v2,compression_type=zstd x 1M',
      'create -f qcow2 -o compat=v2,data_file=d x 1M',
      'create -f qcow2 -o extended_l2=on,cluster_size=4k x 1M',
      'create -f qcow2 -o data_file_raw=on x 1M',
      'create -f qcow2 -b nofile -F qcow2 x',
      'create -f qcow2 -b nofile x',
      'create -f qcow2 -b base.qcow2 x',
      'create -f qcow2 -b a.raw x 1M',
      'create -f qcow2 -b a.raw -F qcow2 x 1M',
      'create -f qcow2 -b a.raw -F zzz x 1M',
      'create -u -f qcow2 -b nofile x 1M',
      'create -u -f qcow2 -b nofile -F qcow2 x',
      'create -f qcow2 -b x -F qcow2 x',
      'create -f qcow2 -F qcow2 x 1M',
      'create -f qcow2 -b base.qcow2 -F qcow2 -o preallocation=full x',
      'create -f qcow2 -b base.qcow2 -F qcow2 -o data_file=d,data_file_raw=on x',
      'create -f qcow2 -b nobase -F qcow2 sub/over',
      'create -f qcow2 /nodir/x 1M',
      'create -f qcow2 . 1M',
    ]) {
      // What a failed creation leaves is qemu-img's affair; we leave nothing.
      fixtures.sameOnCopies('base.qcow2 a.raw sub/base', line, { files: false })
    }
    fixtures.sameOnCopies('a.raw', [['create', '-f', 'qcow2', '-b', '', '-F', 'raw', 'x', '1M']], { files: false })
  })

  describe('convert', () => {
    for (const line of [
      'convert a.raw x',
      'convert -O raw base.qcow2 x',
      'convert -O raw top.qcow2 x',
      'convert -O raw packed.qcow2 x',
      'convert -O qcow2 a.raw x',
      'convert -O qcow2 odd.raw x',
      'convert odd.raw x',
      'convert -O qcow2 top.qcow2 x',
      'convert -O qcow2 -o cluster_size=4k,refcount_bits=8 a.raw x',
      'convert -O qcow2 -o compat=0.10 base.qcow2 x',
      'convert -O qcow2 -o preallocation=metadata a.raw x',
      'convert -O qcow2 -o preallocation=full base.qcow2 x',
      'convert -O qcow2 -o extended_l2=on a.raw x',
      'convert -O qcow2 -S 64k a.raw x',
      'convert -O qcow2 -S 0 odd.raw x',
      'convert -S 0 base.qcow2 x',
      'convert -O qcow2 -m 1 a.raw x',
      'convert -O qcow2 -B base.qcow2 -F qcow2 top.qcow2 x',
      'convert -O qcow2 -o backing_file=base.qcow2,backing_fmt=qcow2 top.qcow2 x',
      'convert -O qcow2 a.raw base.qcow2 odd.raw x',
      'convert a.raw a.raw x',
      'convert -l one -O raw snapshots.qcow2 x',
      'convert -l 2 -O qcow2 snapshots.qcow2 x',
      'convert -l snapshot.name=one -O raw snapshots.qcow2 x',
      'convert -n a.raw a2.raw',
      'convert -n --target-is-zero base.qcow2 a2.raw',
      'convert -n -O qcow2 odd.raw base.qcow2',
      'convert -O qcow2 -o data_file=d a.raw x',
      'convert -t none -T none a.raw x',
      'convert -t writethrough -T directsync -O qcow2 a.raw x',
      'convert -t writeback -T unsafe a.raw x',
      'convert -U base.qcow2 x',
      'convert -q -p a.raw x',
      'convert -r 1G a.raw x',
      'convert -C a.raw x',
      'convert --salvage a.raw x',
      'convert -o size=3 a.raw x',
      'convert a.raw a2.raw',
      'convert --bitmaps -O qcow2 base.qcow2 x',
    ]) {
      fixtures.sameOnCopies('a.raw a2.raw odd.raw base.qcow2 top.qcow2 packed.qcow2 snapshots.qcow2', line)
    }
  })

  describe('convert, refused', () => {
    for (const line of [
      'convert -t foo a.raw x',
      'convert -n a.raw nofile',
      'convert -n a.raw odd.raw',
      'convert -n -O qcow2 a.raw odd.raw',
      'convert -n -O qcow2 a.raw base.qcow2',
      'convert -n -O zzz a.raw odd.raw',
      'convert -n -c a.raw a2.raw',
      'convert a.raw /nodir/x',
      'convert -O qcow2 a.raw /nodir/x',
      'convert a.raw .',
      'convert a.raw a.raw',
      'convert base.qcow2 a.raw a.raw base.qcow2',
      'convert top.qcow2 base.qcow2',
      'convert -O qcow2 -B nofile -F qcow2 a.raw x',
      'convert -O qcow2 -o cluster_size=3 a.raw x',
      'convert -O qcow2 -o preallocation=foo a.raw x',
      'convert --bitmaps base.qcow2 x',
    ]) {
      fixtures.sameOnCopies('a.raw a2.raw odd.raw base.qcow2 top.qcow2', line, { files: false })
    }
  })

  describe('convert -c', () => {
    // Node's deflate and QEMU's zlib pack the same; the layout is QEMU's.
    for (const line of ['convert -c -O qcow2 a.raw x', 'convert -c -O qcow2 -o cluster_size=4k base.qcow2 x']) {
      fixtures.sameOnCopies('a.raw base.qcow2', [line, 'info x', 'check x', 'compare a.raw x'], { files: false })
    }
  })

  describe('resize', () => {
    for (const line of [
      'resize -f raw a.raw 20M',
      'resize a.raw +512k',
      'resize -f raw a.raw 512k',
      'resize --shrink -f raw a.raw 512k',
      'resize -q -f raw a.raw 1000',
      'resize -f raw a.raw 17000000',
      'resize a.raw -1M',
      'resize a.raw -100M',
      'resize a.raw 0',
      'resize a.raw 8E',
      'resize -f raw --preallocation=metadata a.raw 20M',
      'resize -f raw --preallocation=full a.raw 20M',
      'resize -f raw --preallocation=falloc a.raw 20M',
      'resize -f raw --preallocation=full a.raw 2M',
      'resize -- a.raw -5',
      'resize base.qcow2 20M',
      'resize base.qcow2 +1000',
      'resize base.qcow2 1T',
      'resize base.qcow2 5M',
      'resize --shrink base.qcow2 5M',
      'resize --shrink base.qcow2 -- -5M',
      'resize --preallocation=metadata base.qcow2 20M',
      'resize --preallocation=full base.qcow2 20M',
      'resize --preallocation=falloc base.qcow2 20M',
      'resize base.qcow2 10M',
      'resize top.qcow2 20M',
      'resize --shrink snapshots.qcow2 1M',
      'resize snapshots.qcow2 20M',
      'resize v2.qcow2 20M',
      'resize nofile 3',
      'resize -f zzz a.raw 3M',
    ]) {
      fixtures.sameOnCopies('a.raw base.qcow2 top.qcow2 snapshots.qcow2 v2.qcow2', line)
    }
  })

  describe('snapshot', () => {
    // The times of new snapshots differ.
    const timeless = (text: string): string => text.replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d/g, '(time)')
    for (const lines of [
      [
        'snapshot -c one base.qcow2',
        'snapshot -l base.qcow2',
        'check base.qcow2',
        'snapshot -c one base.qcow2',
        'snapshot -l base.qcow2',
      ],
      ['snapshot -c x v2.qcow2', 'info v2.qcow2'],
      ['snapshot -q -c x a.raw'],
      ['snapshot -d x a.raw'],
      [
        'snapshot -c a narrow.qcow2',
        'snapshot -c b narrow.qcow2',
        'snapshot -c c narrow.qcow2',
        'snapshot -a a narrow.qcow2',
        'snapshot -l narrow.qcow2',
      ],
    ]) {
      fixtures.sameOnCopies('a.raw base.qcow2 v2.qcow2 narrow.qcow2', lines, { files: false, normalize: timeless })
    }
    for (const lines of [
      ['snapshot -a one snapshots.qcow2', 'info snapshots.qcow2', 'check snapshots.qcow2'],
      ['snapshot -a 2 snapshots.qcow2', 'check snapshots.qcow2'],
      ['snapshot -d one snapshots.qcow2', 'snapshot -l snapshots.qcow2', 'check snapshots.qcow2'],
      [
        'snapshot -d 2 snapshots.qcow2',
        'snapshot -d two snapshots.qcow2',
        'snapshot -d one snapshots.qcow2',
        'info snapshots.qcow2',
        'check snapshots.qcow2',
      ],
      ['snapshot -d none snapshots.qcow2'],
      ['snapshot -a none snapshots.qcow2'],
      ['snapshot snapshots.qcow2'],
      ['snapshot -c x nofile'],
      ['snapshot -U -a one snapshots.qcow2'],
    ]) {
      // Which clusters new tables take is our own affair here, and freed ones are not given back to the host.
      fixtures.sameOnCopies('snapshots.qcow2', lines, {
        files: false,
        normalize: (text) => text.replace(/^disk size: .*/m, ''),
      })
    }
  })

  describe('check -r', () => {
    for (const image of ['leaky.qcow2', 'corrupt.qcow2', 'both.qcow2']) {
      for (const line of [
        'check',
        'check --output=json',
        'check -q',
        'check -r leaks',
        'check -r all',
        'check -r all --output=json',
        'check -q -r all',
      ]) {
        // A rebuilt refcount table may lie elsewhere.
        fixtures.sameOnCopies(image, [`${line} ${image}`, `check ${image}`], { files: image === 'leaky.qcow2' })
      }
    }
    fixtures.sameOnCopies('a.raw', 'check -r all -f raw a.raw')
    fixtures.sameOnCopies('base.qcow2', 'check -U -r all base.qcow2')
  })
})

/** Copies of one image: with clusters that are counted and not used, with used ones that are not counted, and with both. */
function makeDamaged(fixtures: Fixtures): void {
  const image = readFileSync(fixtures.path('base.qcow2'))
  const l2 = Number(image.readBigUInt64BE(Number(image.readBigUInt64BE(40))) & 0x00ff_ffff_ffff_fe00n)
  const refcounts = Number(image.readBigUInt64BE(Number(image.readBigUInt64BE(48))))
  const leaky = Buffer.from(image)
  leaky.fill(0, l2, l2 + 8)
  writeFileSync(fixtures.path('leaky.qcow2'), leaky)
  const corrupt = Buffer.from(image)
  const second = Number(image.readBigUInt64BE(l2 + 8) & 0x00ff_ffff_ffff_fe00n)
  corrupt.writeUInt16BE(0, refcounts + 2 * (second / 65536))
  writeFileSync(fixtures.path('corrupt.qcow2'), corrupt)
  corrupt.fill(0, l2, l2 + 8)
  writeFileSync(fixtures.path('both.qcow2'), corrupt)
}
