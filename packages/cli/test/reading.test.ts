/** Verbs that only read: info, map, measure, compare, check, snapshot -l. Output and exit codes as qemu-img's, in both forms. */
import { closeSync, mkdirSync, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { beforeAll, describe } from 'vitest'
import { describeWith } from '../../engine/test/support/process.ts'
import { Fixtures } from './support/differential.ts'

describeWith(['qemu-img', 'qemu-io'], 'reading, as qemu-img reads', () => {
  const fixtures = new Fixtures()

  beforeAll(async () => {
    makeRaw(fixtures.path('a.raw'))
    writeFileSync(fixtures.path('odd.raw'), 'x'.repeat(1000))
    writeFileSync(fixtures.path('empty.raw'), '')
    await fixtures.qemuImg('create -q -f qcow2 base.qcow2 10M')
    await fixtures.qemuIo('base.qcow2', 'write -P 1 0 128k', 'write -z 1M 64k', 'write -P 2 9M 1M')
    await fixtures.qemuImg('create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2')
    await fixtures.qemuIo('top.qcow2', 'write -P 3 256k 128k', 'write -z 64k 64k')
    await fixtures.qemuImg('create -q -f qcow2 -b a.raw -F raw over-raw.qcow2 12M')
    await fixtures.qemuImg('convert -c -O qcow2 base.qcow2 packed.qcow2')
    await fixtures.qemuImg('create -q -f qcow2 -o compat=0.10,cluster_size=4k v2.qcow2 3M')
    await fixtures.qemuImg('create -q -f qcow2 -o preallocation=metadata meta.qcow2 4M')
    await fixtures.qemuImg('create -q -f qcow2 -o extended_l2=on,cluster_size=64k ext.qcow2 4M')
    await fixtures.qemuIo('ext.qcow2', 'write -P 1 4k 4k', 'write -P 1 64k 64k', 'write -z 16k 4k')
    await fixtures.qemuImg('create -q -f qcow2 -o data_file=data.raw,data_file_raw=on external.qcow2 2M')
    await fixtures.qemuImg(
      'create -q -f qcow2 -o lazy_refcounts=on,refcount_bits=1,compression_type=zstd odd.qcow2 1000',
    )
    await fixtures.qemuImg('create -q -f qcow2 zero.qcow2 0')
    await fixtures.qemuImg('create -q -f qcow2 snapshots.qcow2 4M')
    await fixtures.qemuIo('snapshots.qcow2', 'write -P 1 0 1M')
    await fixtures.qemuImg('snapshot -c one snapshots.qcow2')
    await fixtures.qemuIo('snapshots.qcow2', 'write -P 2 512k 1M')
    await fixtures.qemuImg("snapshot -c 'a name with blanks and äöü' snapshots.qcow2")
    await fixtures.qemuImg('create -q -f qcow2 bitmaps.qcow2 10M')
    await fixtures.qemuImg('bitmap --add bitmaps.qcow2 first')
    await fixtures.qemuImg('bitmap --add --disable -g 32k bitmaps.qcow2 second')
    mkdirSync(fixtures.path('sub'))
    await fixtures.qemuImg('create -q -f qcow2 sub/base 5M')
    await fixtures.qemuImg('create -q -f qcow2 -b base -F qcow2 sub/over')
    await fixtures.qemuImg('create -q -f qcow2 -u -b nowhere -F qcow2 orphan.qcow2 1M')
    await fixtures.qemuImg('create -q -f qcow2 -u -b orphan.qcow2 -F qcow2 grandchild.qcow2 1M')
    await fixtures.qemuImg('create -q -f qcow2 -u -b a.raw -F qcow2 misnamed.qcow2 1M')
    await fixtures.qemuImg('create -q -f qcow2 -u -b loop2.qcow2 -F qcow2 loop1.qcow2 1M')
    await fixtures.qemuImg('create -q -f qcow2 -u -b loop1.qcow2 -F qcow2 loop2.qcow2 1M')
    await fixtures.qemuImg('create -q -f qcow2 -u -b selfish.qcow2.x -F raw selfish.qcow2 1M')
    await fixtures.qemuImg("create -q -f raw 'a, b.raw' 64k")
    await fixtures.qemuImg("create -q -f qcow2 -b 'a, b.raw' -F raw comma.qcow2")
  })

  const images = [
    'a.raw',
    'odd.raw',
    'empty.raw',
    'base.qcow2',
    'top.qcow2',
    'over-raw.qcow2',
    'packed.qcow2',
    'v2.qcow2',
    'meta.qcow2',
    'ext.qcow2',
    'external.qcow2',
    'odd.qcow2',
    'zero.qcow2',
    'snapshots.qcow2',
    'bitmaps.qcow2',
    'sub/over',
    'comma.qcow2',
  ]

  describe('info', () => {
    for (const image of images) {
      fixtures.same(['info', image])
      fixtures.same(['info', '--output=json', image])
    }
    for (const line of [
      'info --backing-chain top.qcow2',
      'info --backing-chain --output=json sub/over',
      'info --backing-chain --output=json base.qcow2',
      'info orphan.qcow2',
      'info --backing-chain orphan.qcow2',
      'info --backing-chain loop1.qcow2',
      'info -f raw base.qcow2',
      'info -f qcow2 a.raw',
      'info -f zzz a.raw',
      'info nofile',
      'info .',
      'info sub',
      'info ./a.raw',
      'info file:a.raw',
      'info file:nofile',
      'map file:a.raw',
      'info --output=json file:sub/over',
      'info foo:bar',
      'info sub/nofile/x',
      'info a.raw/x',
    ]) {
      fixtures.same(line)
    }
    fixtures.same(['info', ''])
  })

  describe('map', () => {
    for (const image of images) {
      fixtures.same(['map', image])
      fixtures.same(['map', '--output=json', image])
    }
    for (const line of [
      'map -s 4k -l 8k --output=json a.raw',
      'map -s 4k -l 8k a.raw',
      'map -s 70000 --output=json top.qcow2',
      'map -s 5 -l 100 --output=json base.qcow2',
      'map -s 8M --output=json a.raw',
      'map -s 100M a.raw',
      'map -l 0 --output=json base.qcow2',
      'map -s 5 zero.qcow2',
      'map -s 5 -l 8 --output=json zero.qcow2',
      'map -l 0 zero.qcow2',
      'map -s 8M -l 0 --output=json a.raw',
      'map nofile',
      'map orphan.qcow2',
      'map grandchild.qcow2',
    ]) {
      fixtures.same(line)
    }
  })

  describe('measure', () => {
    for (const image of images) {
      fixtures.same(['measure', image])
      fixtures.same(['measure', '-O', 'qcow2', '--output=json', image])
    }
    for (const line of [
      'measure --size 1T -O qcow2',
      'measure --size 0 -O qcow2',
      'measure --size 1000 -O raw',
      'measure --size 1000 -O qcow2 --output=json',
      'measure --size 10G -O qcow2 -o cluster_size=512',
      'measure --size 10G -O qcow2 -o cluster_size=2M,refcount_bits=1',
      'measure --size 10G -O qcow2 -o extended_l2=on',
      'measure --size 10G -O qcow2 -o preallocation=metadata',
      'measure --size 10G -O qcow2 -o preallocation=full',
      'measure --size 10G -O qcow2 -o compat=0.10',
      'measure --size 10G -O qcow2 -o data_file=x',
      'measure -O qcow2 -o backing_file=base.qcow2,backing_fmt=qcow2 top.qcow2',
      'measure -O qcow2 -o cluster_size=3 --size 1M',
      'measure -O qcow2 -o foo=1 --size 1M',
      'measure -O qcow2 -o size=2M --size 1M',
      'measure -O qcow2 -o size=20M a.raw',
      'measure -O qcow2 -o nocow=off --size 1M',
      'measure -O zzz --size 1M',
      'measure -o help --size 1',
      'measure -O qcow2 -l one snapshots.qcow2',
      'measure -O qcow2 -l 2 snapshots.qcow2',
      'measure -O qcow2 -l snapshot.id=1,snapshot.name=one snapshots.qcow2',
      'measure -l foo snapshots.qcow2',
      'measure -l foo a.raw',
      'measure nofile',
      'measure -f zzz a.raw',
    ]) {
      fixtures.same(line)
    }
  })

  describe('compare', () => {
    for (const line of [
      'compare base.qcow2 packed.qcow2',
      'compare -s base.qcow2 packed.qcow2',
      'compare base.qcow2 top.qcow2',
      'compare -q base.qcow2 top.qcow2',
      'compare a.raw base.qcow2',
      'compare -s a.raw base.qcow2',
      'compare a.raw over-raw.qcow2',
      'compare over-raw.qcow2 a.raw',
      'compare -s a.raw over-raw.qcow2',
      'compare a.raw meta.qcow2',
      'compare -s meta.qcow2 meta.qcow2',
      'compare zero.qcow2 a.raw',
      'compare empty.raw zero.qcow2',
      'compare odd.raw odd.qcow2',
      'compare -f raw -F raw base.qcow2 base.qcow2',
      'compare -f zzz a.raw a.raw',
      'compare -F zzz a.raw a.raw',
      'compare nofile a.raw',
      'compare a.raw nofile',
      'compare orphan.qcow2 a.raw',
    ]) {
      fixtures.same(line)
    }
  })

  describe('check', () => {
    for (const image of images) {
      fixtures.same(['check', image])
      fixtures.same(['check', '--output=json', image])
    }
    for (const line of [
      'check -q base.qcow2',
      'check -q --output=json base.qcow2',
      'check nofile',
      'check -f raw base.qcow2',
      'check -f qcow2 a.raw',
      'check orphan.qcow2',
      'check -q orphan.qcow2',
      'check -U --output=json orphan.qcow2',
      'check -r all orphan.qcow2',
      'check grandchild.qcow2',
      'check misnamed.qcow2',
    ]) {
      fixtures.same(line)
    }
  })

  describe('snapshot -l', () => {
    for (const line of [
      'snapshot -l snapshots.qcow2',
      'snapshot -l base.qcow2',
      'snapshot -l a.raw',
      'snapshot -l nofile',
    ]) {
      fixtures.same(line)
    }
    fixtures.same('snapshot -l snapshots.qcow2', { env: { TZ: 'America/St_Johns' } })
  })

  describe('-o help', () => {
    for (const line of [
      'create -f raw -o help',
      'create -f raw -o help x',
      'create -f qcow2 -o help',
      'create -f qcow2 -o ? x',
      'create -f qcow2 -o cluster_size=4k,help x',
      'create -f qcow2 -o help foo:x',
      'create -f zzz -o help',
      'convert -O qcow2 -o help',
      'convert -O qcow2 -o help a',
      'convert -O qcow2 -o help a b',
      'convert -o help a.raw',
      'convert -O zzz -o help',
    ]) {
      fixtures.same(line)
    }
  })
})

/** 8 MiB with data at 1 MiB and 5 MiB. */
function makeRaw(path: string): void {
  const file = openSync(path, 'w')
  writeSync(file, 'b'.repeat(65536), 1 << 20)
  writeSync(file, 'c'.repeat(4096), 5 << 20)
  closeSync(file)
  truncateSync(path, 8 << 20)
}
