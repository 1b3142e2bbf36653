/** QED through the command: what can be seen is what qemu-img shows. */
import { readFileSync, writeFileSync } from 'node:fs'
import { beforeAll, describe } from 'vitest'
import { describeWith } from '../../engine/test/support/process.ts'
import { Fixtures } from './support/differential.ts'

describeWith(['qemu-img', 'qemu-io'], 'QED beside qemu-img', () => {
  const fixtures = new Fixtures()

  function bend(from: string, to: string, edit: (image: Buffer) => void): void {
    const image = readFileSync(fixtures.path(from))
    edit(image)
    writeFileSync(fixtures.path(to), image)
  }

  beforeAll(async () => {
    await fixtures.qemuImg('create -q -f qed plain.qed 5M')
    await fixtures.qemuIo('plain.qed', 'write -P 1 1M 64k', 'write -P 2 3M 4k', 'write -z 2M 64k')
    await fixtures.qemuImg('create -q -f qed -b plain.qed -F qed over.qed')
    await fixtures.qemuIo('over.qed', 'write -P 3 1M 1k', 'write -P 4 2560k 4k')
    await fixtures.qemuImg('convert -f qed -O raw plain.qed plain.raw')
    await fixtures.qemuImg('create -q -f qed -o cluster_size=8k,table_size=2 -b plain.raw -F raw small.qed 6M')
    await fixtures.qemuIo('small.qed', 'write -P 5 0 20k', 'write -z 1M 128k')
    bend('plain.qed', 'unclosed.qed', (image) => image.writeUInt8(2, 16))
    const table = Number(readFileSync(fixtures.path('plain.qed')).readBigUInt64LE(65_536))
    bend('plain.qed', 'lost.qed', (image) => {
      image.writeBigUInt64LE(1n << 40n, table + 16 * 8)
      image.writeUInt8(2, 16)
    })
    bend('plain.qed', 'unknown.qed', (image) => image.writeUInt8(0x48, 16))
  })

  describe('reading', () => {
    for (const file of ['plain.qed', 'over.qed', 'small.qed', 'unclosed.qed']) {
      fixtures.same(`info ${file}`)
      fixtures.same(`info -f qed --output=json ${file}`)
      fixtures.same(`info --backing-chain ${file}`)
      fixtures.same(`map ${file}`)
      fixtures.same(`map --output=json ${file}`)
      fixtures.same(`check ${file}`)
      fixtures.same(`check --output=json ${file}`)
      fixtures.same(`snapshot -l ${file}`)
      fixtures.same(`measure -O qcow2 ${file}`)
      fixtures.same(`measure -O qed ${file}`)
    }
    fixtures.same('check lost.qed')
    fixtures.same('check --output=json lost.qed')
    fixtures.same('info unknown.qed')
    fixtures.same('compare plain.qed plain.raw')
    fixtures.same('compare -s plain.qed plain.raw')
    fixtures.same('compare plain.qed over.qed')
    fixtures.same('info -f qed plain.raw')
    fixtures.same('info -f qcow2 plain.qed')
    fixtures.same('create -f qed -o help x')
    fixtures.same('create -f qed -o help')
  })

  describe('writing', () => {
    fixtures.sameOnCopies('', 'create -f qed new.qed 5M')
    fixtures.sameOnCopies('', ['create -f qed -o size=5000000,table_size=2 new.qed', 'info new.qed'], {
      // QEMU writes the zeros of the L1 table, and so takes their space.
      normalize: (text) => text.replace(/disk size: .*/, ''),
    })
    fixtures.sameOnCopies('', 'create -f qed -o preallocation=full new.qed 5M')
    // QEMU leaves an empty file behind.
    for (const options of ['cluster_size=2k', 'cluster_size=4G', 'table_size=3', 'cluster_size=64M']) {
      fixtures.sameOnCopies('', `create -f qed -o ${options} new.qed 5M`, { files: false })
    }
    fixtures.sameOnCopies('', 'create -f qed new.qed 65T', { files: false })
    fixtures.sameOnCopies('', 'create -f qed new.qed')
    fixtures.sameOnCopies('', 'create -f qed new.qed 0')
    fixtures.sameOnCopies('plain.qed', 'create -f qed -b plain.qed -F qed new.qed')
    fixtures.sameOnCopies('plain.raw', 'create -f qed -b plain.raw -F raw -o cluster_size=4k new.qed 9M')
    fixtures.sameOnCopies('plain.qed', 'create -f qed -b plain.qed new.qed')
    fixtures.sameOnCopies('plain.qed', ['create -f qcow2 -b plain.qed -F qed x.qcow2', 'map x.qcow2'])
    fixtures.sameOnCopies('plain.qed', ['convert -O qed plain.qed new.qed', 'map new.qed', 'check new.qed'])
    fixtures.sameOnCopies('plain.raw', ['convert -S 0 -O qed plain.raw new.qed', 'map new.qed'])
    fixtures.sameOnCopies('plain.raw', 'convert -O qed -o cluster_size=4k plain.raw new.qed')
    fixtures.sameOnCopies('plain.raw', 'convert -c -O qed plain.raw new.qed', { files: false })
    fixtures.sameOnCopies('plain.qed over.qed', [
      'convert -O qed over.qed new.qed',
      'convert -O raw over.qed new.raw',
      'convert -O qcow2 over.qed new.qcow2',
    ])
    fixtures.sameOnCopies('plain.qed over.qed', ['convert -O qed -B plain.qed -F qed over.qed new.qed', 'map new.qed'])
    fixtures.sameOnCopies('plain.qed', ['resize plain.qed 10M', 'info plain.qed', 'check plain.qed'])
    fixtures.sameOnCopies('plain.qed', 'resize plain.qed 3000000')
    fixtures.sameOnCopies('plain.qed', 'resize plain.qed 10000000')
    fixtures.sameOnCopies('plain.qed', 'resize --shrink plain.qed 1M')
    fixtures.sameOnCopies('plain.qed', 'resize --preallocation=full plain.qed 10M')
    fixtures.sameOnCopies('plain.qed', 'snapshot -c one plain.qed')
    fixtures.sameOnCopies('unclosed.qed', ['check -r all unclosed.qed', 'check unclosed.qed'])
    fixtures.sameOnCopies('lost.qed', ['check -r all lost.qed', 'check --output=json lost.qed'])
    fixtures.sameOnCopies('lost.qed', 'check -r leaks --output=json lost.qed')
  })
})
