/** `-p`: the percentages that qemu-img prints, byte for byte. It counts in guest order, so they do not depend on time. */
import { closeSync, copyFileSync, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { beforeAll, describe } from 'vitest'
import { describeWith } from '../../engine/test/support/process.ts'
import { Fixtures } from './support/differential.ts'

const mebibyte = 1 << 20

describeWith(['qemu-img', 'qemu-io'], 'progress, as qemu-img prints it', () => {
  const fixtures = new Fixtures()

  beforeAll(async () => {
    writeAt('a.raw', [65536, 1], [4096, 5], [3 * mebibyte, 9], [5 * mebibyte, 20])
    truncateSync(fixtures.path('a.raw'), 32 * mebibyte)
    copyFileSync(fixtures.path('a.raw'), fixtures.path('b.raw'))
    writeAt('b.raw', [1, 22])
    copyFileSync(fixtures.path('a.raw'), fixtures.path('longer.raw'))
    truncateSync(fixtures.path('longer.raw'), 100 * mebibyte)
    copyFileSync(fixtures.path('longer.raw'), fixtures.path('other-end.raw'))
    writeAt('other-end.raw', [1, 90])
    writeFileSync(fixtures.path('nothing.raw'), '')
    writeFileSync(fixtures.path('odd.raw'), 'x'.repeat(1000))
    await fixtures.qemuImg('convert -f raw -O qcow2 a.raw a.qcow2')
    await fixtures.qemuImg('convert -f raw -O qcow2 -c a.raw packed.qcow2')
    await fixtures.qemuImg('create -q -f qcow2 -b a.qcow2 -F qcow2 overlay.qcow2 40M')
    await fixtures.qemuImg('create -q -f qcow2 huge.qcow2 5G')
    await fixtures.qemuImg('create -q -f qcow2 -o cluster_size=4k fine.qcow2 1G')
    await fixtures.qemuImg('create -q -f qcow2 pieces.qcow2 32M')
    await fixtures.qemuIo('pieces.qcow2', ...Array.from({ length: 150 }, (_, i) => `write -P 3 ${i * 192}k 64k`))
    await fixtures.qemuImg('convert -O raw pieces.qcow2 pieces.raw')
    await fixtures.qemuImg('convert -O qcow2 -c pieces.qcow2 packed-pieces.qcow2')
  })

  function writeAt(name: string, ...pieces: [length: number, atMebibyte: number][]): void {
    const file = openSync(fixtures.path(name), name === 'a.raw' ? 'w' : 'r+')
    for (const [length, at] of pieces) writeSync(file, `${at % 10}`.repeat(length), at * mebibyte)
    closeSync(file)
  }

  describe('compare', () => {
    for (const pair of [
      'a.raw a.qcow2',
      'a.raw a.raw',
      'a.raw b.raw',
      'b.raw packed.qcow2',
      'packed.qcow2 a.qcow2',
      'longer.raw a.raw',
      'a.qcow2 longer.raw',
      'longer.raw other-end.raw',
      'overlay.qcow2 a.raw',
      'packed.qcow2 overlay.qcow2',
      'nothing.raw nothing.raw',
      'nothing.raw packed.qcow2',
      'packed.qcow2 nothing.raw',
      'odd.raw odd.raw',
      'odd.raw nothing.raw',
      'huge.qcow2 huge.qcow2',
      'huge.qcow2 a.raw',
      'fine.qcow2 fine.qcow2',
      'pieces.raw pieces.qcow2',
      'pieces.raw packed-pieces.qcow2',
      'nothing.raw nofile',
    ]) {
      fixtures.same(`compare -p ${pair}`)
      fixtures.same(`compare -p -s ${pair}`)
    }
    fixtures.same('compare -q -p a.raw a.qcow2')
  })

  describe('convert', () => {
    for (const source of ['a.raw', 'a.qcow2', 'packed.qcow2', 'overlay.qcow2', 'pieces.qcow2', 'packed-pieces.qcow2']) {
      for (const options of ['', '-O qcow2', '-O qcow2 -o preallocation=metadata', '-C', '-m 1']) {
        fixtures.sameOnCopies('a.qcow2 '.concat(source), `convert -p ${options} ${source} x`, { files: false })
      }
    }
    for (const line of [
      'convert -p -O qcow2 -c a.raw x',
      'convert -p -O qcow2 -c overlay.qcow2 x',
      'convert -p -S 0 odd.raw x',
      'convert -p nothing.raw x',
      'convert -p huge.qcow2 x',
      'convert -p nofile x',
      'convert -p -q a.raw x',
    ]) {
      fixtures.sameOnCopies('a.raw a.qcow2 overlay.qcow2 odd.raw nothing.raw huge.qcow2', line, { files: false })
    }
  })

  describe('verbs without it refuse it', () => {
    for (const line of ['resize -p a.raw 3M', 'check -p a.qcow2', 'create -p x 1M', 'map -p a.raw']) fixtures.same(line)
  })
})
