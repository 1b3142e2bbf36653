/** `npm run test:container`, after `npm run build`: builds the image of the service on a base of this machine's own files (no registry is asked), and runs it as its settings say: not as root,
 *  on a root that is read-only, with one volume. Needs buildah and root's rights (or sudo). `--base=FOLDER` takes another root file system, as debootstrap makes one. */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { cp, mkdir, mkdtemp, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { layOutContainer } from './build/container.ts'
import { installPackages, must, packPackages } from './build/pack.ts'
import { nodeProgram } from './build/workspace.ts'
import { run } from './support/run.ts'
import { freePort } from './support/service.ts'

/** What an image says of how it is run. */
interface ImageConfig {
  User: string
  Env: string[]
  Entrypoint: string[]
  Cmd: string[]
  Volumes: Record<string, object>
  Healthcheck?: { Test: string[] }
}

const asRoot = process.getuid?.() === 0 ? [] : ['sudo', '-n']
const scratch = await mkdtemp(join(tmpdir(), 'moraine-container-'))
const storage = ['--storage-driver', 'vfs', '--root', join(scratch, 'images'), '--runroot', join(scratch, 'run')]
const privileged = (command: string, ...args: string[]) => {
  const [first = '', ...rest] = [...asRoot, command, ...args]
  return must(scratch, first, ...rest)
}
const buildah = async (...args: string[]) => (await privileged('buildah', ...storage, ...args)).trim()

function expect(what: string, ok: boolean): void {
  if (!ok) throw new Error(`container: ${what}: no`)
  console.log(`container: ${what}: yes`)
}

try {
  const app = join(scratch, 'app')
  await installPackages(app, (await packPackages(join(scratch, 'tarballs'))).values())
  await layOutContainer(join(scratch, 'context'), app)
  await makeBase()
  const build = ['build', '--isolation', 'chroot', '--format', 'docker', '--build-arg', 'BASE=localhost/base']
  await buildah(...build, '--tag', 'moraine', join(scratch, 'context'))
  expect('the image is built', true)
  const container = await buildah('from', 'moraine')
  const { Docker } = JSON.parse(await buildah('inspect', container)) as { Docker: { config: ImageConfig } }
  await useImage(await buildah('mount', container), Docker.config)
} finally {
  await privileged('rm', '-rf', scratch)
}

/** A base image: the files of this machine that Node needs, or a whole file system. */
async function makeBase(): Promise<void> {
  let folder = process.argv.find((argument) => argument.startsWith('--base='))?.slice('--base='.length)
  if (folder === undefined) {
    folder = join(scratch, 'base')
    const env = '/usr/bin/env'
    const libraries = (await must(scratch, 'ldd', nodeProgram(), env)).match(/\/\S+(?= \(0x)/g) ?? []
    for (const path of new Set([env, ...libraries])) {
      await mkdir(join(folder, dirname(path)), { recursive: true })
      await cp(path, join(folder, path), { dereference: true })
    }
    for (const name of ['dev', 'proc', 'tmp']) await mkdir(join(folder, name))
  }
  const container = await buildah('from', 'scratch')
  await buildah('copy', container, folder, '/')
  await buildah('commit', container, 'localhost/base')
  await buildah('rm', container)
}

async function useImage(image: string, config: ImageConfig): Promise<void> {
  const port = await freePort()
  const volume = join(scratch, 'volume')
  const [data = ''] = Object.keys(config.Volumes)
  // A new volume begins as a copy of what the image has there.
  await privileged('cp', '-a', join(image, data), volume)
  const inside = (command: readonly string[], ...settings: string[]) => {
    const way = `set -e
      mount --make-rprivate /
      mount --bind "$0" "$0"
      mount --bind ${volume} "$0${data}"
      mount --bind /dev "$0/dev"
      mount -t proc proc "$0/proc"
      mount -o remount,bind,ro "$0"
      exec chroot --userspec=${config.User} --groups= "$0" /usr/bin/env -i "$@"`
    const variables = [...config.Env, `MORAINE_PORT=${port}`, ...settings]
    return [...asRoot, 'unshare', '--mount', 'sh', '-c', way, image, ...variables, ...command]
  }
  const start = (...settings: string[]) => {
    const [first = '', ...rest] = inside([...config.Entrypoint, ...config.Cmd], ...settings)
    return watch(spawn(first, rest, { cwd: scratch, stdio: ['ignore', 'ignore', 'pipe'] }))
  }
  const isHealthy = async () => {
    const [kind, ...command] = config.Healthcheck?.Test ?? []
    const [first = '', ...rest] = inside(command)
    return kind === 'CMD' && (await run(first, rest, scratch)).code === 0
  }

  const refused = start()
  expect('passwords in clear are refused', (await refused.ended) !== 0 && /TLS|plain/i.test(refused.said()))

  const service = start('MORAINE_ALLOW_PLAIN_HTTP=on')
  const url = `http://127.0.0.1:${port}`
  for (let tries = 0; tries < 300 && !(await answers(`${url}/readyz`)); tries++) {
    if (service.child.exitCode !== null) break
    await sleep(100)
  }
  if (!(await answers(`${url}/readyz`))) throw new Error(`container: the service did not start: ${service.said()}`)
  expect('it is ready', true)
  const pid = asRoot.length === 0 ? service.child.pid : undefined
  const facts = (name: string) => readFile(`/proc/${pid}/${name}`, 'utf8')
  if (pid !== undefined) {
    const ids = (await facts('status')).match(/^[UG]id:.*$/gm)?.join(' ') ?? ''
    expect('it is not root', /^Uid:(\t10001){4} Gid:(\t10001){4}$/.test(ids))
    // The fifth field is where it is mounted, the sixth how.
    const mounts = (await facts('mountinfo')).split('\n').map((line) => line.split(' '))
    const how = mounts.findLast(([, , , , place]) => place === '/')?.[5] ?? ''
    expect('its root is read-only', how.split(',').includes('ro'))
  }
  expect('its health check says so', await isHealthy())
  const bytes = randomBytes(3_000_000)
  expect(
    'what is put in comes out',
    bytes.equals(await through(url, (await privileged('cat', join(volume, 'admin-password'))).trim(), bytes)),
  )
  service.child.kill('SIGTERM')
  expect('it ends well when it is asked to', (await service.ended) === 0)
  expect('its health check says that too', !(await isHealthy()))
}

function answers(url: string): Promise<boolean> {
  return fetch(url).then(
    ({ ok }) => ok,
    () => false,
  )
}

function watch(child: ChildProcess) {
  let text = ''
  child.stderr?.on('data', (chunk) => {
    text += chunk
  })
  return {
    child,
    said: () => text,
    ended: new Promise<number | null>((resolve, reject) => child.once('error', reject).once('close', resolve)),
  }
}

/** Logs in, makes an image of the bytes, and fetches them. */
async function through(url: string, password: string, bytes: Uint8Array<ArrayBuffer>): Promise<Buffer> {
  const user = { name: 'admin', password, domain: { name: 'Default' } }
  const scope = { project: { name: 'admin', domain: { name: 'Default' } } }
  const auth = { identity: { methods: ['password'], password: { user } }, scope }
  const json = { 'content-type': 'application/json' }
  const login = await fetch(`${url}/identity/v3/auth/tokens`, {
    method: 'POST',
    headers: json,
    body: JSON.stringify({ auth }),
  })
  const token = { 'x-auth-token': login.headers.get('x-subject-token') ?? '' }
  const facts = JSON.stringify({ disk_format: 'raw', container_format: 'bare' })
  const made = await fetch(`${url}/v2/images`, { method: 'POST', headers: { ...json, ...token }, body: facts })
  const { file } = (await made.json()) as { file: string }
  const octets = { 'content-type': 'application/octet-stream' }
  await fetch(`${url}${file}`, { method: 'PUT', headers: { ...octets, ...token }, body: bytes })
  return Buffer.from(await (await fetch(`${url}${file}`, { headers: token })).arrayBuffer())
}
