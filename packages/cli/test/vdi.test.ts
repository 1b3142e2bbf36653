/** VDI through the command: what can be seen is what qemu-img shows. */
import { beforeAll, describe } from 'vitest'
import { describeWith } from '../../engine/test/support/process.ts'
import { Fixtures } from './support/differential.ts'

describeWith(['qemu-img', 'qemu-io'], 'vdi beside qemu-img', () => {
  const fixtures = new Fixtures()
  beforeAll(async () => {
    await fixtures.qemuImg('create -q -f vdi dynamic.vdi 5M')
    await fixtures.qemuIo('dynamic.vdi', 'write -P 1 1M 64k', 'write -P 2 3M 4k')
    await fixtures.qemuImg('create -q -f vdi -o static=on static.vdi 3M')
    await fixtures.qemuIo('static.vdi', 'write -P 3 1M 64k')
    await fixtures.qemuImg('create -q -f vdi empty.vdi 0')
    await fixtures.qemuImg('convert -f vdi -O raw dynamic.vdi dynamic.raw')
    await fixtures.qemuImg('convert -f vdi -O qcow2 dynamic.vdi dynamic.qcow2')
  })

  describe('reading', () => {
    for (const file of ['dynamic.vdi', 'static.vdi', 'empty.vdi']) {
      fixtures.same(`info ${file}`)
      fixtures.same(`info -f vdi --output=json ${file}`)
      fixtures.same(`map ${file}`)
      fixtures.same(`map --output=json ${file}`)
      fixtures.same(`check ${file}`)
      fixtures.same(`check --output=json ${file}`)
    }
    fixtures.same('snapshot -l dynamic.vdi')
    fixtures.same('measure -O qcow2 dynamic.vdi')
    fixtures.same('measure -O vdi dynamic.vdi')
    fixtures.same('compare dynamic.vdi dynamic.raw')
    fixtures.same('compare -s dynamic.vdi dynamic.qcow2')
    fixtures.same('compare dynamic.vdi static.vdi')
    fixtures.same('info -f vdi dynamic.raw')
    fixtures.same('info -f qcow2 dynamic.vdi')
    fixtures.same('create -f vdi -o help x')
    fixtures.same('create -f vdi -o help')
  })

  describe('writing', () => {
    const noFiles = { files: false }
    fixtures.sameOnCopies('', 'create -f vdi new.vdi 5M', noFiles)
    fixtures.sameOnCopies('', 'create -q -f vdi new.vdi 5M', noFiles)
    fixtures.sameOnCopies('', ['create -f vdi -o static new.vdi 5000000', 'info new.vdi'], noFiles)
    fixtures.sameOnCopies('', 'create -f vdi -o static=maybe new.vdi 5M', noFiles)
    fixtures.sameOnCopies('', 'create -f vdi -o static=on,preallocation=full new.vdi 3M', noFiles)
    fixtures.sameOnCopies('', 'create -f vdi -o cluster_size=64k new.vdi 5M', noFiles)
    fixtures.sameOnCopies('', 'create -f vdi new.vdi 600T', noFiles)
    fixtures.sameOnCopies('', 'create -f vdi new.vdi', noFiles)
    fixtures.sameOnCopies('dynamic.vdi', 'create -f vdi -b dynamic.vdi -F vdi new.vdi', noFiles)
    fixtures.sameOnCopies('dynamic.vdi', 'create -f qcow2 -b dynamic.vdi -F vdi over.qcow2')
    fixtures.sameOnCopies('dynamic.vdi', 'create -f qcow2 -b dynamic.vdi over.qcow2')
    fixtures.sameOnCopies(
      'dynamic.vdi',
      ['convert -O vdi dynamic.vdi new.vdi', 'map new.vdi', 'check new.vdi'],
      noFiles,
    )
    fixtures.sameOnCopies('dynamic.raw', ['convert -S 0 -O vdi dynamic.raw new.vdi', 'map new.vdi'], noFiles)
    fixtures.sameOnCopies('dynamic.qcow2', ['convert -p -O vdi -o static=on dynamic.qcow2 new.vdi', 'check new.vdi'], {
      files: false,
    })
    fixtures.sameOnCopies('dynamic.vdi', [
      'convert -O raw dynamic.vdi new.raw',
      'convert -O qcow2 dynamic.vdi new.qcow2',
    ])
    fixtures.sameOnCopies('dynamic.vdi', 'convert -c -O vdi dynamic.vdi new.vdi')
    fixtures.sameOnCopies('dynamic.vdi', 'convert -O vdi -B dynamic.vdi -F vdi dynamic.vdi new.vdi')
    fixtures.sameOnCopies('dynamic.vdi', 'convert -l x -O vdi dynamic.vdi new.vdi')
    fixtures.sameOnCopies('dynamic.vdi', 'resize dynamic.vdi 10M')
    fixtures.sameOnCopies('dynamic.vdi', 'resize dynamic.vdi +10M')
    fixtures.sameOnCopies('dynamic.vdi', 'check -r all dynamic.vdi')
    fixtures.sameOnCopies('dynamic.vdi', 'check -r leaks --output=json dynamic.vdi')
    fixtures.sameOnCopies('dynamic.vdi', 'snapshot -c one dynamic.vdi')
    fixtures.sameOnCopies('dynamic.vdi static.vdi', ['convert -n -O vdi dynamic.vdi static.vdi'])
    fixtures.sameOnCopies('empty.vdi', ['convert -O vdi empty.vdi new.vdi', 'compare empty.vdi new.vdi'], noFiles)
  })
})
