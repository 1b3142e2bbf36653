/** VMDK through the command: what can be seen is what qemu-img shows. */
import { beforeAll, describe } from 'vitest'
import { describeWith } from '../../engine/test/support/process.ts'
import { Fixtures } from './support/differential.ts'

const withoutFiles = { files: false }

describeWith(['qemu-img', 'qemu-io'], 'vmdk beside qemu-img', () => {
  const fixtures = new Fixtures()
  beforeAll(async () => {
    await fixtures.qemuImg('create -q -f vmdk base.vmdk 5M')
    await fixtures.qemuIo('base.vmdk', 'write -P 1 0 130k', 'write -P 2 3M 512')
    await fixtures.qemuImg('create -q -f vmdk -b base.vmdk -F vmdk over.vmdk 6M')
    await fixtures.qemuIo('over.vmdk', 'write -P 3 64k 130k', 'write -P 4 5M 512')
    await fixtures.qemuImg('create -q -f vmdk -o zeroed_grain=on zeroed.vmdk 5M')
    await fixtures.qemuIo('zeroed.vmdk', 'write -P 3 64k 130k', 'write -z 0 512k')
    await fixtures.qemuImg('create -q -f vmdk -o subformat=monolithicFlat flat.vmdk 5M')
    await fixtures.qemuIo('flat.vmdk', 'write -P 3 64k 130k')
    await fixtures.qemuImg('create -q -f vmdk -o subformat=twoGbMaxExtentSparse split.vmdk 3G')
    await fixtures.qemuIo('split.vmdk', 'write -P 3 64k 130k', 'write -P 5 2147450880 64k')
    await fixtures.qemuImg('convert -O vmdk -o subformat=streamOptimized base.vmdk stream.vmdk')
    await fixtures.qemuImg('convert -O qcow2 base.vmdk base.qcow2')
  })

  describe('reading', () => {
    for (const file of ['base.vmdk', 'over.vmdk', 'zeroed.vmdk', 'flat.vmdk', 'split.vmdk', 'stream.vmdk']) {
      fixtures.same(`info ${file}`)
      fixtures.same(`info -f vmdk --output=json ${file}`)
      fixtures.same(`map --output=json ${file}`)
      fixtures.same(`check ${file}`)
    }
    fixtures.same('map base.vmdk')
    fixtures.same('info --backing-chain over.vmdk')
    fixtures.same('info split-s001.vmdk')
    fixtures.same('check --output=json base.vmdk')
    fixtures.same('check -r all base.vmdk')
    fixtures.same('snapshot -l base.vmdk')
    fixtures.same('measure -O qcow2 base.vmdk')
    fixtures.same('measure -O vmdk base.vmdk')
    fixtures.same('compare base.vmdk base.qcow2')
    fixtures.same('compare base.vmdk over.vmdk')
    fixtures.sameOnCopies('base.vmdk over.vmdk', 'convert -O raw over.vmdk out.raw')
    fixtures.sameOnCopies('stream.vmdk', 'convert -O qcow2 stream.vmdk out.qcow2')
  })

  describe('making', () => {
    fixtures.same('create -f vmdk -o help')
    fixtures.same('create -f vmdk -o help x')
    for (const options of [
      '',
      '-o subformat=monolithicFlat',
      '-o subformat=twoGbMaxExtentFlat',
      '-o subformat=streamOptimized',
      '-o zeroed_grain=on',
      '-o compat6',
      '-o adapter_type=lsilogic,hwversion=10,toolsversion=123',
      '-o subformat=foo',
      '-o subformat=vmfsThin',
      '-o adapter_type=foo',
      '-o compat6,hwversion=3',
      '-o subformat=monolithicFlat,zeroed_grain=on',
      '-b base.vmdk -F vmdk',
      '-b base.qcow2 -F qcow2',
      '-u -b nofile.vmdk -F vmdk',
      '-b base.vmdk',
      '-b base.vmdk -F vmdk -o subformat=monolithicFlat',
    ]) {
      // Content identities are random; the engine's tests compare the files.
      fixtures.sameOnCopies('base.vmdk base.qcow2', `create -f vmdk ${options} x.vmdk 5M`, withoutFiles)
    }
    fixtures.sameOnCopies('base.vmdk', 'resize base.vmdk +1M')
    for (const options of [
      '',
      '-c',
      '-S 0',
      '-o subformat=streamOptimized',
      '-o subformat=twoGbMaxExtentSparse',
      '-o subformat=vmfs',
    ]) {
      const lines = [`convert -O vmdk ${options} base.qcow2 x.vmdk`, 'compare base.qcow2 x.vmdk', 'check x.vmdk']
      fixtures.sameOnCopies('base.qcow2', lines, withoutFiles)
    }
    const over = ['convert -O vmdk -B base.vmdk -F vmdk over.vmdk x.vmdk', 'map --output=json x.vmdk']
    fixtures.sameOnCopies('base.vmdk over.vmdk', over, withoutFiles)
  })
})
