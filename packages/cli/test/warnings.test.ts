/** Images that are odd and read all the same: qemu-img says nothing about them, moraine does. */
import { readFileSync, writeFileSync } from 'node:fs'
import { beforeAll, expect, it } from 'vitest'
import { describeWith, run } from '../../engine/test/support/process.ts'
import { Fixtures, moraine } from './support/differential.ts'

describeWith(['qemu-img'], 'odd images', () => {
  const fixtures = new Fixtures()
  beforeAll(async () => {
    await fixtures.qemuImg('create -q -f vmdk text.vmdk 1M')
    change('text.vmdk', (bytes) => bytes.writeUInt32BE(0x0a0d0a0d, 73))
    await fixtures.qemuImg('create -q -f vpc saved.vpc 1M')
    change('saved.vpc', (bytes) => {
      for (const at of [0, bytes.length - 512]) {
        const footer = bytes.subarray(at, at + 512)
        footer.writeUInt8(1, 84)
        footer.writeUInt32BE(0, 64)
        footer.writeUInt32BE(~footer.reduce((sum, byte) => sum + byte, 0) >>> 0, 64)
      }
    })
  })

  function change(name: string, how: (bytes: Buffer) => void): void {
    const bytes = readFileSync(fixtures.path(name))
    how(bytes)
    writeFileSync(fixtures.path(name), bytes)
  }

  fixtures.same('info text.vmdk')
  fixtures.same('map --output=json text.vmdk')
  fixtures.sameOnCopies('saved.vpc', 'bench -w -c 1 -s 512 -f vpc saved.vpc', {
    files: false,
    normalize: (text) => text.replace(/completed in .*/, ''),
  })

  it('are told of by moraine', async () => {
    const cwd = fixtures.folder
    expect((await run(moraine, ['info', 'text.vmdk'], { cwd })).stderr).toContain('newline characters were changed')
    const written = await run(moraine, ['bench', '-w', '-c', '1', '-s', '512', 'saved.vpc'], { cwd })
    expect(written.stderr).toContain('a machine was saved with this disk')
  })
})
