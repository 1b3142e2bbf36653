/** qcow through the command: what can be seen is what qemu-img shows. */
import { beforeAll, describe } from 'vitest'
import { describeWith } from '../../engine/test/support/process.ts'
import { Fixtures } from './support/differential.ts'

describeWith(['qemu-img', 'qemu-io'], 'qcow beside qemu-img', () => {
  const fixtures = new Fixtures()
  beforeAll(async () => {
    await fixtures.qemuImg('create -q -f qcow plain.qcow 5M')
    await fixtures.qemuIo('plain.qcow', 'write -P 1 1M 64k', 'write -P 2 3M 4k')
    await fixtures.qemuImg('create -q -f qcow -b plain.qcow -F qcow over.qcow')
    await fixtures.qemuIo('over.qcow', 'write -P 3 1M 1k', 'write -P 4 2M 4k')
    await fixtures.qemuImg('convert -f qcow -O raw plain.qcow plain.raw')
    await fixtures.qemuImg('convert -f qcow -O qcow2 plain.qcow plain.qcow2')
  })

  describe('reading', () => {
    for (const file of ['plain.qcow', 'over.qcow']) {
      fixtures.same(`info ${file}`)
      fixtures.same(`info -f qcow --output=json ${file}`)
      fixtures.same(`info --backing-chain ${file}`)
      fixtures.same(`map ${file}`)
      fixtures.same(`map --output=json ${file}`)
      fixtures.same(`check ${file}`)
      fixtures.same(`check -r all --output=json ${file}`)
      fixtures.same(`snapshot -l ${file}`)
      fixtures.same(`measure -O qcow2 ${file}`)
      fixtures.same(`measure -O qcow ${file}`)
    }
    fixtures.same('compare plain.qcow plain.raw')
    fixtures.same('compare -s plain.qcow plain.qcow2')
    fixtures.same('compare plain.qcow over.qcow')
    fixtures.same('info -f qcow plain.raw')
    fixtures.same('info -f qcow plain.qcow2')
    fixtures.same('info -f qcow2 plain.qcow')
    fixtures.same('create -f qcow -o help x')
    fixtures.same('create -f qcow -o help')
  })

  describe('writing', () => {
    fixtures.sameOnCopies('', 'create -f qcow new.qcow 5M')
    fixtures.sameOnCopies('', ['create -f qcow -o size=5000000 new.qcow', 'info new.qcow'])
    fixtures.sameOnCopies('', 'create -f qcow -o preallocation=full new.qcow 5M')
    fixtures.sameOnCopies('', 'create -f qcow -o cluster_size=64k new.qcow 5M')
    fixtures.sameOnCopies('', 'create -f qcow new.qcow')
    // QEMU leaves an empty file behind.
    fixtures.sameOnCopies('', 'create -f qcow new.qcow 0', { files: false })
    fixtures.sameOnCopies('plain.qcow', 'create -f qcow -b plain.qcow -F qcow new.qcow')
    fixtures.sameOnCopies('plain.qcow', 'create -f qcow -b plain.qcow new.qcow')
    fixtures.sameOnCopies('plain.qcow', 'create -f qcow -o backing_file=plain.qcow,backing_fmt=qcow new.qcow 9M')
    fixtures.sameOnCopies('plain.qcow', ['create -f qcow2 -b plain.qcow -F qcow x.qcow2', 'map x.qcow2'])
    fixtures.sameOnCopies('plain.qcow', ['convert -O qcow plain.qcow new.qcow', 'map new.qcow', 'info new.qcow'])
    fixtures.sameOnCopies('plain.raw', ['convert -S 0 -O qcow plain.raw new.qcow', 'map new.qcow'])
    fixtures.sameOnCopies('plain.qcow over.qcow', [
      'convert -O qcow over.qcow new.qcow',
      'convert -O raw over.qcow new.raw',
      'convert -O qcow2 over.qcow new.qcow2',
    ])
    fixtures.sameOnCopies('plain.qcow over.qcow', [
      'convert -O qcow -B plain.qcow -F qcow over.qcow new.qcow',
      'map new.qcow',
    ])
    fixtures.sameOnCopies('plain.qcow', 'resize plain.qcow 10M')
    fixtures.sameOnCopies('plain.qcow', 'snapshot -c one plain.qcow')
  })
})
