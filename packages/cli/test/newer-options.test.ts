/** The spellings that qemu-img 10 added: they mean what the old ones mean, and no abbreviation of 7.2 changed by them. */
import { writeFileSync } from 'node:fs'
import { beforeAll, describe, expect, it } from 'vitest'
import { describeWith, run } from '../../engine/test/support/process.ts'
import { optionsFor, readArguments } from '../src/parse.ts'
import { personaFor } from '../src/persona.ts'
import { allVerbs, findVerb } from '../src/verbs/index.ts'
import { Fixtures, moraine, ourQemuImg, words } from './support/differential.ts'

const qemuImg = personaFor('qemu-img')

/** Old, new: from the option tables of qemu-img 10.1. */
const pairs: Record<string, [old: string, newer: string][]> = {
  amend: [['-o a=1 -f raw -t none -p -q x', '--options a=1 --format raw --cache none --progress --quiet x']],
  bench: [
    [
      '-f raw -t none -c 1 -d 2 -o 3 -s 4 -S 5 -w -i native -n -U -q x',
      '--format raw --cache none --count 1 --depth 2 --offset 3 --buffer-size 4 --step-size 5 --write --aio native --native --force-share --quiet x',
    ],
  ],
  bitmap: [['--add -f raw -g 512 x y', '--add --format raw --granularity 512 x y']],
  check: [['-f raw -T none -r all -U -q x', '--format raw --cache none --repair all --force-share --quiet x']],
  commit: [
    [
      '-f raw -t none -d -b y -r 1 -p -q x',
      '--format raw --cache none --drop --base y --rate-limit 1 --progress --quiet x',
    ],
    ['-r 1 x', '--rate 1 x'],
  ],
  compare: [
    [
      '-f raw -F vdi -s -T none -p -q x y',
      '--a-format raw --b-format vdi --strict --cache none --progress --quiet x y',
    ],
  ],
  convert: [
    [
      '-f raw -T none -l s -O vdi -o a=1 -t none -B b -F vmdk -S 4k -n -c -U -r 1 -m 2 -W -C -p -q x y',
      '--source-format raw --source-cache none --snapshot s --target-format vdi --target-format-options a=1 --target-cache none --backing b --backing-format vmdk --sparse-size 4k --no-create --compress --force-share --rate-limit 1 --parallel 2 --oob-writes --copy-range-offloading --progress --quiet x y',
    ],
    ['-B b x y', '-b b x y'],
  ],
  create: [
    [
      '-f raw -o a=1 -b b -F vdi -u -q x 1M',
      '--format raw --options a=1 --backing b --backing-format vdi --backing-unsafe --quiet x 1M',
    ],
    ['-F vdi x', '-B vdi x'],
  ],
  dd: [['-f raw -O vdi -U if=x of=y', '--format raw --output-format vdi --force-share if=x of=y']],
  info: [['-f raw -U x', '--format raw --force-share x']],
  map: [['-f raw -s 1 -l 2 -U x', '--format raw --start-offset 1 --max-length 2 --force-share x']],
  measure: [
    [
      '-f raw -l s -O vdi -o a=1 -U x',
      '--source-format raw --snapshot s --target-format vdi --target-format-options a=1 --force-share x',
    ],
    ['-f raw -o a=1 --image-opts x', '--format raw --options a=1 --source-image-opts x'],
    ['--size 1M', '-s 1M'],
  ],
  rebase: [
    [
      '-f raw -t none -b b -F vdi -T none -u -U -p -q x',
      '--format raw --cache none --backing b --backing-format vdi --backing-cache none --backing-unsafe --force-share --progress --quiet x',
    ],
    ['-F vdi x', '-B vdi x'],
    ['-c -b b x', '--compress -b b x'],
  ],
  resize: [['-f raw -q x 1M', '--format raw --quiet x 1M']],
  snapshot: [
    ['-l -U -q x', '--list --force-share --quiet x'],
    ['-c s x', '--create s x'],
    ['-a s x', '--apply s x'],
    ['-d s x', '--delete s x'],
    ['-f raw -l x', '--format raw --list x'],
  ],
}

describe('what qemu-img 10 calls options', () => {
  for (const [name, lines] of Object.entries(pairs)) {
    it(`means the same for ${name}`, async () => {
      const verb = await findVerb(name, qemuImg)
      if (verb === undefined) throw new Error(name)
      for (const [old, newer] of lines) {
        const read = (line: string) => readArguments(verb, qemuImg, words(line), () => {})
        expect(read(newer)).toEqual(read(old))
        expect(read(newer)).toMatchObject({ kind: 'run' })
      }
    })
  }

  it('is told by neither the help of 7.2 nor in place of what moraine has itself', async () => {
    const { stdout } = await run(ourQemuImg, ['--help'])
    expect(stdout).toContain('-B FILE')
    expect(stdout).not.toContain('--backing-unsafe')
    const convert = await run(moraine, ['convert', '--help'])
    expect(convert.stdout).toMatch(/^ {2}-O, --target-format=FMT /m)
    expect(convert.stdout).toMatch(/^ {6}--progress=MODE/m)
    expect(convert.stdout).toMatch(/^ {2}-p {2}/m)
  })

  it('leaves --progress of moraine its argument', async () => {
    const { code, stderr } = await run(moraine, ['convert', '--progress', 'a', 'b'])
    expect({ code, stderr }).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('--progress must be used with one of'),
    })
  })
})

describeWith(['qemu-img'], 'abbreviations of 7.2', () => {
  const fixtures = new Fixtures()
  beforeAll(() => writeFileSync(fixtures.path('a.raw'), ''))

  it('mean what they meant, and those that were ambiguous are', async () => {
    const different: string[] = []
    for (const verb of await allVerbs(qemuImg)) {
      const old = optionsFor(verb, qemuImg).flatMap(([, { long }]) => (long === undefined ? [] : [long]))
      const prefixes = new Set(
        ['help', ...old].flatMap((long) => [long.slice(0, 1), long.slice(0, 2), long.slice(0, -1)]),
      )
      for (const prefix of prefixes) {
        // With "=x" a switch complains by its whole name, and an option with an argument takes it.
        const args = [verb.name, `--${prefix}=x`, '--nosuch']
        const theirs = await run('qemu-img', args, { cwd: fixtures.folder })
        let ours: string
        try {
          readArguments(verb, qemuImg, args.slice(1), () => {})
          ours = ''
        } catch (error) {
          ours = `qemu-img: ${error instanceof Error ? error.message : ''}\n`
        }
        const said = theirs.stderr.split('\n')[0] ?? ''
        // An object is made as soon as it is met; the bench of 7.2 has none.
        const object = said.includes('qom-type') || (verb.name === 'bench' && 'object'.startsWith(prefix))
        if (verb.lenient !== true && !object && !ours.startsWith(said))
          different.push(`${args.join(' ')}: ${said} / ${ours}`)
      }
    }
    expect(different).toEqual([])
  })

  for (const line of [
    'convert --target a.raw b',
    'convert --s',
    'bitmap --source',
    'info --o json a.raw',
    'create --o x',
  ]) {
    fixtures.same(line)
  }
})
