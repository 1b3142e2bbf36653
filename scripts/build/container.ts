/** The folder that `packaging/Containerfile` is built from. */
import { chmod, copyFile, cp, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { nodeProgram, root } from './workspace.ts'

/** @param app A folder whose `node_modules` has the packages as npm installs them. */
export async function layOutContainer(into: string, app: string): Promise<void> {
  const packaging = join(root, 'packaging')
  await rm(into, { recursive: true, force: true })
  await mkdir(join(into, 'app'), { recursive: true })
  await mkdir(join(into, 'data'), { mode: 0o700 })
  await cp(join(app, 'node_modules'), join(into, 'app', 'node_modules'), { recursive: true, verbatimSymlinks: true })
  await copyFile(join(packaging, 'health.mjs'), join(into, 'app', 'health.mjs'))
  await copyFile(join(packaging, 'Containerfile'), join(into, 'Containerfile'))
  await cp(nodeProgram(), join(into, 'node'), { dereference: true })
  await chmod(join(into, 'node'), 0o755)
}
