/** The service as a real process, short of disk: requests fail one by one, and nothing is lost. */
import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, runOk, tool } from '../../engine/test/support/process.ts'
import { doctor } from '../src/upkeep.ts'
import { servedProcesses } from './support/served.ts'
import { ask, binary, createImage, showImage, upload } from './support/service.ts'

const folder = temporaryFolder()
const serve = servedProcesses()
const MiB = 1024 * 1024

describeWith(['prlimit'], 'a disk that takes no more', () => {
  const prlimit = tool('prlimit').path ?? ''
  /** The kernel says EFBIG to whoever writes behind `bytes` of a file, which stands for a full disk. */
  const limit = (pid: number, bytes: number | 'unlimited') =>
    runOk(prlimit, ['--pid', String(pid), `--fsize=${bytes}:unlimited`])

  test('fails uploads one by one, then the catalog; nothing is lost, and all goes on when there is room', async () => {
    const data = folder.fresh()
    const { url, pid, end } = await serve(data)
    const content = randomBytes(3 * MiB)
    const [kept, large, small] = [await createImage(url), await createImage(url), await createImage(url)]
    expect((await upload(url, kept, content)).status).toBe(204)
    await limit(pid, 8 * MiB)
    const full = await upload(url, large, randomBytes(12 * MiB))
    expect([full.status, full.body.toString()]).toEqual([413, expect.stringContaining('storage media is full')])
    expect(await showImage(url, large)).toMatchObject({ status: 'queued', size: null })
    const stage = await ask(`${url}/v2/images/${large}/stage`, 'PUT', randomBytes(12 * MiB), binary)
    expect(stage.status).toBe(413)
    expect((await upload(url, small, content)).status).toBe(204)

    // Not even the catalog can be written to.
    await limit(pid, 4096)
    const body = JSON.stringify({ name: 'no room', disk_format: 'raw', container_format: 'bare' })
    const json = { 'content-type': 'application/json' }
    expect((await ask(`${url}/v2/images`, 'POST', body, json)).status).toBeGreaterThanOrEqual(500)
    expect((await upload(url, large, content)).status).toBeGreaterThanOrEqual(413)
    expect((await ask(`${url}/v2/images/${kept}/file`)).body.equals(content)).toBe(true)
    await limit(pid, 'unlimited')
    expect((await showImage(url, large)).status).toBe('queued')
    expect((await upload(url, large, content)).status).toBe(204)
    for (const id of [kept, large, small]) {
      expect((await ask(`${url}/v2/images/${id}/file`)).body.equals(content)).toBe(true)
    }
    await end()
    const found = []
    for await (const finding of doctor({ data }, { repair: false, verify: true })) found.push(finding)
    expect(found).toEqual([])
  })
})
