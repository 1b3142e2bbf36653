/** `bench` beside qemu-img: all but the time it took. */
import { readFileSync } from 'node:fs'
import { beforeAll, expect, it } from 'vitest'
import { describeWith, run } from '../../engine/test/support/process.ts'
import { Fixtures, ourQemuImg } from './support/differential.ts'

describeWith(['qemu-img'], 'bench', () => {
  const fixtures = new Fixtures()
  beforeAll(async () => {
    await fixtures.qemuImg('create -q -f raw r.raw 4M')
    await fixtures.qemuImg('create -q -f qcow2 q.qcow2 4M')
  })
  const timeless = { normalize: (text: string) => text.replace(/in [\d.]+ seconds/, 'in time'), files: false }

  for (const line of [
    '',
    '-c 10 r.raw',
    '-c 10 -q r.raw',
    '-c 10 r.raw r.raw',
    '-c 0 r.raw',
    '-c x r.raw',
    '-d x r.raw',
    '-s x r.raw',
    '-s 3G r.raw',
    '-c 10 -s 0 r.raw',
    '-s 1M -c 20 -S 2M -o 1M r.raw',
    '-o 32M -c 2 r.raw',
    '--pattern=256 -w -c 10 -f raw r.raw',
    '--pattern=1 -c 10 -f raw r.raw',
    '--flush-interval=2 -w -c 10 -f raw r.raw',
    '--flush-interval=2 -c 10 -f raw r.raw',
    '--flush-interval=x -w r.raw',
    '-i foo r.raw',
    '-i native -t none -c 5 r.raw',
    '-i threads -c 5 r.raw',
    '-n -c 5 r.raw',
    '-t foo r.raw',
    '-c 5 -S -1 r.raw',
    '-c 5 -S 3G r.raw',
    '-c 5 -s 2G r.raw',
    '-c 5 -o x r.raw',
    '-c 3 nope',
    '-x',
    '-c 5 --image-opts driver=raw,file.filename=r.raw',
    '-U -c 5 r.raw',
  ]) {
    fixtures.same(`bench ${line}`, timeless)
  }
  for (const line of [
    '-w -c 3 r.raw',
    '--pattern=255 -w -c 10 -f raw r.raw',
    '--pattern=7 -w -c 1024 -f raw r.raw',
    '--pattern=7 -w -c 3 -s 100k -S 1M -f qcow2 q.qcow2',
    '--no-drain -w -c 10 -f raw r.raw',
    '--no-drain --flush-interval=5 -d 4 -w -c 10 -f raw r.raw',
    '--flush-interval=4 -d 4 -w -c 9 -f raw r.raw',
  ]) {
    fixtures.sameOnCopies('r.raw q.qcow2', `bench ${line}`, { ...timeless, files: !line.includes('q.qcow2') })
  }

  it('goes around the end of the disk', async () => {
    const args = ['bench', '-w', '-f', 'raw', '--pattern=9', '-c', '3', '-s', '4k', '-S', '1M', '-o', '3M', 'r.raw']
    expect(await run(ourQemuImg, args, { cwd: fixtures.folder })).toMatchObject({ code: 0, stderr: '' })
    const bytes = readFileSync(fixtures.path('r.raw'))
    expect([bytes[3 << 20], bytes[0], bytes[1 << 20], bytes[2 << 20]]).toEqual([9, 9, 9, 0])
  })
})
