/** Disks without a byte left (small file systems in memory), under the store and under the catalog: one request fails, the service lives on, nothing is lost. */
import { execFileSync } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { closeSync, mkdirSync, openSync, readdirSync, rmSync, statSync, truncateSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, tool } from '../../engine/test/support/process.ts'
import { doctor } from '../src/upkeep.ts'
import { until } from './support/served.ts'
import { ask, binary, createImage, type Subject, services, showImage, upload } from './support/service.ts'

const start = services()
const folder = temporaryFolder()
const KiB = 1024
const MiB = 1024 * KiB

/** Mounts two small disks, for the catalog and for image data, and starts a service on them. */
async function withDisks(work: (disks: { data: string; images: string; open(): Promise<Subject> }) => Promise<void>) {
  const [data, images] = [folder.fresh(), folder.fresh()]
  const opened: Subject[] = []
  const mounted: string[] = []
  try {
    for (const [point, size] of [
      [data, '6m'],
      [images, '8m'],
    ] as const) {
      mkdirSync(point)
      execFileSync(tool('mount').path ?? '', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', point])
      mounted.push(point)
    }
    const open = async () => {
      const subject = await start({ data, stores: `images=folder:${images}, default` })
      opened.push(subject)
      return subject
    }
    await work({ data, images, open })
  } finally {
    for (const point of mounted) rmSync(join(point, 'filler'), { force: true })
    for (const subject of opened) await subject.close()
    for (const point of mounted) execFileSync(tool('umount').path ?? '', [point])
  }
}

/** Takes all the room that a disk has, but for some bytes. Returns what gives it back. */
function fill(point: string, left = 0): () => void {
  const path = join(point, 'filler')
  const file = openSync(path, 'a')
  for (let size = MiB; size >= 1; size = size > KiB ? size / 2 : size - KiB) {
    try {
      for (;;) writeSync(file, Buffer.alloc(size, 1))
    } catch (error) {
      expect(error).toMatchObject({ code: 'ENOSPC' })
    }
  }
  closeSync(file)
  truncateSync(path, statSync(path).size - left)
  return () => rmSync(path)
}

const json = { 'content-type': 'application/json' }
const facts = JSON.stringify({ disk_format: 'raw', container_format: 'bare' })

/** Creates images until the catalog takes none, and returns those that it took. */
async function createAll(url: string): Promise<{ made: string[]; refused: [status: number, body: string] }> {
  const made: string[] = []
  for (let count = 0; count < 4000; count++) {
    const { status, body } = await ask(`${url}/v2/images`, 'POST', facts, json)
    if (status !== 201) return { made, refused: [status, body.toString()] }
    made.push(JSON.parse(body.toString()).id)
  }
  throw new Error('the disk is not full')
}

async function listed(url: string): Promise<string[]> {
  const { images } = (await ask(`${url}/v2/images?limit=1000`)).json<{ images: { id: string }[] }>()
  return images.map(({ id }) => id).sort()
}

async function findings(data: string, images: string): Promise<unknown[]> {
  const found = []
  const settings = { data, stores: `images=folder:${images}, default` }
  for await (const finding of doctor(settings, { repair: false, verify: true })) found.push(finding)
  return found
}

describeWith(['mount', 'umount'], 'a full disk', () => {
  const root = process.getuid?.() === 0
  if (!root) it.skip('[skipped: not root]', () => {})
  if (root) {
    it('under the store fails uploads, and nothing else', async () => {
      await withDisks(async ({ data, images, open }) => {
        const subject = await open()
        const { url } = subject
        const content = randomBytes(2 * MiB)
        const [kept, large] = [await createImage(url), await createImage(url)]
        expect((await upload(url, kept, content)).status).toBe(204)
        const pieces = async function* () {
          for (let count = 0; count < 12; count++) yield randomBytes(MiB)
        }
        for (const body of [randomBytes(12 * MiB), pieces()]) {
          const { status, body: said } = await upload(url, large, body)
          expect([status, said.toString()]).toEqual([413, expect.stringContaining('storage media is full')])
          expect(await showImage(url, large)).toMatchObject({ status: 'queued', size: null })
        }
        expect(['images', 'uploads'].map((name) => readdirSync(join(images, name)).length)).toEqual([1, 0])
        const giveBack = fill(images)
        expect((await upload(url, large, content)).status).toBe(413)
        expect((await ask(`${url}/v2/images/${kept}/file`)).body.equals(content)).toBe(true)
        giveBack()
        expect((await upload(url, large, content)).status).toBe(204)
        await subject.close()
        expect(await findings(data, images)).toEqual([])
      })
    })

    it('under the catalog fails what would change it; what was answered is kept, and all goes on when there is room', async () => {
      await withDisks(async ({ data, images, open }) => {
        const first = await open()
        const { url } = first
        const content = randomBytes(2 * MiB)
        const [kept, halfway] = [await createImage(url), await createImage(url)]
        expect((await upload(url, kept, content)).status).toBe(204)
        let giveBack = () => {}
        let taken: Awaited<ReturnType<typeof createAll>> = { made: [], refused: [0, ''] }
        const pieces = async function* () {
          yield content.subarray(0, MiB)
          await until(async () => (await showImage(url, halfway)).status === 'saving')
          giveBack = fill(data, MiB / 2)
          taken = await createAll(url)
          yield content.subarray(MiB)
        }
        const cut = await upload(url, halfway, pieces())
        expect([cut.status, cut.body.toString()]).toEqual([503, expect.stringContaining('no room left')])
        // A smaller change may still have had room.
        await until(async () => (await ask(`${url}/v2/images/${kept}/tags/${randomUUID()}`, 'PUT')).status === 503)
        expect(taken.made.length).toBeGreaterThan(3)
        expect(taken.refused).toEqual([503, expect.stringContaining('no room left')])

        // It goes on answering, and refuses one request after the other.
        const known = [kept, halfway, ...taken.made].sort()
        expect(await listed(url)).toEqual(known)
        expect((await ask(`${url}/v2/images/${kept}/file`)).body.equals(content)).toBe(true)
        expect((await ask(`${url}/v2/images`, 'POST', facts, json)).status).toBe(503)
        expect((await ask(`${url}/v2/images/${kept}`, 'DELETE')).status).toBe(503)
        expect((await ask(`${url}/v2/images/${taken.made[0]}/file`, 'PUT', content, binary)).status).toBe(503)
        expect((await ask(`${url}/readyz`)).status).toBe(200)
        expect((await ask(`${url}/v2/images/${kept}/file`)).body.equals(content)).toBe(true)

        giveBack()
        await until(async () => (await showImage(url, halfway)).status === 'queued')
        expect((await upload(url, halfway, content)).status).toBe(204)
        expect(await listed(url)).toEqual(known)
        await first.close()
        expect(await findings(data, images)).toEqual([])
        const second = await open()
        expect(await listed(second.url)).toEqual(known)
        for (const id of [kept, halfway]) {
          expect((await ask(`${second.url}/v2/images/${id}/file`)).body.equals(content)).toBe(true)
        }
      })
    })
  }
})
