/** Which of the command's launchers tests start. */
import { join } from 'node:path'
import { projectRoot } from './process.ts'

/** The launcher of the sources or, with `MORAINE_COMMAND=built`, of what was built, by either of the command's names. */
export function launcher(name: 'moraine' | 'qemu-img'): string {
  return process.env.MORAINE_COMMAND === 'built'
    ? join(projectRoot, 'packages/cli/test/support/built', name)
    : join(projectRoot, 'bin', name)
}
