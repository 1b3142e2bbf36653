/** Staging, imports and stores through the stock clients, unchanged. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, runOk } from '../../engine/test/support/process.ts'
import { startMirror } from './support/mirror.ts'
import { ask, createImage, type Subject, services, showImage } from './support/service.ts'

const start = services()
const folder = temporaryFolder()
/** Each call starts Python anew. */
const patience = { timeout: 240_000 }

function clientSettings() {
  const home = folder.file('home')
  mkdirSync(home, { recursive: true })
  return { env: { PATH: process.env.PATH, HOME: home, LC_ALL: 'C.UTF-8' }, timeout: 60_000 }
}

async function active(url: string, id: string): Promise<Record<string, unknown>> {
  for (let at = 0; at < 1000; at++) {
    const image = await showImage(url, id)
    if (image.status === 'active' && image.os_glance_import_task === undefined) return image
    await sleep(20)
  }
  throw new Error('the image does not become active')
}

let subject: Subject
let source = ''
const data = randomBytes(200_000)
const path = () => {
  const file = folder.fresh('.raw')
  writeFileSync(file, data)
  return file
}
beforeAll(async () => {
  const mirror = await startMirror()
  mirror.files.set('/image', { data })
  source = `${mirror.url}/image`
  subject = await start({
    stores: `one=folder:${folder.fresh()}, description=First; two=folder:${folder.fresh()}`,
    ...{ importAllowedHosts: '127.0.0.1', importPorts: '*' },
  })
})

describeWith(['openstack'], 'openstack', () => {
  // Debian's knows no `image stage` and `image import`, but this.
  it('creates an image by staging and importing it', patience, async () => {
    const access = ['--os-auth-type', 'none', '--os-endpoint', subject.url]
    const facts = ['--disk-format', 'raw', '--container-format', 'bare', '--import', '--file', path()]
    await runOk('openstack', [...access, 'image', 'create', ...facts, 'staged'], clientSettings())
    const { images } = (await ask(`${subject.url}/v2/images?name=staged`)).json<{ images: { id: string }[] }>()
    const id = images[0]?.id ?? ''
    expect(await active(subject.url, id)).toMatchObject({ size: data.length, stores: 'one' })
    const { tasks } = (await ask(`${subject.url}/v2/images/${id}/tasks`)).json<{ tasks: { status: string }[] }>()
    expect(tasks.map(({ status }) => status)).toEqual(['success'])
  })
})

describeWith(['glance'], 'glance', () => {
  // What it can read from its standard input it takes for image data.
  const glance = (...args: string[]) => {
    const all = ['--os-image-url', subject.url, '--os-auth-token', 'any', ...args]
    return runOk('sh', ['-c', 'exec glance "$@" <&-', 'sh', ...all], clientSettings())
  }

  it('stages, imports, and saves', patience, async () => {
    const id = await createImage(subject.url)
    await glance('image-stage', '--file', path(), id)
    await glance('image-import', '--import-method', 'glance-direct', '--stores', 'two', id)
    expect((await active(subject.url, id)).stores).toBe('two')
    const back = folder.fresh('.raw')
    await glance('image-download', '--file', back, id)
    expect(readFileSync(back).equals(data)).toBe(true)
  })

  it('creates by import, and tells of stores, methods and tasks', patience, async () => {
    const facts = ['--disk-format', 'raw', '--container-format', 'bare', '--name', 'via']
    await glance('image-create-via-import', ...facts, '--import-method', 'web-download', '--uri', source)
    const { images } = (await ask(`${subject.url}/v2/images?name=via`)).json<{ images: { id: string }[] }>()
    const id = images[0]?.id ?? ''
    await active(subject.url, id)
    expect(await glance('stores-info')).toContain('First')
    expect(await glance('import-info')).toContain('copy-image')
    expect(await glance('image-tasks', id)).toContain('success')
    expect(await glance('task-list')).toContain('api_image_import')
    await glance('image-import', '--import-method', 'copy-image', '--stores', 'two', id)
    for (let at = 0; (await showImage(subject.url, id)).stores !== 'one,two' && at < 500; at++) await sleep(20)
    await glance('stores-delete', '--store', 'one', id)
    expect((await showImage(subject.url, id)).stores).toBe('two')
  })
})
