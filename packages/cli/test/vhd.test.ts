/** VHD through the command: called qemu-img it is `vpc`, and what can be seen is what qemu-img shows. */
import { execFileSync } from 'node:child_process'
import { beforeAll, describe, expect, it } from 'vitest'
import { describeWith } from '../../engine/test/support/process.ts'
import { Fixtures, moraine } from './support/differential.ts'

describeWith(['qemu-img', 'qemu-io'], 'vpc beside qemu-img', () => {
  const fixtures = new Fixtures()
  beforeAll(async () => {
    await fixtures.qemuImg('create -q -f vpc dynamic.vhd 5M')
    await fixtures.qemuIo('dynamic.vhd', 'write -P 1 1M 64k', 'write -P 2 3M 4k')
    await fixtures.qemuImg('create -q -f vpc -o subformat=fixed,force_size=on fixed.vhd 3M')
    await fixtures.qemuImg('convert -f vpc -O raw dynamic.vhd plain.raw')
  })

  describe('reading', () => {
    for (const file of ['dynamic.vhd', 'fixed.vhd']) {
      fixtures.same(`info ${file}`)
      fixtures.same(`info -f vpc ${file}`)
      fixtures.same(`info -f vpc --output=json ${file}`)
      fixtures.same(`map -f vpc --output=json ${file}`)
      fixtures.same(`check -f vpc ${file}`)
    }
    fixtures.same('measure -f vpc -O vpc dynamic.vhd')
    fixtures.same('compare dynamic.vhd plain.raw')
    fixtures.same('info -f vpc plain.raw')
    fixtures.same('create -f vpc -o help x')
    fixtures.same('create -f vpc -o help')
    fixtures.same('convert -O vpc -o help')

    it('a fixed image is recognised by moraine, which calls it vhd', () => {
      const text = execFileSync(moraine, ['info', fixtures.path('fixed.vhd')], { encoding: 'utf8' })
      expect(text).toContain('file format: vhd\nvirtual size: 3 MiB (3145728 bytes)')
    })
  })

  describe('writing', () => {
    const noFiles = { files: false }
    fixtures.sameOnCopies('', ['create -f vpc new.vhd 5M', 'info new.vhd'], noFiles)
    fixtures.sameOnCopies('', ['create -f vpc -o force_size new.vhd 5M', 'info new.vhd'], noFiles)
    fixtures.sameOnCopies('', 'create -f vpc -o subformat=fixed,preallocation=full new.vhd 3M', noFiles)
    fixtures.sameOnCopies('', 'create -f vpc -o subformat=thin new.vhd 5M', noFiles)
    fixtures.sameOnCopies('', 'create -f vpc new.vhd 2041G', noFiles)
    fixtures.sameOnCopies('dynamic.vhd', 'create -f vpc -b dynamic.vhd -F vpc new.vhd', noFiles)
    fixtures.sameOnCopies('dynamic.vhd', 'create -f qcow2 -b dynamic.vhd over.qcow2', noFiles)
    fixtures.sameOnCopies('dynamic.vhd', 'create -f qcow2 -b dynamic.vhd -F vpc over.qcow2')
    fixtures.sameOnCopies('plain.raw', ['convert -O vpc plain.raw new.vhd', 'map new.vhd'], noFiles)
    fixtures.sameOnCopies('plain.raw', ['convert -O vpc -o subformat=thin plain.raw new.vhd'], noFiles)
    fixtures.sameOnCopies('fixed.vhd', 'convert -f vpc -O raw fixed.vhd new.raw')
    fixtures.sameOnCopies('dynamic.vhd', 'convert -c -O vpc dynamic.vhd new.vhd')
    fixtures.sameOnCopies('dynamic.vhd', 'resize dynamic.vhd 10M')
    fixtures.sameOnCopies('dynamic.vhd', 'check -r all dynamic.vhd')
  })
})
