/** Which file a relative name of a backing file means, beside qemu-img: with images in a folder, and with filters over them. */
import { mkdirSync } from 'node:fs'
import { beforeAll } from 'vitest'
import { describeWith } from '../../engine/test/support/process.ts'
import { Fixtures } from './support/differential.ts'

const chain = 'sub/base.raw sub/mid.qcow2 sub/top.qcow2'
const injecting =
  'driver=qcow2,file.driver=blkdebug,file.inject-error.0.event=vmstate_load,file.image.filename=sub/top.qcow2'

describeWith(['qemu-img', 'qemu-io'], 'names that images have for others', () => {
  const fixtures = new Fixtures()
  beforeAll(async () => {
    mkdirSync(fixtures.path('sub'))
    await fixtures.qemuImg('create -q -f raw sub/base.raw 1M')
    await fixtures.qemuImg('create -q -f qcow2 -b base.raw -F raw sub/mid.qcow2')
    await fixtures.qemuImg('create -q -f qcow2 -b mid.qcow2 -F qcow2 sub/top.qcow2')
    await fixtures.qemuIo('sub/top.qcow2', 'write -q -P 5 128k 64k')
    await fixtures.qemuImg('create -q -f vmdk sub/v.vmdk 1M')
  })

  for (const line of [
    `info --backing-chain --image-opts ${injecting}`,
    'info --output=json blkdebug::sub/top.qcow2',
    `map --image-opts ${injecting}`,
    'map blkdebug::sub/top.qcow2',
    'info blkdebug::sub/v.vmdk',
    `info --image-opts driver=throttle,file.driver=qcow2,file.file.filename=sub/top.qcow2`,
  ]) {
    fixtures.same(line)
  }

  const free = { files: false, normalize: (text: string) => text.replace(/disk size: .*/g, '') }
  for (const line of [
    `commit --image-opts ${injecting}`,
    `commit --image-opts -b base.raw ${injecting}`,
    'commit blkdebug::sub/top.qcow2',
    'commit -b mid.qcow2 sub/top.qcow2',
    'commit -b sub/mid.qcow2 sub/top.qcow2',
    'commit -b base.raw sub/top.qcow2',
    `rebase --image-opts -b base.raw -F raw ${injecting}`,
    `rebase --image-opts -u -b base.raw -F raw ${injecting}`,
  ]) {
    fixtures.sameOnCopies(chain, [line, 'map --output=json sub/top.qcow2', 'map sub/mid.qcow2'], free)
  }
})
