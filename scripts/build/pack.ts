/** The built packages as their users get them. */
import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { run } from '../support/run.ts'
import { workspacePackages } from './workspace.ts'

/** Runs a program that must end with 0; what it printed. Throws with its words when it does not. */
export async function must(cwd: string, command: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(command, args, cwd)
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: exit ${code}\n${stdout}${stderr}`)
  return stdout
}

/** Packs what was built as npm would publish it; tarballs by the package's name. */
export async function packPackages(into: string): Promise<Map<string, string>> {
  await mkdir(into)
  const tarballs = new Map<string, string>()
  for (const { folder: from, manifest } of workspacePackages()) {
    const before = new Set(await readdir(into))
    await must(from, 'npm', 'pack', '--silent', '--pack-destination', into)
    const [name] = (await readdir(into)).filter((file) => !before.has(file))
    if (name === undefined) throw new Error(`npm pack left no tarball of ${manifest.name}`)
    tarballs.set(manifest.name, join(into, name))
  }
  return tarballs
}

/** Installs tarballs, with what they depend on, in a fresh folder. */
export async function installPackages(into: string, tarballs: Iterable<string>): Promise<void> {
  await mkdir(into)
  await writeFile(join(into, 'package.json'), '{ "private": true, "type": "module" }\n')
  await must(into, 'npm', 'install', '--silent', '--prefer-offline', '--no-audit', '--no-fund', ...tarballs)
}
