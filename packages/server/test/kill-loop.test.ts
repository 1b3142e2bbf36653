/** The service killed at random moments of everything that clients do, over and over: after each restart no image is active without its bytes, no bytes
 *  lie there without an image, and nothing that was answered is untrue. `MORAINE_BUDGET` makes the loop longer, `MORAINE_SEED` repeats its choices. */
import { randomBytes } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { launcher } from '../../engine/test/support/launcher.ts'
import { runOk } from '../../engine/test/support/process.ts'
import { budget, Random, seed, timeFor } from '../../engine/test/support/random.ts'
import { doctor } from '../src/upkeep.ts'
import { Clients } from './support/killed.ts'
import { startMirror } from './support/mirror.ts'
import { launchedProcesses } from './support/served.ts'
import { ask, binary, createImage } from './support/service.ts'

const folder = temporaryFolder()
const command = launcher('moraine')
const isWhole = budget(1) >= 2
const milliseconds = isWhole ? 120_000 : 16_000
/** Deaths that there must be, however long they take: in the soak some hundreds. */
const leastDeaths = isWhole ? 200 : 1
/** What a death takes at most, with all that is looked at after it, on a machine that does other things too. */
const millisecondsOfDeath = 8000
const launch = launchedProcesses()
const live = (data: string) =>
  launch(data, {
    MORAINE_IMPORT_ALLOWED_HOSTS: '127.0.0.1',
    MORAINE_IMPORT_PORTS: '*',
    MORAINE_EXPORT_CACHE_SIZE: '64M',
  })

/** The catalog and the stores tell one story, by the doctor and by a look at the folders. */
async function checkStory(data: string): Promise<void> {
  const findings: unknown[] = []
  for await (const finding of doctor({ data }, { repair: false, verify: true })) findings.push(finding)
  expect(findings).toEqual([])
  for (const name of ['store/uploads', 'staging/uploads', 'staging/images']) {
    expect([name, readdirSync(join(data, name))]).toEqual([name, []])
  }
}

/** A qcow2 image that is exported as raw. */
async function keptImage(url: string): Promise<{ id: string; exported: Buffer }> {
  const exported = Buffer.concat([randomBytes(700_000), Buffer.alloc(1_000_000), randomBytes(397_152)])
  const [raw, qcow2] = [folder.fresh('.raw'), folder.fresh('.qcow2')]
  writeFileSync(raw, exported)
  await runOk(command, ['convert', '-f', 'raw', '-O', 'qcow2', '-c', raw, qcow2])
  const id = await createImage(url, { disk_format: 'qcow2', name: 'kept' })
  expect((await ask(`${url}/v2/images/${id}/file`, 'PUT', readFileSync(qcow2), binary)).status).toBe(204)
  return { id, exported }
}

test(
  'whatever the service is killed at, no image lacks its bytes and no bytes lack their image',
  async () => {
    const random = new Random(seed('kill loop'))
    const mirror = await startMirror()
    const data = folder.fresh()
    let life = live(data)
    const clients = new Clients(random, mirror, await keptImage(await life.url))
    let deaths = 0
    for (const end = Date.now() + budget(milliseconds); Date.now() < end || deaths < leastDeaths; deaths++) {
      const work = clients.busy(await life.url)
      await Promise.race([sleep(random.int(0, 250)), work])
      await life.kill()
      await work
      if (random.bool(0.15)) {
        // Not even what clears away after a death may be disturbed by another one.
        const short = live(data)
        await Promise.race([sleep(random.int(200, 900)), short.url])
        await short.kill()
        deaths++
      }
      life = live(data)
      await clients.check(await life.url)
      await checkStory(data)
    }
    await life.kill()
    console.info(`kill loop: ${deaths} deaths; begun: ${JSON.stringify(Object.fromEntries(clients.begun))}`)
    expect(deaths).toBeGreaterThanOrEqual(leastDeaths)
  },
  Math.max(timeFor(milliseconds), leastDeaths * millisecondsOfDeath) + 60_000,
)
