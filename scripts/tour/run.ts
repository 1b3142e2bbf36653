/** Runs the steps of the tour as a person would: one shell, one folder, the service on its side. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { run } from '../support/run.ts'
import { type Service, startService } from '../support/service.ts'
import { readmePort, type Step } from './page.ts'

/** What each step printed, standard error too. A step that fails is an error.
 *  The service takes a free port, which stands for the README's. */
export async function runTour(root: string, steps: readonly Step[]): Promise<string[]> {
  const folder = await mkdtemp(join(tmpdir(), 'moraine-tour-'))
  let service: Service | undefined
  try {
    service = await startService(join(root, 'bin', 'moraine'), join(folder, 'service'))
    await mkdir(join(folder, 'tour'))
    return await runSteps(root, join(folder, 'tour'), steps, service.port)
  } finally {
    await service?.stop()
    await rm(folder, { recursive: true, force: true })
  }
}

async function runSteps(root: string, folder: string, steps: readonly Step[], port: number): Promise<string[]> {
  const mark = '--next-step--'
  const script = [
    'set -eu',
    'export LC_ALL=C.UTF-8',
    `moraine() { '${join(root, 'bin', 'moraine')}' "$@"; }`,
    ...steps.flatMap(({ command }) => [command.replaceAll(String(readmePort), String(port)), `echo '${mark}'`]),
  ].join('\n')
  const { code, stdout } = await run('bash', ['-c', `exec 2>&1\n${script}`], folder)
  const outputs = stdout.replaceAll(String(port), String(readmePort)).split(`${mark}\n`)
  if (code !== 0) {
    const at = outputs.length - 1
    throw new Error(`the tour's \`${steps[at]?.command ?? '?'}\` ended with ${code}:\n${outputs[at] ?? ''}`)
  }
  return outputs.slice(0, steps.length)
}
