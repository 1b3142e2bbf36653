/** Files that may not become as long as a command wants: what fails, and at which byte of the guest. */
import { copyFileSync, rmSync } from 'node:fs'
import { beforeAll, expect, it } from 'vitest'
import { describeWith, run, tool } from '../../engine/test/support/process.ts'
import { Fixtures, ourQemuImg, words } from './support/differential.ts'

/** Blocks of 512 bytes, as sh counts them: 256 KiB. */
const limited = 'ulimit -f 512; exec "$0" "$@"'

describeWith(['qemu-img', 'qemu-io', 'sh'], 'files that may not become longer', () => {
  const fixtures = new Fixtures()

  beforeAll(async () => {
    await fixtures.qemuImg('create -q -f raw a.raw 1M')
    await fixtures.qemuIo('a.raw', 'write -P 1 64k 64k', 'write -P 2 192k 64k', 'write -P 3 768k 256k')
    await fixtures.qemuImg('create -q -f raw late.raw 2M')
    await fixtures.qemuIo('late.raw', 'write -P 1 1536k 64k')
    await fixtures.qemuImg('create -q -f qcow2 empty.qcow2 1M')
  })

  async function called(program: string, line: string) {
    copyFileSync(fixtures.path('empty.qcow2'), fixtures.path('there.qcow2'))
    rmSync(fixtures.path('new'), { force: true })
    const { code, stdout, stderr } = await run(tool('sh').path ?? 'sh', ['-c', limited, program, ...words(line)], {
      cwd: fixtures.folder,
    })
    // What QEMU says besides when it gives its caches up.
    return { code, stdout, stderr: stderr.replaceAll(/^qemu-img: Failed to flush the .*\n/gm, '') }
  }

  it.each([
    'create -f raw new 1M',
    'convert a.raw new',
    'convert -O qcow2 a.raw new',
    'convert -m 1 -O qcow2 a.raw new',
    'convert -O vmdk a.raw new',
    // Blocks of 1 and 2 MiB, which QEMU makes as long at once.
    'convert -O vdi late.raw new',
    'convert -O vpc late.raw new',
    'convert -O vhdx a.raw new',
    'convert -O parallels a.raw new',
    'convert -O qed a.raw new',
    'convert -O qcow a.raw new',
    'dd if=a.raw of=new',
    'dd if=a.raw of=new bs=64k -O qcow2',
    'bench -w -c 3 -s 64k there.qcow2',
    'bench -w -c 3 -o 1M there.qcow2',
  ])('%s', async (line) => {
    const theirs = await called(tool('qemu-img').path ?? 'qemu-img', line)
    expect(theirs.code).toBe(1)
    expect(await called(ourQemuImg, line)).toEqual(theirs)
  })
})
