/** Sizes in every place where one is read: what they mean, and what is said of wrong ones. How they are spelled is tested with the engine. */
import { truncateSync, writeFileSync } from 'node:fs'
import { beforeAll, describe } from 'vitest'
import { describeWith } from '../../engine/test/support/process.ts'
import { Fixtures } from './support/differential.ts'

/** One of each kind. */
const sizes = ['+4k', '0x1000', '0x10k', '3.3k', '.5k', '1.5', '0x1.8k', '16E', '99999999999999999999k', ' 4k', '4k ']

describeWith(['qemu-img'], 'sizes, as qemu-img takes them', () => {
  const fixtures = new Fixtures()
  beforeAll(async () => {
    writeFileSync(fixtures.path('a.raw'), 'data')
    truncateSync(fixtures.path('a.raw'), 64 << 10)
    await fixtures.qemuImg('create -q -f qcow2 a.qcow2 1M')
  })

  describe('of images', () => {
    for (const size of sizes) {
      fixtures.sameOnCopies('a.raw', [['create', 'x', size]])
      fixtures.sameOnCopies('a.raw', [['resize', '-f', 'raw', 'a.raw', size]])
    }
    for (const size of ['+4k', '0x10k', '.5k', '3.3k', '16E', '7.99999E', '9223372036854775807']) {
      fixtures.sameOnCopies('a.raw', [['resize', '-f', 'raw', 'a.raw', `+${size}`]])
      fixtures.sameOnCopies('a.raw', [['resize', '-f', 'raw', '--shrink', 'a.raw', `-${size}`]])
    }
    for (const size of ['1P', '1E', '9223372035781033984', '9223372035781033985', '9223372036854775807', '8E']) {
      fixtures.sameOnCopies('a.raw', [['resize', '-f', 'raw', 'a.raw', size]])
      // A failed creation leaves nothing here.
      for (const format of ['raw', 'qcow2']) {
        if (size === '1P' && format === 'qcow2') continue
        fixtures.sameOnCopies('', [['create', '-f', format, '-o', `size=${size}`, 'x']], { files: false })
      }
    }
    fixtures.sameOnCopies('a.qcow2', 'resize a.qcow2 8E')
    fixtures.sameOnCopies('a.qcow2', 'resize a.qcow2 9223372036854775807')
    fixtures.sameOnCopies('', 'create -f qcow2 -o cluster_size=512 x 1T', { files: false })
    fixtures.sameOnCopies('', 'create -o size=18446744073709551615 x')
    fixtures.sameOnCopies('', 'create -f qcow2 -o size=18446744073709551615,cluster_size=18446744073709551615 x 5')
  })

  describe('in options', () => {
    for (const size of sizes) {
      fixtures.sameOnCopies('', [['create', '-f', 'qcow2', '-o', `cluster_size=${size}`, 'x', '1M']], { files: false })
    }
    for (const line of [
      'create -o size=0x10k x',
      'create -f qcow2 -o size=0x10k,cluster_size=0x20k,size=0x1k x',
      'create -f qcow2 -o cluster_size=0x10k x 0x20k',
      'create -f qcow2 -o size=0x10k x 0x20k',
      'create -f qcow2 -o size=0x10k,foo=1 x',
      'create -f qcow2 -o foo=1,size=0x10k x',
      'create -f qcow2 -o size=0x10k,refcount_bits=x x',
      'create -f qcow2 -o refcount_bits=010 x 1M',
      'create -f qcow2 -o refcount_bits=+0x10 x 1M',
      'create -f qcow2 -o refcount_bits=-16 x 1M',
      'create -f qcow2 -o refcount_bits=08 x 1M',
      'create -f qcow2 -o refcount_bits=18446744073709551616 x 1M',
      'convert -O qcow2 -o cluster_size=0x10k a.raw x',
      'measure -O qcow2 -o cluster_size=0x10k a.raw',
      'measure -O qcow2 -o size=0x1k,cluster_size=0x2k --size 0x1M',
      'measure -O qcow2 -o cluster_size=16E a.raw',
    ]) {
      fixtures.sameOnCopies('a.raw', line, { files: line.startsWith('convert') || !line.includes('foo') })
    }
  })

  describe('of ranges and requests', () => {
    for (const size of sizes) {
      fixtures.same(['map', '--output=json', '-s', size, 'a.raw'])
      fixtures.same(['map', '--output=json', '-l', size, 'a.raw'])
      fixtures.same(['measure', '--size', size])
      fixtures.sameOnCopies('a.raw', [['convert', '-S', size, 'a.raw', 'x']])
      fixtures.sameOnCopies('a.raw', [['convert', '-r', size, 'a.raw', 'x']])
    }
  })
})
