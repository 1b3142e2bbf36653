/** Completion: what is offered where, and in real shells. */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { describeWith, run, tool } from '../../engine/test/support/process.ts'
import { splitLine } from '../src/completion/line.ts'
import { suggest } from '../src/completion/suggest.ts'
import { personaFor } from '../src/persona.ts'
import { moraine } from './support/differential.ts'

async function offered(line: string): Promise<string[]> {
  const { words, files } = await suggest(splitLine(line).slice(1), personaFor('moraine'))
  return [...words.map(({ word }) => word), ...(files === undefined ? [] : [`(files after '${files.after}')`])]
}

describe('what is offered', () => {
  const files = "(files after '')"
  const cases: [line: string, all: string[]][] = [
    ['moraine meas', ['measure']],
    ['moraine --err', ['--errors=json']],
    ['moraine --tr', ['--trace=']],
    ['moraine --trace=help meas', ['measure']],
    ['moraine create --backing-', ['--backing-format=', '--backing-unsafe']],
    ['moraine create --backing-format=vhd', ['--backing-format=vhdx', '--backing-format=vhd', '--backing-format=vhds']],
    ['moraine --errors=json meas', ['measure']],
    ['moraine help meas', ['measure']],
    ['moraine image re', ['reactivate', 'reject']],
    ['moraine image --os-cloud x re', ['reactivate', 'reject']],
    ['moraine image list --visi', ['--visibility=']],
    ['moraine image list --visibility=pu', ['--visibility=public']],
    ['moraine image list --visibility pu', ['public']],
    ['moraine image --os-cloud x list --visibility pu', ['public']],
    ['moraine info --out', ['--output=']],
    ['moraine info --output=', ['--output=human', '--output=json']],
    ['moraine info --output=json ', [files]],
    ['moraine info -- --out', [files]],
    ['moraine info -U -f qco', ['qcow2', 'qcow']],
    ['moraine info -Uf qco', ['qcow2', 'qcow']],
    ['moraine create -fvm', ['-fvmdk']],
    ['moraine create -f vmdk -o subformat=mono', ['subformat=monolithicSparse', 'subformat=monolithicFlat']],
    [
      'moraine create -f qcow2 -o lazy_refcounts=on,preallocation=f',
      ['falloc', 'full'].map((mode) => `lazy_refcounts=on,preallocation=${mode}`),
    ],
    ['moraine create -f qcow2 -o lazy', ['lazy_refcounts=']],
    ['moraine create -f raw -o lazy', []],
    ['moraine create -f qcow2 -o backing_file=', ["(files after 'backing_file=')"]],
    ['moraine create -f dm', []],
    ['moraine info -f dm', ['dmg']],
    ['moraine convert -f vmdk -O qcow2 -o extended', ['extended_l2=']],
    ['moraine convert -t dir', ['directsync']],
    ['moraine convert --for az', ['azure']],
    ['moraine convert --for=az', ['--for=azure']],
    ['moraine check -r ', ['leaks', 'all']],
    ['moraine dd b', ['bs=']],
    ['moraine dd if=', ["(files after 'if=')"]],
    ['moraine completion z', ['zsh']],
    ['moraine serve --auth ', ['none', 'local', 'keystone']],
    ['moraine nope ', []],
    ['ls; moraine info --out', ['--output=']],
    [`moraine info "my file" 'and' and\\ another --out`, ['--output=']],
  ]
  for (const [line, all] of cases) it(line, async () => expect(await offered(line)).toEqual(all))

  it('every command and every option of each has its place', async () => {
    const persona = personaFor('moraine')
    for (const { word: verb } of (await suggest([''], persona)).words) {
      const options = await offered(`moraine ${verb} -`)
      expect(options).toContain('--help')
      for (const option of options.filter((one) => one.endsWith('='))) {
        // Whatever its argument is, to be asked for it breaks nothing.
        await offered(`moraine ${verb} ${option}`)
      }
    }
  })
})

const folder = mkdtempSync(join(tmpdir(), 'moraine-completion-'))
beforeAll(async () => {
  symlinkSync(moraine, join(folder, 'moraine'))
  writeFileSync(join(folder, 'some image.qcow2'), '')
  writeFileSync(join(folder, 'only.raw'), '')
  for (const shell of ['bash', 'zsh', 'fish']) {
    const { code, stdout } = await run(moraine, ['completion', shell])
    expect(code).toBe(0)
    writeFileSync(join(folder, `moraine.${shell}`), stdout)
  }
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const environment = { HOME: folder, PATH: `${folder}:${process.env.PATH}`, LC_ALL: 'C.UTF-8', TERM: 'dumb', PS1: '' }

/** Types at a shell in a terminal of its own. Each line is typed when the one before was answered; what stands on the command line then is printed, as its words. */
async function typed(command: string, setUp: string, keys: readonly string[]): Promise<string[]> {
  const child = spawn(tool('script').path ?? 'script', ['-qec', command, '/dev/null'], {
    cwd: folder,
    env: environment,
  })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (more: string) => {
    text += more
  })
  const said = async (what: RegExp): Promise<RegExpExecArray> => {
    for (const end = Date.now() + 20_000; Date.now() < end; await new Promise((later) => setTimeout(later, 20))) {
      const found = what.exec(text)
      if (found !== null) return found
    }
    throw new Error(`the shell did not say ${what}: ${text}`)
  }
  const lines: string[] = []
  try {
    child.stdin.write(`${setUp}; echo rea''dy\n`)
    await said(/ready\r?\n/)
    for (const [at, key] of keys.entries()) {
      // What is typed is completed, then the line is made an argument of a command that shows it.
      child.stdin.write(`${key}\x01shown ${at} \n`)
      lines.push((await said(new RegExp(`<${at}>(.*?)<end>`)))[1] ?? '')
    }
    return lines
  } finally {
    child.stdin.end('exit\n')
    child.kill('SIGKILL')
  }
}

const shown = `shown() { printf '<%s>' "$@"; printf '<end>\\n'; }`
const keys = [
  'moraine meas\t',
  'moraine info --outp\tj\t',
  'moraine create -f vmd\t-o subf\tstreamO\t',
  'moraine info onl\t',
  'moraine convert -f qcow2 som\t',
  'moraine dd if=onl\t',
  'moraine create -f qcow2 -b onl\t -F ra\t',
]
const answers = [
  '<moraine><measure>',
  '<moraine><info><--output=json>',
  '<moraine><create><-f><vmdk><-o><subformat=streamOptimized>',
  '<moraine><info><only.raw>',
  '<moraine><convert><-f><qcow2><some image.qcow2>',
  '<moraine><dd><if=only.raw>',
  '<moraine><create><-f><qcow2><-b><only.raw><-F><raw>',
]

describeWith(['bash', 'script'], 'in bash', () => {
  it('completes what is typed', { timeout: 60_000 }, async () => {
    const found = await typed('bash --norc --noprofile -i', `${shown}; source moraine.bash`, keys)
    expect(found).toEqual(answers)
  })
})

describeWith(['zsh', 'script'], 'in zsh', () => {
  it('completes what is typed', { timeout: 60_000 }, async () => {
    const setUp = `${shown}; bindkey -e; autoload -U compinit; compinit -u -D; source ./moraine.zsh`
    expect(await typed('zsh -f -i', setUp, keys.slice(2, 6))).toEqual(answers.slice(2, 6))
  })
})

describeWith(['fish'], 'in fish', () => {
  const fish = async (line: string): Promise<string[]> => {
    const { stdout } = await run(
      tool('fish').path ?? 'fish',
      ['-N', '-c', `source moraine.fish; complete -C '${line}'`],
      { cwd: folder, env: environment },
    )
    return stdout.split('\n').flatMap((found) => (found === '' ? [] : [found.split('\t')[0] ?? '']))
  }

  it('completes what is typed', { timeout: 60_000 }, async () => {
    expect(await fish('moraine create -f vmdk -o subformat=streamO')).toEqual(['subformat=streamOptimized'])
    expect(await fish('moraine info onl')).toEqual(['only.raw'])
    expect(await fish('moraine dd if=onl')).toEqual(['if=only.raw'])
  })
})
