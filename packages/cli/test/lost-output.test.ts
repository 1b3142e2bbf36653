/** Standard output that takes nothing: a full disk, a descriptor that is for reading, a reader who went away. qemu-img never asks; moraine does. */
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import { describeWith, run, tool } from '../../engine/test/support/process.ts'
import { Fixtures, moraine, ourQemuImg } from './support/differential.ts'

/** How a shell calls the program that stands in its `$0`; each tells the exit code on standard error. */
const places = {
  'a full disk': '"$0" "$@" > /dev/full; echo "code $?" >&2',
  'a descriptor for reading': '"$0" "$@" 1< /dev/null; echo "code $?" >&2',
  'a pipe that nobody reads': '{ sleep 0.2; "$0" "$@"; echo "code $?" >&2; } | true',
}

describeWith(['qemu-img', 'sh'], 'what cannot be written to standard output', () => {
  const fixtures = new Fixtures()
  const target = fixtures.path('target')

  beforeAll(async () => {
    writeFileSync(fixtures.path('a.raw'), 'a'.repeat(1 << 20))
    writeFileSync(fixtures.path('b.raw'), 'b'.repeat(1 << 20))
    await fixtures.qemuImg('convert -O qcow2 a.raw a.qcow2')
  })

  async function called(program: string, script: string, args: string[]): Promise<{ said: string; made: boolean }> {
    rmSync(target, { force: true })
    const { stderr } = await run(tool('sh').path ?? 'sh', ['-c', script, program, ...args], { cwd: fixtures.folder })
    return { said: stderr, made: existsSync(target) }
  }

  for (const [place, script] of Object.entries(places)) {
    describe(place, () => {
      for (const line of [
        'info a.qcow2',
        'compare a.qcow2 b.raw',
        'check b.raw',
        'map --output=json a.qcow2',
        'create -f qcow2 target 1M',
        'convert -p -O raw a.qcow2 target',
        '--version',
      ]) {
        it(`changes nothing for qemu-img: ${line}`, async () => {
          const theirs = await called(tool('qemu-img').path ?? 'qemu-img', script, line.split(' '))
          expect(await called(ourQemuImg, script, line.split(' '))).toEqual(theirs)
        })
      }

      it('is told by moraine, unless nobody reads any more', async () => {
        const { said } = await called(moraine, script, ['info', 'a.qcow2'])
        if (place === 'a pipe that nobody reads') expect(said).toBe('code 0\n')
        else expect(said).toMatch(/^moraine: error while writing to standard output: E\w+: .*\ncode 1\n$/)
      })

      it('costs moraine neither its verdict nor its target', async () => {
        expect(await called(moraine, script, ['convert', '-p', '-O', 'raw', 'a.qcow2', 'target'])).toEqual({
          said: 'code 0\n',
          made: true,
        })
        expect((await called(moraine, script, ['compare', 'a.qcow2', 'b.raw'])).said).toMatch(/code 1\n$/)
      })
    })
  }
})
