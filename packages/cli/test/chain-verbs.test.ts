/** `rebase` and `commit` beside qemu-img: messages, files left, and what the guest sees. */
import { beforeAll, expect, it } from 'vitest'
import { describeWith, run } from '../../engine/test/support/process.ts'
import { Fixtures, moraine, ourQemuImg } from './support/differential.ts'

const chain = 'a.raw base.qcow2 mid.qcow2 top.qcow2'

describeWith(['qemu-img', 'qemu-io'], 'rebase and commit', () => {
  const fixtures = new Fixtures()
  beforeAll(async () => {
    await fixtures.qemuImg('create -q -f raw a.raw 1M')
    await fixtures.qemuIo('a.raw', 'write -q -P 7 0 200k')
    await fixtures.qemuImg('convert -O qcow2 a.raw base.qcow2')
    await fixtures.qemuIo('base.qcow2', 'write -q -P 8 512k 64k')
    await fixtures.qemuImg('create -q -f qcow2 -b base.qcow2 -F qcow2 mid.qcow2')
    await fixtures.qemuIo('mid.qcow2', 'write -q -P 9 64k 10k')
    await fixtures.qemuImg('create -q -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2')
    await fixtures.qemuIo('top.qcow2', 'write -q -P 10 256k 10k', 'write -q -z 0 64k')
    await fixtures.qemuImg('create -q -f qcow2 other.qcow2 2M')
    await fixtures.qemuIo('other.qcow2', 'write -q -P 11 100k 500k')
    await fixtures.qemuImg('create -q -f qcow2 short.qcow2 256k')
    await fixtures.qemuImg('create -q -f qed -b base.qcow2 -F qcow2 t.qed')
    await fixtures.qemuIo('t.qed', 'write -q -P 3 0 64k')
    await fixtures.qemuImg('create -q -f qcow -b base.qcow2 -F qcow2 t.qcow')
    await fixtures.qemuIo('t.qcow', 'write -q -P 3 0 64k')
    await fixtures.qemuImg('create -q -f vmdk v.vmdk 1M')
    await fixtures.qemuImg('create -q -f qcow2 -b a.raw -F raw big.qcow2 2M')
    await fixtures.qemuIo('big.qcow2', 'write -q -P 10 1256k 10k')
    await fixtures.qemuImg('create -q -f qcow2 -b base.qcow2 -F qcow2 kept.qcow2')
    await fixtures.qemuIo('kept.qcow2', 'write -q -P 5 0 64k')
    await fixtures.qemuImg('snapshot -c one kept.qcow2')
  })

  for (const line of [
    'rebase',
    'rebase top.qcow2',
    'rebase -b nope top.qcow2',
    'rebase -b other.qcow2 -F nope top.qcow2',
    'rebase -T foo -b x top.qcow2',
    'rebase -t foo -b x top.qcow2',
    'rebase -U -b x top.qcow2',
    'rebase -u -U -b x top.qcow2',
    'rebase -u -b nope top.qcow2',
    'rebase -b base.qcow2 -F qcow2 base.qcow2',
    'rebase -b mid.qcow2 -F qcow2 base.qcow2',
    'rebase a b',
    'commit',
    'commit nope',
    'commit base.qcow2',
    'commit a.raw',
    'commit -b nope top.qcow2',
    'commit -b top.qcow2 top.qcow2',
    'commit -r x top.qcow2',
    'commit -t x top.qcow2',
    'commit a b',
  ]) {
    fixtures.sameOnCopies(chain, line)
  }
  fixtures.sameOnCopies(chain, ['rebase', '-u', '-F', 'raw', '-b', 'x'.repeat(1100), 'top.qcow2'])
  fixtures.sameOnCopies(chain, 'rebase -u -b x -F raw a.raw')
  // What cannot be recorded in the end is not copied at first, as QEMU does.
  const early = { files: false }
  fixtures.sameOnCopies('v.vmdk a.raw', ['rebase -u -b a.raw -F raw v.vmdk', 'rebase -b a.raw -F raw v.vmdk'], early)
  fixtures.sameOnCopies(`t.qcow ${chain}`, ['rebase -u -b a.raw -F raw t.qcow', 'rebase -b a.raw -F raw t.qcow'], early)
  fixtures.sameOnCopies(chain, 'rebase -b base.qcow2 top.qcow2', early)

  fixtures.sameOnCopies(chain, ['rebase -b base.qcow2 -F qcow2 top.qcow2', 'info top.qcow2', 'check top.qcow2'])
  fixtures.sameOnCopies(chain, [['rebase', '-b', '', 'top.qcow2'], 'info top.qcow2', 'map --output=json top.qcow2'])
  fixtures.sameOnCopies(chain, ['rebase -u -b nope -F raw top.qcow2', 'info top.qcow2'])
  fixtures.sameOnCopies(chain, [['rebase', '-u', '-b', '', 'top.qcow2'], 'info top.qcow2'])
  fixtures.sameOnCopies(`other.qcow2 ${chain}`, ['rebase -q -b other.qcow2 -F qcow2 top.qcow2', 'check top.qcow2'])
  fixtures.sameOnCopies(`short.qcow2 ${chain}`, ['rebase -b short.qcow2 -F qcow2 mid.qcow2', 'check mid.qcow2'])
  fixtures.sameOnCopies('a.raw big.qcow2 other.qcow2', 'rebase -b other.qcow2 -F qcow2 big.qcow2')
  fixtures.sameOnCopies(`t.qed ${chain}`, ['rebase -b a.raw -F raw t.qed', 'info t.qed', 'check t.qed'])
  fixtures.sameOnCopies(`t.qed ${chain}`, ['rebase -u -b mid.qcow2 -F qcow2 t.qed', 'info t.qed'])
  fixtures.sameOnCopies(`t.qed ${chain}`, [['rebase', '-u', '-b', '', 't.qed'], 'info t.qed'])

  // Whatever is laid out as it may be, the guest sees the same.
  const looks = ['check top.qcow2', 'check mid.qcow2', 'map --output=json top.qcow2', 'info top.qcow2']
  const free = {
    files: false,
    normalize: (text: string) =>
      text.replace(/disk size: .*|Image end offset: .*|[\d.]+% fragmented/g, '').replace(/"offset": \d+/g, ''),
  }
  fixtures.sameOnCopies(chain, ['commit top.qcow2', ...looks], free)
  fixtures.sameOnCopies(chain, ['commit -d top.qcow2', ...looks], free)
  fixtures.sameOnCopies(chain, ['commit -q top.qcow2', 'commit mid.qcow2', ...looks], free)
  fixtures.sameOnCopies(chain, ['commit -b base.qcow2 top.qcow2', ...looks], free)
  fixtures.sameOnCopies(chain, ['commit -b ./base.qcow2 -d top.qcow2', 'check base.qcow2'], free)
  fixtures.sameOnCopies(chain, 'commit -r 1G -f qcow2 top.qcow2')
  fixtures.sameOnCopies('a.raw big.qcow2', ['commit big.qcow2', 'info a.raw', 'check big.qcow2'], {
    normalize: (text) => text.replace(/disk size: .*/, ''),
  })
  fixtures.sameOnCopies(`t.qed ${chain}`, ['commit t.qed', 'map --output=json t.qed', 'check t.qed'])
  fixtures.sameOnCopies(`kept.qcow2 ${chain}`, ['commit kept.qcow2', 'check kept.qcow2', 'snapshot -l kept.qcow2'], {
    files: false,
    normalize: (text) => text.replace(/Image end offset: .*/, ''),
  })

  it('rebases over and over, and the guest sees the same', async () => {
    const cwd = fixtures.folder
    await fixtures.qemuImg('convert -O raw top.qcow2 expected.raw')
    for (const base of ['other.qcow2', 'short.qcow2', 'base.qcow2', '']) {
      const args = ['rebase', '-b', base, ...(base === '' ? [] : ['-F', 'qcow2']), 'top.qcow2']
      expect(await run(ourQemuImg, args, { cwd })).toMatchObject({ code: 0, stderr: '' })
      await fixtures.qemuImg('compare top.qcow2 expected.raw')
      await fixtures.qemuImg('check -q top.qcow2')
    }
  })

  it('packs what it copies, when asked as newer releases are', async () => {
    const cwd = fixtures.folder
    for (const options of [
      'compat=1.1',
      'extended_l2=on,cluster_size=32k',
      'compression_type=zstd',
      'cluster_size=2M',
    ]) {
      await fixtures.qemuImg(`create -q -f qcow2 -o ${options} -b a.raw -F raw packs.qcow2 1500k`)
      await fixtures.qemuIo('packs.qcow2', 'write -q -P 4 70k 3k', 'write -q -z 128k 64k', 'write -q -P 5 1499k 1k')
      await fixtures.qemuImg('convert -O raw packs.qcow2 expected.raw')
      for (const base of ['short.qcow2', 'other.qcow2', '']) {
        const args = ['rebase', '-c', '-b', base, ...(base === '' ? [] : ['-F', 'qcow2']), 'packs.qcow2']
        expect(await run(ourQemuImg, args, { cwd })).toMatchObject({ code: 0, stderr: '' })
        await fixtures.qemuImg('compare packs.qcow2 expected.raw')
        await fixtures.qemuImg('check -q packs.qcow2')
      }
      const { stdout } = await run('qemu-img', ['check', '--output=json', 'packs.qcow2'], { cwd })
      const { 'compressed-clusters': packed } = JSON.parse(stdout) as { 'compressed-clusters'?: number }
      expect([options, (packed ?? 0) > 0]).toEqual([options, options !== 'cluster_size=2M'])
    }
    expect(await run(ourQemuImg, ['rebase', '--compress', '-b', '', 't.qed'], { cwd })).toMatchObject({
      code: 1,
      stderr: 'qemu-img: Compression not supported for this file format\n',
    })
  })

  it('says how to go on', async () => {
    const { stderr } = await run(moraine, ['rebase', '-b', 'base.qcow2', 'mid.qcow2'], { cwd: fixtures.folder })
    expect(stderr).toContain('backing format must be specified\nSay it with -F.')
  })

  it('leaves overlays that know the content they stand over usable after a commit', async () => {
    const cwd = fixtures.folder
    for (const format of ['vmdk', 'vdi', 'vhdx']) {
      for (const line of [
        `create -q -f ${format} under.${format} 2M`,
        `create -q -f ${format} -b under.${format} -F ${format} over.${format}`,
        `bench -q -w -c 3 -s 4k --pattern=7 -f ${format} over.${format}`,
        `commit -q over.${format}`,
        `compare -q over.${format} under.${format}`,
      ]) {
        expect(await run(moraine, line.split(' '), { cwd }), line).toMatchObject({ code: 0, stderr: '' })
      }
    }
  })

  it('keeps zeros over a new backing file in formats that cannot mark them', async () => {
    for (const options of ['compat=0.10', 'compat=0.10,cluster_size=512', 'compat=1.1']) {
      await fixtures.qemuImg(`convert -f raw -O qcow2 -o ${options} a.raw alone.qcow2`)
      const rebase = ['rebase', '-b', 'other.qcow2', '-F', 'qcow2', 'alone.qcow2']
      expect(await run(ourQemuImg, rebase, { cwd: fixtures.folder })).toMatchObject({ code: 0, stderr: '' })
      await fixtures.qemuImg('compare a.raw alone.qcow2')
    }
  })
})
