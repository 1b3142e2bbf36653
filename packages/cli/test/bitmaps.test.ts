/** `convert --bitmaps`: what is said, and the files that are left, byte for byte as qemu-img's. */
import { copyFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import { describeWith, run } from '../../engine/test/support/process.ts'
import { qemuIoKilled } from '../../engine/test/support/qemu.ts'
import { Fixtures, moraine } from './support/differential.ts'

/** What the host spends on holes is its own affair. */
const normalize = (text: string): string => text.replace(/disk size: .*/, 'disk size: …')

/** QEMU stores the bitmaps that were there anew, in other places. */
const elsewhere = (text: string): string => normalize(text).replace(/Image end offset: .*/, 'Image end offset: …')

describeWith(['qemu-img', 'qemu-io'], 'convert --bitmaps, as qemu-img does it', () => {
  const fixtures = new Fixtures()
  const all =
    'marked.qcow2 bare.qcow2 broken.qcow2 grown.qcow2 v2.qcow2 target.qcow2 larger.qcow2 taken.qcow2 base.qcow2 other.qcow2'

  beforeAll(async () => {
    await fixtures.qemuImg('create -q -f qcow2 marked.qcow2 10M')
    await fixtures.qemuImg('bitmap --add marked.qcow2 usual')
    await fixtures.qemuImg('bitmap --add -g 512 marked.qcow2 fine')
    await fixtures.qemuImg("bitmap --add -g 1M marked.qcow2 'coarse, with a näme'")
    await fixtures.qemuImg('bitmap --add --disable -g 4k marked.qcow2 off')
    await fixtures.qemuIo('marked.qcow2', 'write -P 1 64k 100k', 'write -P 2 5M 3M', 'write -P 3 10485248 512')
    copyFileSync(fixtures.path('marked.qcow2'), fixtures.path('grown.qcow2'))
    await fixtures.qemuImg('snapshot -c one grown.qcow2')
    await fixtures.qemuIo('grown.qcow2', 'write -P 4 1M 64k')
    copyFileSync(fixtures.path('marked.qcow2'), fixtures.path('broken.qcow2'))
    await qemuIoKilled(fixtures.path('broken.qcow2'), 'qcow2', 'write -P 5 0 64k')
    await fixtures.qemuImg('bitmap --add broken.qcow2 whole')
    await fixtures.qemuIo('broken.qcow2', 'write -P 6 2M 64k')
    await fixtures.qemuImg('create -q -f qcow2 bare.qcow2 10M')
    await fixtures.qemuImg('create -q -f qcow2 -o compat=0.10 v2.qcow2 10M')
    await fixtures.qemuImg('create -q -f qcow2 target.qcow2 10M')
    await fixtures.qemuImg('create -q -f qcow2 larger.qcow2 12M')
    await fixtures.qemuImg('create -q -f qcow2 taken.qcow2 10M')
    await fixtures.qemuImg('bitmap --add taken.qcow2 fine')
    await fixtures.qemuImg('create -q -f qcow2 base.qcow2 10M')
    await fixtures.qemuImg('create -q -f qcow2 other.qcow2 10M')
    await fixtures.qemuImg('bitmap --add other.qcow2 lost')
    await qemuIoKilled(fixtures.path('other.qcow2'), 'qcow2', 'write -P 5 0 64k')
    await fixtures.qemuImg('bitmap --add other.qcow2 kept')
  })

  describe('into a new image', () => {
    for (const options of [
      '',
      '-o cluster_size=512',
      '-o cluster_size=4k,refcount_bits=1',
      '-o cluster_size=2M',
      '-o extended_l2=on',
      '-o lazy_refcounts=on',
      '-o preallocation=metadata',
      '-o preallocation=full',
      '-o data_file=d',
      '-B base.qcow2 -F qcow2',
      '-o cluster_size=512 -B base.qcow2 -F qcow2',
      '-p',
    ]) {
      fixtures.sameOnCopies(all, [`convert --bitmaps ${options} -O qcow2 marked.qcow2 x`, 'info x', 'check x'], {
        normalize,
      })
    }
    for (const options of ['-c', '-c -o compression_type=zstd']) {
      fixtures.sameOnCopies(all, [`convert --bitmaps ${options} -O qcow2 marked.qcow2 x`, 'info x', 'check x'], {
        normalize,
        files: false,
      })
    }
    for (const line of [
      'convert --bitmaps -l one -O qcow2 grown.qcow2 x',
      'convert --bitmaps -O qcow2 bare.qcow2 x',
      'convert --bitmaps --skip-broken-bitmaps -O qcow2 bare.qcow2 x',
      'convert --bitmaps --skip-broken-bitmaps -O qcow2 broken.qcow2 x',
      'convert -q --bitmaps --skip-broken-bitmaps -O qcow2 broken.qcow2 x',
      'convert -O qcow2 broken.qcow2 x',
    ]) {
      fixtures.sameOnCopies(all, line)
    }
  })

  describe('into an image that is there', () => {
    fixtures.sameOnCopies(all, ['convert -n --bitmaps -O qcow2 marked.qcow2 target.qcow2', 'info target.qcow2'], {
      normalize,
    })
    fixtures.sameOnCopies(
      all,
      ['convert -n --bitmaps -O qcow2 marked.qcow2 other.qcow2', 'info other.qcow2', 'check other.qcow2'],
      { normalize: elsewhere, files: false },
    )
  })

  describe('refused', () => {
    for (const line of [
      'convert --bitmaps -O qcow2 broken.qcow2 x',
      'convert --bitmaps -O raw marked.qcow2 x',
      'convert --bitmaps -O raw broken.qcow2 x',
      'convert --bitmaps --skip-broken-bitmaps -O raw broken.qcow2 x',
      'convert --bitmaps -O qcow2 -o compat=0.10 marked.qcow2 x',
      'convert --bitmaps -O qcow2 v2.qcow2 x',
      'convert --bitmaps -O qcow2 v2.qcow2 v2.qcow2 x',
      'convert --bitmaps -O qcow2 marked.qcow2 marked.qcow2 x',
      'convert -n --bitmaps -O qcow2 marked.qcow2 v2.qcow2',
      'convert -n --bitmaps -O qcow2 marked.qcow2 taken.qcow2',
      'convert -n --bitmaps -O qcow2 marked.qcow2 larger.qcow2',
      'convert -n --bitmaps --skip-broken-bitmaps -O qcow2 broken.qcow2 larger.qcow2',
    ]) {
      fixtures.sameOnCopies(all, line, { files: false })
    }
  })

  it('does not forget them on the way to standard output', async () => {
    const line = (source: string) => ['convert', '--bitmaps', '-O', 'qcow2', source, '-']
    const refused = await run(moraine, line('marked.qcow2'), { cwd: fixtures.folder })
    expect([refused.code, refused.stdout]).toEqual([1, ''])
    expect(refused.stderr).toContain('dirty bitmaps cannot be written front to back')
    expect((await run(moraine, line('bare.qcow2'), { cwd: fixtures.folder })).code).toBe(0)
  })
})
