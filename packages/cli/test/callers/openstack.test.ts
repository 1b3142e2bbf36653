/** Programs of OpenStack with our command in the place of qemu-img, by their own functions: Debian's python3-nova, python3-cinder, python3-ironic-lib, python3-glance and python3-oslo.utils. They
 *  run it under limits of memory below which Node cannot start: with the standalone executable. `apt-get install --no-install-recommends python3-cinder python3-nova` brings those that CI does without. */
import { existsSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { isWholeRun } from '../../../engine/test/support/random.ts'
import { standalone } from '../support/differential.ts'
import { describeLimited, type Settings, sameForCaller, steps, withImages } from './rig.ts'

const packages = '/usr/lib/python3/dist-packages'

/** Names that Python draws. */
const drawn: readonly [RegExp, string][] = [
  [/(tmp|vol_upload_|image_[a-z]+_1_)[a-z0-9_]{8}\b/g, '$1…'],
  [/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, 'UUID'],
]
const settings: Settings = { masks: drawn, ignored: /^(locks|key$|password$)/ }

/** Those that have a function to be called, the file that shows that they are there, and how many steps must have come to a good end where all are gone. */
const programs: readonly { name: string; file: string; good: number; noise?: string[] }[] = [
  { name: 'oslo', file: 'oslo_utils/imageutils.py', good: 20 },
  { name: 'ironic', file: 'ironic_lib/disk_utils.py', good: 20 },
  { name: 'glance', file: 'glance/async_/flows/plugins/image_conversion.py', good: 20 },
  { name: 'cinder', file: 'cinder/image/image_utils.py', good: 60, noise: ['noise', 'noise.1'] },
  { name: 'nova', file: 'nova/virt/images.py', good: 60, noise: ['noise.qcow2'] },
]

for (const { name, file, good, noise = [] } of programs) {
  const title = `what ${name} does`
  const tests = () => {
    it('is the same with ours', { timeout: 300_000 }, async () => {
      const { said } = await sameForCaller(
        await withImages(),
        (run) => steps(name, run),
        { ...settings, noise },
        standalone.qemuImg,
      )
      expect(said.match(/"value"/g)?.length ?? 0).toBeGreaterThan(isWholeRun ? good : 4)
    })
  }
  // Those bring much with them, and passwords take seconds each: CI does without, and runs the lines that they call.
  const large = ['cinder', 'nova'].includes(name)
  if (large && !isWholeRun) describe.skip(`${title} [skipped: only with MORAINE_BUDGET of 1 or more]`, tests)
  else if (!large || existsSync(`${packages}/${file}`) || process.env.CI !== 'true')
    describeLimited(['qemu-img', `${packages}/${file}`], title, tests)
}
