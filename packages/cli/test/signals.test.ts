/** Signals and pipes: how the command stops, and what it leaves. */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { moraine, ourQemuImg } from './support/differential.ts'

const folder = mkdtempSync(join(tmpdir(), 'moraine-signals-'))
const mebibyte = 1 << 20

beforeAll(() => writeFileSync(join(folder, 'a.raw'), randomBytes(16 * mebibyte)))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
beforeEach(() => {
  for (const name of readdirSync(folder)) if (name !== 'a.raw') rmSync(join(folder, name))
})

interface Ended {
  code: number | null
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
}

function start(program: string, args: string[]): { child: ChildProcess; ended: Promise<Ended>; said: () => string } {
  const child = spawn(program, args, { cwd: folder })
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('latin1').on('data', (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const ended = new Promise<Ended>((resolve) => {
    child.on('close', (code, signal) => resolve({ code, signal, stdout, stderr }))
  })
  return { child, ended, said: () => stderr }
}

async function until(condition: () => boolean): Promise<void> {
  for (const end = Date.now() + 50_000; !condition(); ) {
    if (Date.now() > end) throw new Error('waited in vain')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** The hidden file of a target that is not finished. */
const unfinished = (): string[] => readdirSync(folder).filter((name) => name.endsWith('.part'))

// 2 MiB a second: a conversion takes 8 seconds, time enough to be stopped.
const slowly = ['convert', '-r', '2M', '-O', 'qcow2', 'a.raw', 'x.qcow2']

describe('a signal', () => {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    it(`${signal} ends a conversion, which leaves nothing`, async () => {
      const { child, ended } = start(ourQemuImg, slowly)
      await until(() => unfinished().length > 0)
      child.kill(signal)
      expect(await ended).toEqual({ code: null, signal, stdout: '', stderr: '' })
      expect(readdirSync(folder)).toEqual(['a.raw'])
    })
  }

  it('leaves an existing target where it is, and says so', async () => {
    writeFileSync(join(folder, 'x.qcow2'), 'before')
    const { child, ended, said } = start(moraine, [...slowly, '--progress=json'])
    await until(() => /"done":[1-9]/.test(said()))
    child.kill('SIGINT')
    const { signal, stderr } = await ended
    expect(signal).toBe('SIGINT')
    expect(stderr).toContain("'x.qcow2' was there before and is incomplete now.")
    expect(existsSync(join(folder, 'x.qcow2'))).toBe(true)
  })

  it('SIGUSR1 prints the progress, as often as it comes', async () => {
    const { child, ended, said } = start(ourQemuImg, slowly)
    await until(() => unfinished().length > 0)
    child.kill('SIGUSR1')
    await until(() => said().split('\n').length === 2)
    child.kill('SIGUSR1')
    await until(() => said().split('\n').length === 3)
    child.kill('SIGTERM')
    const { stderr } = await ended
    expect(stderr).toMatch(/^( {4}\(\d+\.\d\d\/100%\)\n){2}$/)
  })
})

describe('a pipe', () => {
  it('that is closed ends a listing quietly', async () => {
    const { child, ended } = start(moraine, ['map', '--output=json', 'a.raw'])
    child.stdout?.destroy()
    expect(await ended).toMatchObject({ code: 0, signal: null, stderr: '' })
  })

  it('that is closed ends a streamed image quietly, as a failure', async () => {
    const { child, ended } = start(moraine, ['convert', '-O', 'qcow2', 'a.raw', '-'])
    child.stdout?.once('data', () => child.stdout?.destroy())
    expect(await ended).toMatchObject({ code: 1, signal: null, stderr: '' })
  })

  it('that nobody reads does not hold up SIGINT', async () => {
    const child = spawn(moraine, ['convert', '-O', 'qcow2', 'a.raw', '-'], {
      cwd: folder,
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    const ended = new Promise((resolve) => child.on('exit', (_code, signal) => resolve(signal)))
    // The first bytes are here and nobody takes them: what follows fills the pipe within moments, and the command waits.
    await new Promise((resolve) => child.stdout.once('readable', resolve))
    await new Promise((resolve) => setTimeout(resolve, 500))
    child.kill('SIGINT')
    expect(await ended).toBe('SIGINT')
  })
})
