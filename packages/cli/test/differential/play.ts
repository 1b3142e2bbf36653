/** Plays a script of several steps with the real qemu-img and with ours, each in a folder of its own, and compares after each step what was said and what is there. */
import { closeSync, mkdtempSync, openSync, rmSync, truncateSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run, tool } from '../../../engine/test/support/process.ts'
import { words } from '../support/differential.ts'
import { unexplained } from './known.ts'
import { runBothIn } from './runner.ts'

/** Plays a script: lines of qemu-img, `[file] commands` for the real qemu-io, and damage: `{file} offset hex` and `{file} cut length`. Returns what differs and is not known to, of the first step where anything does.
 *  Each step begins with the same files: both go on with those of one of them, in turn. */
export async function play(script: readonly string[]): Promise<string | undefined> {
  const theirs = mkdtempSync(join(tmpdir(), 'moraine-steps-'))
  const ours = mkdtempSync(join(tmpdir(), 'moraine-steps-'))
  try {
    for (const [at, line] of script.entries()) {
      const io = /^\[(.*?)\] (.*)$/.exec(line)
      if (io !== null) {
        for (const folder of [theirs, ours]) await writeWithQemu(folder, io[1] ?? '', (io[2] ?? '').split('; '))
        continue
      }
      const damage = /^\{(.*?)\} (cut|\d+) (\w+)$/.exec(line)
      if (damage !== null) {
        const [, file = '', where = '', what = ''] = damage
        for (const folder of [theirs, ours]) spoil(join(folder, file), where, what)
        continue
      }
      const outcome = await runBothIn(words(line), theirs, ours)
      const { stdout } = outcome.differences.has('stdout') ? outcome.theirs : { stdout: '' }
      // What the host spends on holes is its own affair.
      if (stdout !== '' && withoutSpace(stdout) === withoutSpace(outcome.ours.stdout))
        outcome.differences.delete('stdout')
      const told = unexplained(line, outcome).map(([aspect, text]) => `${aspect}\n${text}`)
      if (told.length > 0) return [...script.slice(0, at + 1), ...told].join('\n')
      await (at % 2 === 0 ? replace(theirs, ours) : replace(ours, theirs))
    }
    return undefined
  } finally {
    rmSync(theirs, { recursive: true })
    rmSync(ours, { recursive: true })
  }
}

async function writeWithQemu(cwd: string, file: string, commands: readonly string[]): Promise<void> {
  const format = file.slice(file.lastIndexOf('.') + 1)
  const args = commands.flatMap((command) => ['-c', command])
  await run(tool('qemu-io').path ?? 'qemu-io', ['-f', format, ...args, file], { cwd })
}

/** Cuts a file, or writes over some of its bytes. */
function spoil(path: string, where: string, what: string): void {
  if (where === 'cut') {
    truncateSync(path, Number(what))
    return
  }
  const file = openSync(path, 'r+')
  writeSync(file, Buffer.from(what, 'hex'), 0, what.length / 2, Number(where))
  closeSync(file)
}

/** Both are copies then, with holes at the same places: what is written next may hang on where they are. */
async function replace(from: string, to: string): Promise<void> {
  for (const [source, target] of [
    [from, to],
    [to, from],
  ] as const) {
    rmSync(target, { recursive: true })
    const { code, stderr } = await run('cp', ['-a', '--sparse=always', source, target])
    if (code !== 0) throw new Error(stderr)
  }
}

function withoutSpace(text: string): string {
  return text.replaceAll(/disk size: .*|"actual-size": \d+/g, '…')
}
