/** Runs the steps of a page as a person would: one shell and one folder. */
import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Web } from '../../packages/cloud-images/test/support/web.ts'
import { cloudGuestTools } from '../../packages/engine/test/support/cloud-guest.ts'
import { launcher } from '../../packages/engine/test/support/launcher.ts'
import { run } from '../support/run.ts'
import { freePort, startService } from '../support/service.ts'
import { serveMirror } from './cloud-mirror.ts'
import type { Step } from './page.ts'

/** A page with commands to run. */
export interface Page {
  /** From the root of the project. */
  file: string
  /** Ports that it names; free ones stand for them. */
  ports: readonly number[]
  /** Whether a service listens on its first port already. */
  served: boolean
  /** Whether a mirror of cloud images, which is also in the folder `mirror`, is served on its first port. */
  mirrored?: boolean
  /** Programs that its commands are, besides the usual ones. */
  needs?: readonly string[]
}

export const pages: readonly Page[] = [
  { file: 'README.md', ports: [9292], served: true },
  { file: 'docs/appliances.md', ports: [9292], served: true },
  { file: 'docs/operators-guide.md', ports: [9292, 8808], served: false },
  { file: 'docs/amazon.md', ports: [9292], served: true },
  { file: 'docs/cloud-images.md', ports: [8080, 9292], served: false, mirrored: true, needs: cloudGuestTools },
  { file: 'docs/iso-and-seed.md', ports: [], served: false },
  { file: 'docs/nbd.md', ports: [10_809], served: false, needs: ['qemu-img', 'qemu-io', 'nbdinfo', 'nbdcopy'] },
]

/** What each step printed, standard error too. A step that fails is an error, and what still runs then is ended. */
export async function runTour(
  steps: readonly Step[],
  { ports, served, mirrored = false }: Pick<Page, 'ports' | 'served' | 'mirrored'>,
): Promise<string[]> {
  const folder = await mkdtemp(join(tmpdir(), 'moraine-tour-'))
  const moraine = launcher('moraine')
  let mirror: Web | undefined
  const service = served ? await startService(moraine, join(folder, 'service')) : undefined
  try {
    for (const name of ['bin', 'tour', 'home']) await mkdir(join(folder, name))
    await symlink(moraine, join(folder, 'bin', 'moraine'))
    if (mirrored) mirror = await serveMirror(join(folder, 'tour'))
    const first = service?.port ?? (mirror === undefined ? undefined : Number(new URL(mirror.url).port))
    const free = new Map<number, number>()
    for (const [at, port] of ports.entries()) {
      free.set(port, at === 0 && first !== undefined ? first : await freePort())
    }
    return await runSteps(folder, steps, free)
  } finally {
    await service?.stop()
    await mirror?.close()
    await rm(folder, { recursive: true, force: true })
  }
}

async function runSteps(folder: string, steps: readonly Step[], ports: ReadonlyMap<number, number>): Promise<string[]> {
  const mark = '--next-step--'
  const commands = steps.flatMap(({ command }) => [exchanged(command, ports), `echo '${mark}'`])
  const script = [
    'set -eu',
    'trap \'running=$(jobs -p); [ -z "$running" ] || kill $running; wait\' EXIT',
    'export LC_ALL=C.UTF-8',
    `export PATH='${join(folder, 'bin')}':$PATH HOME='${join(folder, 'home')}'`,
    ...commands,
  ].join('\n')
  const { code, stdout } = await run('bash', ['-c', `exec 2>&1\n${script}`], join(folder, 'tour'))
  const back = new Map([...ports].map(([named, free]) => [free, named]))
  const outputs = exchanged(stdout, back).replaceAll(join(folder, 'tour'), '~/tour').split(`${mark}\n`)
  if (code !== 0) {
    const at = outputs.length - 1
    throw new Error(`\`${steps[at]?.command ?? '?'}\` ended with ${code}:\n${outputs[at] ?? ''}`)
  }
  return outputs.slice(0, steps.length)
}

function exchanged(text: string, ports: ReadonlyMap<number, number>): string {
  return [...ports].reduce((so, [from, to]) => so.replaceAll(String(from), String(to)), text)
}
