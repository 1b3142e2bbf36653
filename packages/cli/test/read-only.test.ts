/** cloop, Bochs and DMG through the command: what can be seen is what qemu-img shows. */
import { writeFileSync } from 'node:fs'
import { deflateSync } from 'node:zlib'
import { beforeAll, describe } from 'vitest'
import { bochsOf, cloopOf, dmgOf } from '../../engine/test/read-only/builders.ts'
import { describeWith } from '../../engine/test/support/process.ts'
import { Fixtures } from './support/differential.ts'

describeWith(['qemu-img'], 'formats that are only read beside qemu-img', () => {
  const fixtures = new Fixtures()
  beforeAll(() => {
    const content = new Uint8Array(64 * 4096).fill(1, 9000, 40_000).fill(2, 100_000, 101_000)
    const save = (name: string, bytes: Uint8Array) => writeFileSync(fixtures.path(name), bytes)
    save('a.raw', content)
    save('a.cloop', cloopOf(content, 4096))
    save('a.bochs', bochsOf(content, 4096, 2))
    const half = content.length / 2
    const pieces = [
      { type: 0x8000_0005, size: half, stored: deflateSync(content.subarray(0, half)) },
      { type: 0, size: half },
    ]
    const dmg = dmgOf(pieces, 'plist')
    save('a.dmg', dmg)
    save('koly', dmg)
    save('bad.cloop', cloopOf(content, 4096).fill(0, 128, 132))
    save('bad.bochs', bochsOf(content, 4096, 2).fill(0xff, 72, 76))
    save('extent.bochs', bochsOf(content, 4096, 2).fill(0x11, 80, 81))
    save('bad.dmg', Buffer.alloc(2048, 1))
  })

  describe('reading', () => {
    // Debian's qemu-img asks for a package with codecs, which the images here do not need.
    const normalize = (text: string) => text.replaceAll(/^qemu: module \S+ not found, .*\n/gm, '')
    for (const file of ['a.cloop', 'a.bochs', 'a.dmg']) {
      const format = file.slice(2)
      fixtures.same(`info ${file}`, { normalize })
      fixtures.same(`info -f ${format} --output=json ${file}`, { normalize })
      fixtures.same(`map ${file}`, { normalize })
      fixtures.same(`map --output=json ${file}`, { normalize })
      fixtures.same(`check ${file}`, { normalize })
      fixtures.same(`snapshot -l ${file}`, { normalize })
      fixtures.same(`measure -O qcow2 ${file}`, { normalize })
      fixtures.same(`create -f ${format} -o help x`, { normalize })
      fixtures.sameOnCopies(file, `create -f ${format} new 1M`, { files: false, normalize })
      fixtures.sameOnCopies(file, [`convert -O qcow2 ${file} new.qcow2`, `convert -O raw ${file} new.raw`], {
        normalize,
      })
    }
    fixtures.same('compare a.cloop a.raw', { normalize })
    fixtures.same('compare a.bochs a.raw', { normalize })
    fixtures.same('info koly', { normalize })
    for (const file of ['bad.cloop', 'bad.bochs', 'extent.bochs', 'bad.dmg'])
      fixtures.same(`info ${file}`, { normalize })
  })
})
