/** Arguments: what qemu-img says of wrong ones, letter for letter. */
import { truncateSync, writeFileSync } from 'node:fs'
import { beforeAll, describe } from 'vitest'
import { describeWith } from '../../engine/test/support/process.ts'
import { Fixtures } from './support/differential.ts'

describeWith(['qemu-img'], 'wrong arguments, as qemu-img answers them', () => {
  const fixtures = new Fixtures()
  beforeAll(async () => {
    writeFileSync(fixtures.path('a.raw'), '')
    truncateSync(fixtures.path('a.raw'), 1 << 20)
    await fixtures.qemuImg('create -q -f qcow2 a.qcow2 10M')
  })

  describe('before the verb', () => {
    for (const line of ['', 'nope', '-z', '--foo', '-T', '--trace', '--ver=3', '-- nope', '--']) fixtures.same(line)
  })

  describe('options', () => {
    for (const line of [
      'create -z',
      'create -zq',
      'create -qz a',
      'create -qf',
      'create -f',
      'create --obj',
      'create --foo',
      'create --help=3',
      'create -q-',
      'check --fo=raw --output x',
      'check --output',
      'check -r foo a.qcow2',
      'check --repair foo a.qcow2',
      'check --repair',
      'check -T foo a.qcow2',
      'check --output=foo a.qcow2',
      'check a.qcow2 --output foo',
      'compare -X a b',
      'compare a.raw -T foo a.raw',
      'convert -S',
      'convert -S 3 a.raw x',
      'convert -S 17M a.raw x',
      'convert -S 1Z a.raw x',
      'convert -m 17 a.raw x',
      'convert -m 0 a.raw x',
      'convert -m x a.raw x',
      'convert -r 1Z a.raw x',
      'convert -T foo a.raw x',
      'convert -l snapshot.foo=1 a.qcow2 x',
      "convert -o '' a.raw x",
      'convert -o , a.raw x',
      'convert -o size=3, a.raw x',
      'convert -o size=3,,, a.raw x',
      'map -s 1Z a.raw',
      'map -s -1 a.raw',
      'map -l 9E a.raw',
      'map --start-offset a.raw',
      'map --output=x a.raw',
      'info --output=x a.raw',
      'info --output a.raw',
      'info --ou json a.raw',
      'info -f=raw a.raw',
      'snapshot -l -c x a.qcow2',
      'snapshot -a x -d x a.qcow2',
      'snapshot -c',
      'resize --preallocation=foo a.raw 3M',
      'resize -z a.raw 3M',
      'resize a.raw 1Z',
      'resize a.raw +',
      "resize a.raw ''",
      'measure --size 1Z',
      'measure --size 8E',
      'measure --size 16E',
      'measure --size 1M --output=x',
    ]) {
      fixtures.same(line)
    }
  })

  describe('operands', () => {
    for (const line of [
      'create',
      'create x 1M 2',
      'create x 1Z',
      'create x -- 1M 2M 3M',
      'create x 16E',
      'create x 8E',
      'create x 1.5',
      "create x ''",
      'create -f raw x -5',
      'check',
      'check a b',
      'compare',
      'compare a.raw',
      'compare a b c',
      'convert',
      'convert a.raw',
      'convert -O qcow2',
      'info',
      'info a b',
      'info -- -- a.raw',
      'map',
      'map a b',
      'measure',
      'measure a b',
      'measure -l foo',
      'measure --size 1M a.raw',
      'measure -O qcow2 -o help',
      'resize',
      'resize a.raw',
      'resize -h',
      'resize a.raw 3 4',
      'snapshot',
      'snapshot -l',
      'snapshot -l a b',
    ]) {
      fixtures.same(line)
    }
  })

  describe('order and abbreviation', () => {
    for (const line of [
      'info a.raw --output json',
      'info --output=json --output=human a.raw',
      'info --out=json a.raw',
      'info -- a.raw',
      '-- info a.raw',
      'info -fraw a.raw',
      'info -Ufraw a.raw',
      'info --form raw --back a.raw',
      'measure --f a.raw',
      'check a.qcow2 -q --rep all',
    ]) {
      fixtures.same(line)
    }
    fixtures.same('info a.raw --output=json', { env: { POSIXLY_CORRECT: '1' } })
  })

  describe('measure leaves complaints to getopt', () => {
    const complaint = (text: string): string => (text.startsWith('qemu-img version') ? '' : text)
    for (const line of [
      'measure -z',
      'measure --foo',
      'measure --output',
      'measure -f',
      'measure --force=3',
      'measure --o',
    ]) {
      fixtures.same(line, { normalize: complaint })
    }
  })

  describe('combinations', () => {
    for (const line of [
      'convert -c -C a.raw x',
      'convert -S 0 -C a.raw x',
      'convert -C --salvage a.raw x',
      'convert --target-is-zero a.raw x',
      'convert --skip-broken-bitmaps a.raw x',
      'convert -n -o size=3 a.raw a.raw',
      'convert -B a.qcow2 -O qcow2 a.raw x',
      'convert -B a.qcow2 -F qcow2 -O raw a.raw x',
      'convert -F qcow2 a.raw x',
      'convert -O qcow2 -o backing_file=a.qcow2 a.raw x',
      'convert -B a.qcow2 -F qcow2 -O qcow2 a.raw a.raw x',
      'convert --bitmaps a.raw x',
      'convert --bitmaps a.qcow2 a.raw x',
      'convert -c a.raw x',
      'convert -c -O qcow2 -o preallocation=full a.raw x',
      'convert -l foo a.qcow2 x',
      'convert -l foo a.raw x',
      'convert -l snapshot.id=1 a.qcow2 x',
      'convert -l snapshot.id=1,snapshot.name=x a.qcow2 x',
      'convert -l foo a.qcow2 a.qcow2 x',
      'convert -O zzz a.raw x',
      'convert -O raw,foo a.raw x',
      'convert -O qcow2 -o foo=1 a.raw x',
      'convert -O qcow2 -o lazy_refcounts=maybe a.raw x',
      'convert -f zzz a.raw x',
      'convert -f qcow2 a.raw x',
      'convert nofile x',
      'convert a.raw foo:x',
    ]) {
      fixtures.same(line)
    }
  })
})
