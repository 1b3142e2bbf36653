/** Both image services as operators run them, side by side: behind one real Keystone, with the same images in their catalogs. */
import { spawn } from 'node:child_process'
import { existsSync, openSync, readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { openCatalog } from '../../packages/server/src/catalog/open.ts'
import { type Keystone, startKeystone } from '../../packages/server/test/support/keystone.ts'
import { type Deployed, installGlance, needs, responds, startDeployedGlance } from './glance.ts'
import { end, type MariaDb, startMariaDb } from './mariadb.ts'

/** One service under measurement. */
export interface Subject {
  name: 'moraine' | 'Glance'
  url: string
  /** All that works for it: its first process, and that of its database. */
  pids: number[]
  startSeconds: number
  restart(): Promise<void>
  /** Puts so many active images into its catalog, beside those that are there: the first `own` belong to `guest`, the others to `owner`. */
  seed(images: readonly SeedImage[]): Promise<void>
}

export interface SeedImage {
  id: string
  name: string
  owner: string
}

export interface Deployments {
  moraine: Subject
  glance: Subject
  /** Ids of projects, and tokens of their members. */
  owner: { project: string; token: string }
  guest: { project: string; token: string }
  stop(): Promise<void>
}

/** What every image of the catalogs has, so that documents are as long as in a cloud. */
const properties: Readonly<Record<string, string>> = {
  architecture: 'x86_64',
  hw_disk_bus: 'scsi',
  hw_scsi_model: 'virtio-scsi',
  os_distro: 'debian',
  os_version: '12',
  os_require_quiesce: 'yes',
}
const tags = ['bench', 'stable']
const size = 2 ** 31
const digest = { checksum: 'a'.repeat(32), hashValue: 'b'.repeat(128) }

/** @throws Error naming the packages that are missing. */
function checkNeeds(): void {
  const missing = Object.entries(needs).filter(([file]) => !existsSync(file))
  if (missing.length > 0) throw new Error(`not installed: ${missing.map(([, name]) => name).join(', ')}`)
}

export async function deploy(folder: string, moraine: string): Promise<Deployments> {
  checkNeeds()
  const open: (() => Promise<void>)[] = []
  const stop = async () => {
    for (const close of open.splice(0).reverse()) await close()
  }
  try {
    const keystone = await startKeystone(join(folder, 'keystone'))
    open.push(() => keystone.stop())
    await keystone.user('owner', 'secret-owner', { owner: ['member'] })
    await keystone.user('guest', 'secret-guest', { guest: ['member'] })
    const project = async (name: string) => ({
      project: await keystone.project(name),
      token: await keystone.token({ user: name, password: `secret-${name}`, project: name }),
    })
    const database = await startMariaDb(join(folder, 'mariadb'))
    open.push(() => database.stop())
    const glance = await startGlance(join(folder, 'glance'), database, keystone)
    open.push(() => glance.stop())
    const ours = await startMoraine(join(folder, 'moraine'), moraine, keystone)
    open.push(() => ours.stop())
    return { moraine: ours, glance, owner: await project('owner'), guest: await project('guest'), stop }
  } catch (error) {
    await stop()
    throw error
  }
}

type Stoppable = Subject & { stop(): Promise<void> }

async function startGlance(folder: string, database: MariaDb, keystone: Keystone): Promise<Stoppable> {
  await installGlance(folder, database, keystone)
  const start = () => startDeployedGlance(folder, glancePort)
  return restartable('Glance', start, [database.pid], (images) => database.sql(glanceRows(images, folder)))
}

async function startMoraine(folder: string, command: string, keystone: Keystone): Promise<Stoppable> {
  await mkdir(folder, { recursive: true })
  const data = join(folder, 'data')
  return restartable(
    'moraine',
    () => startOurs(command, data, keystone, join(folder, 'log')),
    [],
    (images) => seedOurs(data, images),
  )
}

const glancePort = 19_292
const morainePort = 19_293

async function restartable(
  name: Subject['name'],
  start: () => Promise<Deployed>,
  others: readonly number[],
  seed: Subject['seed'],
): Promise<Stoppable> {
  let running = await start()
  const subject: Stoppable = {
    name,
    url: running.url,
    pids: [running.pid, ...others],
    startSeconds: running.startSeconds,
    seed,
    async restart() {
      await running.stop()
      running = await start()
      subject.pids = [running.pid, ...others]
      subject.startSeconds = running.startSeconds
    },
    stop: () => running.stop(),
  }
  return subject
}

/** The service as it comes, with its log in a file, as Glance has its. */
async function startOurs(command: string, data: string, { url, admin }: Keystone, log: string): Promise<Deployed> {
  const started = performance.now()
  const output = openSync(log, 'w')
  const child = spawn(process.execPath, [command, 'serve'], {
    stdio: ['ignore', output, output],
    env: {
      ...process.env,
      MORAINE_PORT: String(morainePort),
      MORAINE_DATA: data,
      MORAINE_AUTH: 'keystone',
      MORAINE_KEYSTONE_URL: url,
      MORAINE_KEYSTONE_USER: admin.user,
      MORAINE_KEYSTONE_PASSWORD: admin.password,
      MORAINE_KEYSTONE_PROJECT: admin.project,
    },
  })
  const address = `http://127.0.0.1:${morainePort}`
  while (!(await responds(`${address}/versions`))) {
    if (child.exitCode !== null || performance.now() - started > 30_000) {
      await end(child, 'SIGKILL')
      throw new Error(`the service did not start: ${readFileSync(log, 'utf8')}`)
    }
    await sleep(20)
  }
  const startSeconds = (performance.now() - started) / 1000
  return { url: address, pid: child.pid ?? 0, startSeconds, stop: () => end(child, 'SIGTERM') }
}

/** Through the catalog's own code, beside the service that uses it. */
async function seedOurs(data: string, images: readonly SeedImage[]): Promise<void> {
  const catalog = await openCatalog(data)
  try {
    for (const { id, name, owner } of images) {
      await catalog.create({
        ...{ id, name, owner, diskFormat: 'qcow2', containerFormat: 'bare', visibility: 'shared' },
        ...{ properties: new Map(Object.entries(properties)), tags },
      })
      await catalog.update(id, (image) => ({
        ...image,
        ...{ ...digest, status: 'active', size, virtualSize: size, hashAlgorithm: 'sha512' },
        locations: [{ store: 'default', key: `${id}.00000000`, status: 'active', metadata: {} }],
      }))
    }
  } finally {
    await catalog.close()
  }
}

/** The same images as rows of Glance's tables. */
function glanceRows(images: readonly SeedImage[], folder: string): string {
  const lines = ['use glance; start transaction;']
  const insert = (table: string, columns: string, values: readonly string[]) =>
    lines.push(`insert into ${table} (created_at, updated_at, deleted, ${columns}) values ${values.join(', ')};`)
  const times = 'utc_timestamp(), utc_timestamp(), 0'
  for (let at = 0; at < images.length; at += 500) {
    const batch = images.slice(at, at + 500)
    const columns = 'id, name, disk_format, container_format, size, virtual_size, status, visibility, checksum'
    insert(
      'images',
      `${columns}, os_hash_algo, os_hash_value, min_disk, min_ram, owner, protected, os_hidden`,
      batch.map(
        ({ id, name, owner }) =>
          `(${times}, '${id}', '${name}', 'qcow2', 'bare', ${size}, ${size}, 'active', 'shared', '${digest.checksum}', ` +
          `'sha512', '${digest.hashValue}', 0, 0, '${owner}', 0, 0)`,
      ),
    )
    const each = (values: (image: SeedImage) => string[]) => batch.flatMap(values).map((text) => `(${times}, ${text})`)
    const rows = Object.entries(properties)
    insert(
      'image_properties',
      'image_id, name, value',
      each(({ id }) => rows.map(([name, value]) => `'${id}', '${name}', '${value}'`)),
    )
    insert(
      'image_tags',
      'image_id, value',
      each(({ id }) => tags.map((tag) => `'${id}', '${tag}'`)),
    )
    insert(
      'image_locations',
      'image_id, value, meta_data, status',
      each(({ id }) => [`'${id}', 'file://${folder}/images/${id}', '{"store": "store"}', 'active'`]),
    )
  }
  lines.push('commit;')
  return lines.join('\n')
}
