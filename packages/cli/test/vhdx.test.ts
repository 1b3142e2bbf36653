/** VHDX through the command: what can be seen is what qemu-img shows. */
import { closeSync, copyFileSync, openSync, truncateSync, writeSync } from 'node:fs'
import { beforeAll, describe } from 'vitest'
import { describeWith } from '../../engine/test/support/process.ts'
import { Fixtures } from './support/differential.ts'

describeWith(['qemu-img', 'qemu-io'], 'vhdx beside qemu-img', () => {
  const fixtures = new Fixtures()

  /** A copy of `small.vhdx` with one entry of its table changed. */
  function bend(name: string, block: number, entry: bigint): void {
    copyFileSync(fixtures.path('small.vhdx'), fixtures.path(name))
    const bytes = new Uint8Array(8)
    new DataView(bytes.buffer).setBigUint64(0, entry, true)
    const file = openSync(fixtures.path(name), 'r+')
    writeSync(file, bytes, 0, 8, (2 << 20) + block * 8)
    closeSync(file)
  }

  beforeAll(async () => {
    await fixtures.qemuImg('create -q -f vhdx small.vhdx -o block_size=1M 5M')
    await fixtures.qemuIo('small.vhdx', 'write -P 1 1M 64k', 'write -P 2 3M 4k')
    await fixtures.qemuImg('create -q -f vhdx dynamic.vhdx 20M')
    await fixtures.qemuIo('dynamic.vhdx', 'write -P 4 9M 3M')
    await fixtures.qemuImg('create -q -f vhdx -o subformat=fixed fixed.vhdx 3M')
    await fixtures.qemuIo('fixed.vhdx', 'write -P 3 1M 64k')
    await fixtures.qemuImg('create -q -f vhdx -o block_size=1M empty.vhdx 0')
    await fixtures.qemuImg('convert -f vhdx -O raw small.vhdx small.raw')
    await fixtures.qemuImg('convert -f vhdx -O qcow2 small.vhdx small.qcow2')
    await fixtures.qemuImg('create -q -f qcow2 -b small.vhdx -F vhdx over.qcow2')
    await fixtures.qemuIo('over.qcow2', 'write -P 9 64k 64k')
    bend('outside.vhdx', 0, (100n << 20n) | 6n)
    copyFileSync(fixtures.path('small.vhdx'), fixtures.path('cut.vhdx'))
    truncateSync(fixtures.path('cut.vhdx'), (9 << 20) + 4096)
    bend('headless.vhdx', 0, 2n)
    truncateSync(fixtures.path('headless.vhdx'), 70_000)
  })

  describe('reading', () => {
    for (const file of ['small.vhdx', 'dynamic.vhdx', 'fixed.vhdx', 'empty.vhdx']) {
      fixtures.same(`info ${file}`)
      fixtures.same(`info -f vhdx --output=json ${file}`)
      fixtures.same(`map ${file}`)
      fixtures.same(`map --output=json ${file}`)
      fixtures.same(`check ${file}`)
      fixtures.same(`check --output=json ${file}`)
    }
    fixtures.same('map --output=json over.qcow2')
    fixtures.same('info --backing-chain over.qcow2')
    fixtures.same('check over.qcow2')
    fixtures.same('snapshot -l small.vhdx')
    fixtures.same('measure -O qcow2 small.vhdx')
    fixtures.same('measure -O raw small.vhdx')
    fixtures.same('measure -O vhdx small.vhdx')
    fixtures.same('compare small.vhdx small.raw')
    fixtures.same('compare -s small.vhdx small.qcow2')
    fixtures.same('compare small.vhdx fixed.vhdx')
    fixtures.same('info -f vhdx small.raw')
    fixtures.same('info headless.vhdx')
    fixtures.same('info -f qcow2 small.vhdx')
    fixtures.same('check outside.vhdx')
    fixtures.same('check --output=json outside.vhdx')
    fixtures.same('check cut.vhdx')
    fixtures.same('create -f vhdx -o help x')
    fixtures.same('create -f vhdx -o help')
  })

  describe('writing', () => {
    const noFiles = { files: false }
    fixtures.sameOnCopies('', 'create -f vhdx new.vhdx 5M', noFiles)
    fixtures.sameOnCopies('', 'create -q -f vhdx new.vhdx 5M', noFiles)
    for (const options of [
      'subformat=fixed',
      'subformat=dynamic,block_size=2M',
      'subformat=thin',
      'block_size=3M',
      'block_size=1000',
      'block_size=1G',
      'log_size=100',
      'log_size=0',
      'log_size=5G',
      'block_state_zero=off',
      'block_state_zero=maybe',
      'preallocation=full',
      'cluster_size=64k',
      'backing_file=small.vhdx,backing_fmt=vhdx',
    ]) {
      fixtures.sameOnCopies('small.vhdx', `create -f vhdx -o ${options} new.vhdx 3M`, noFiles)
    }
    fixtures.sameOnCopies('', 'create -f vhdx new.vhdx 65T', noFiles)
    fixtures.sameOnCopies('', 'create -f vhdx -o subformat=thin new.vhdx 65T', noFiles)
    fixtures.sameOnCopies('', 'create -f vhdx new.vhdx', noFiles)
    fixtures.sameOnCopies('small.vhdx', 'create -f vhdx -b small.vhdx -F vhdx new.vhdx', noFiles)
    fixtures.sameOnCopies('small.vhdx', 'create -f qcow2 -b small.vhdx -F vhdx new.qcow2')
    fixtures.sameOnCopies(
      'small.vhdx',
      ['convert -O vhdx small.vhdx new.vhdx', 'map new.vhdx', 'check new.vhdx'],
      noFiles,
    )
    fixtures.sameOnCopies('small.raw', ['convert -p -S 0 -O vhdx small.raw new.vhdx', 'check new.vhdx'], noFiles)
    fixtures.sameOnCopies(
      'small.qcow2',
      ['convert -O vhdx -o subformat=fixed small.qcow2 new.vhdx', 'check new.vhdx'],
      noFiles,
    )
    fixtures.sameOnCopies('small.vhdx', ['convert -O raw small.vhdx new.raw', 'convert -O qcow2 small.vhdx new.qcow2'])
    fixtures.sameOnCopies('small.vhdx', ['convert -c -O qcow2 small.vhdx new.qcow2'])
    fixtures.sameOnCopies('over.qcow2 small.vhdx', ['convert -O raw over.qcow2 new.raw'])
    fixtures.sameOnCopies('small.vhdx', 'convert -c -O vhdx small.vhdx new.vhdx', noFiles)
    fixtures.sameOnCopies('small.vhdx', 'convert -O vhdx -B small.vhdx -F vhdx small.vhdx new.vhdx', noFiles)
    fixtures.sameOnCopies('small.vhdx', 'convert -l x -O vhdx small.vhdx new.vhdx', noFiles)
    fixtures.sameOnCopies('small.vhdx', 'resize small.vhdx 10M')
    fixtures.sameOnCopies('small.vhdx', 'resize --preallocation=full small.vhdx +10M')
    fixtures.sameOnCopies('small.vhdx', 'check -r all small.vhdx')
    fixtures.sameOnCopies('small.vhdx', 'check -r leaks --output=json small.vhdx')
    fixtures.sameOnCopies('small.vhdx', 'snapshot -c one small.vhdx')
    fixtures.sameOnCopies(
      'small.vhdx dynamic.vhdx',
      ['convert -n -O vhdx small.vhdx dynamic.vhdx', 'compare small.vhdx dynamic.vhdx'],
      noFiles,
    )
    fixtures.sameOnCopies('empty.vhdx', ['convert -O vhdx empty.vhdx new.vhdx', 'compare empty.vhdx new.vhdx'], noFiles)
  })
})
