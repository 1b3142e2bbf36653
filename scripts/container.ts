/** `npm run container`, after `npm run build`: lays out `dist/container` and builds the image `moraine` of it, with buildah, podman or docker, whichever is there.
 *  `--base=NAME` names another base than the one in the Containerfile; `--no-image` only lays out. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { layOutContainer } from './build/container.ts'
import { installPackages, must, packPackages } from './build/pack.ts'
import { root } from './build/workspace.ts'
import { run } from './support/run.ts'

const given = (option: string) =>
  process.argv.find((argument) => argument.startsWith(`${option}=`))?.slice(option.length + 1)

const context = join(root, 'dist', 'container')
const scratch = await mkdtemp(join(tmpdir(), 'moraine-container-'))
try {
  const app = join(scratch, 'app')
  await installPackages(app, (await packPackages(join(scratch, 'tarballs'))).values())
  await layOutContainer(context, app)
  console.log('dist/container: laid out')
} finally {
  await rm(scratch, { recursive: true, force: true })
}
if (!process.argv.includes('--no-image')) {
  const base = given('--base')
  // The format of Docker, as OCI's has no health check.
  const args = ['build', ...(base === undefined ? [] : ['--build-arg', `BASE=${base}`]), '--tag', 'moraine', context]
  const tool = await builder()
  await must(root, tool, ...(tool === 'docker' ? args : args.toSpliced(1, 0, '--format', 'docker')))
  console.log(`the image moraine: built by ${tool}`)
}

async function builder(): Promise<string> {
  for (const name of ['buildah', 'podman', 'docker']) {
    const found = await run(name, ['--version'], root).catch(() => undefined)
    if (found?.code === 0) return name
  }
  throw new Error('neither buildah nor podman nor docker is installed; --no-image only lays out dist/container')
}
