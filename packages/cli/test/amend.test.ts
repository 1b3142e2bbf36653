/** `amend` beside qemu-img. */
import { beforeAll, expect, it } from 'vitest'
import { describeWith, run } from '../../engine/test/support/process.ts'
import { Fixtures, ourQemuImg } from './support/differential.ts'

describeWith(['qemu-img', 'qemu-io'], 'amend', () => {
  const fixtures = new Fixtures()
  beforeAll(async () => {
    await fixtures.qemuImg('create -q -f qcow2 q.qcow2 1M')
    await fixtures.qemuIo('q.qcow2', 'write -q -P 7 0 100k')
    await fixtures.qemuImg('create -q -f qcow2 -b q.qcow2 -F qcow2 o.qcow2')
    await fixtures.qemuIo('o.qcow2', 'write -q -P 3 512k 64k', 'write -q -z 0 64k', 'write -q -z 640k 64k')
    await fixtures.qemuImg('create -q -f raw r.raw 1M')
    await fixtures.qemuImg('create -q -f qcow2 -o compat=0.10 v2.qcow2 1M')
    await fixtures.qemuImg('create -q -f qcow2 z.qcow2 1M')
    await fixtures.qemuIo('z.qcow2', 'write -q -P 9 256k 64k', 'write -q -z 0 128k', 'write -q -z 256k 64k')
    await fixtures.qemuImg('create -q -f qcow2 s.qcow2 1M')
    await fixtures.qemuIo('s.qcow2', 'write -q -P 9 256k 64k')
    await fixtures.qemuImg('snapshot -c a s.qcow2')
    await fixtures.qemuImg('create -q -f qcow2 b.qcow2 1M')
    await fixtures.qemuImg('bitmap --add b.qcow2 b')
    await fixtures.qemuImg('create -q -f qcow2 -o extended_l2=on e.qcow2 1M')
  })
  const files = 'q.qcow2 o.qcow2 r.raw v2.qcow2 z.qcow2 s.qcow2 b.qcow2 e.qcow2'
  /** Where things lie, and how much the host spends, is not the same; QEMU leaks what a downgrade gives up. */
  const free = {
    files: false,
    normalize: (text: string) => text.replace(/disk size: .*|Image end offset: .*|"offset": \d+/g, ''),
  }

  for (const line of [
    'amend',
    'amend q.qcow2',
    'amend -o compat=0.10 e.qcow2',
    'amend -o refcount_bits=3 q.qcow2',
    'amend -o refcount_bits=128 q.qcow2',
    'amend -o refcount_bits=1 v2.qcow2',
    'amend -o lazy_refcounts=on v2.qcow2',
    'amend -o backing_file=x q.qcow2',
    'amend -o backing_fmt=raw q.qcow2',
    'amend -o cluster_size=4k q.qcow2',
    'amend -o preallocation=full q.qcow2',
    'amend -o compression_type=zstd q.qcow2',
    'amend -o extended_l2=on q.qcow2',
    'amend -o data_file=x q.qcow2',
    'amend -o data_file_raw=on q.qcow2',
    'amend -o foo=1 q.qcow2',
    'amend -o help q.qcow2',
    'amend -o help -f qcow2',
    'amend -o help -f raw',
    'amend -o help -f vmdk',
    'amend -o help -f luks',
    'amend -f nope -o help',
    'amend -o help',
    'amend -o size=1M r.raw',
    'amend -f raw -o size=1M r.raw',
    'amend -o compat=foo q.qcow2',
    'amend -t foo -o compat=1.1 q.qcow2',
    'amend -o compat=1.1 nope',
    'amend a b -o compat=1.1',
    'amend -o , q.qcow2',
  ]) {
    fixtures.sameOnCopies(files, line, free)
  }

  const after = (file: string) => [`info ${file}`, `check ${file}`, `map --output=json ${file}`]
  fixtures.sameOnCopies(files, ['amend -o compat=0.10 q.qcow2', ...after('q.qcow2')], free)
  fixtures.sameOnCopies(files, ['amend -o compat=1.1 v2.qcow2', ...after('v2.qcow2')])
  fixtures.sameOnCopies(
    files,
    ['amend -o compat=v3 v2.qcow2', 'amend -o compat=v2 v2.qcow2', ...after('v2.qcow2')],
    free,
  )
  fixtures.sameOnCopies(files, ['amend -o compat=0.10 z.qcow2', ...after('z.qcow2')], free)
  fixtures.sameOnCopies(files, ['amend -o compat=0.10 o.qcow2', ...after('o.qcow2')], free)
  fixtures.sameOnCopies(files, ['amend -o compat=0.10 s.qcow2', ...after('s.qcow2')], free)
  fixtures.sameOnCopies(files, ['amend -o lazy_refcounts=on q.qcow2', ...after('q.qcow2')])
  fixtures.sameOnCopies(files, ['amend -q -o lazy_refcounts=on q.qcow2', 'amend -o lazy_refcounts=off q.qcow2'])
  fixtures.sameOnCopies(files, ['amend -o size=2M q.qcow2', ...after('q.qcow2')], free)
  fixtures.sameOnCopies(files, ['amend -o size=512k q.qcow2', ...after('q.qcow2')], free)
  fixtures.sameOnCopies(files, ['amend --force -o compat=1.1 q.qcow2'])
  for (const bits of [1, 2, 4, 8, 32, 64]) {
    fixtures.sameOnCopies(files, [`amend -o refcount_bits=${bits} q.qcow2`, ...after('q.qcow2')], free)
  }
  fixtures.sameOnCopies(files, ['amend -o refcount_bits=64 q.qcow2', 'amend -o compat=0.10 q.qcow2'], free)
  fixtures.sameOnCopies(files, 'amend -o refcount_bits=1 s.qcow2', free)

  it('keeps what the guest sees through every change', async () => {
    const cwd = fixtures.folder
    await fixtures.qemuImg('convert -O raw o.qcow2 expected.raw')
    for (const change of [
      'refcount_bits=8',
      'refcount_bits=64',
      'refcount_bits=16',
      'compat=0.10',
      'compat=1.1',
      'refcount_bits=1',
    ]) {
      expect(await run(ourQemuImg, ['amend', '-o', change, 'o.qcow2'], { cwd })).toMatchObject({ code: 0, stderr: '' })
      await fixtures.qemuImg('compare o.qcow2 expected.raw')
      await fixtures.qemuImg('check -q o.qcow2')
    }
  })

  it('removes bitmaps that version 2 has no place for; QEMU leaves them behind as leaks', async () => {
    const cwd = fixtures.folder
    expect(await run(ourQemuImg, ['amend', '-o', 'compat=0.10', 'b.qcow2'], { cwd })).toMatchObject({ code: 0 })
    const { code, stderr } = await run('qemu-img', ['check', 'b.qcow2'], { cwd })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  })

  it('adds and erases passwords of an encrypted image', async () => {
    const cwd = fixtures.folder
    const secrets = ['--object', 'secret,id=a,data=one', '--object', 'secret,id=b,data=two']
    await fixtures.qemuImg(
      'create -q --object secret,id=a,data=one -f qcow2 -o encrypt.format=luks,encrypt.key-secret=a,encrypt.iter-time=10 c.qcow2 1M',
    )
    const image = (key: string) => ['--image-opts', `driver=qcow2,encrypt.key-secret=${key},file.filename=c.qcow2`]
    const add = [
      'amend',
      ...secrets,
      '-o',
      'encrypt.state=active,encrypt.new-secret=b,encrypt.iter-time=10',
      ...image('a'),
    ]
    expect(await run(ourQemuImg, add, { cwd })).toMatchObject({ code: 0, stderr: '' })
    const opens = async (key: string) => (await run('qemu-img', ['check', ...secrets, ...image(key)], { cwd })).code
    expect([await opens('a'), await opens('b')]).toEqual([0, 0])
    const erase = ['amend', ...secrets, '-o', 'encrypt.state=inactive,encrypt.old-secret=a', ...image('b')]
    expect(await run(ourQemuImg, erase, { cwd })).toMatchObject({ code: 0, stderr: '' })
    expect([await opens('a'), await opens('b')]).toEqual([1, 0])
    const last = ['amend', ...secrets, '-o', 'encrypt.state=inactive,encrypt.old-secret=b', ...image('b')]
    expect((await run(ourQemuImg, last, { cwd })).code).toBe(1)
    expect(await opens('b')).toBe(0)
  })
})
