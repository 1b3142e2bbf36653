/** Judges the packed packages as npm and TypeScript will see them: publint, and arethetypeswrong. */
import { join } from 'node:path'
import { publint } from 'publint'
import { formatMessage } from 'publint/utils'
import { run } from '../support/run.ts'
import { hasEntries, readJson, root, type WorkspacePackage } from './workspace.ts'

/** What publint says of a package, suggestions too. Empty: clean. */
export async function lintPackage({ folder, manifest }: WorkspacePackage): Promise<string[]> {
  const { messages } = await publint({ pkgDir: folder, strict: true, pack: 'npm' })
  const packageJson = readJson<Record<string, unknown>>(join(folder, 'package.json'))
  return messages.map(
    (message) => `${manifest.name}: publint: ${formatMessage(message, packageJson, { color: false })}`,
  )
}

/** What arethetypeswrong says of a package's entries, as ESM. A package with nothing to import has nothing to say. */
export async function lintTypes(pkg: WorkspacePackage): Promise<string[]> {
  if (!hasEntries(pkg)) return []
  const { code, stdout, stderr } = await run(
    join(root, 'node_modules', '.bin', 'attw'),
    [
      '--pack',
      pkg.folder,
      '--profile',
      'esm-only',
      '--no-definitely-typed',
      '--format',
      'ascii',
      '--no-emoji',
      '--no-color',
    ],
    root,
  )
  // For attw a package without any types is a matter of taste.
  const untyped = /no types|does not contain types/i.test(stdout)
  return code === 0 && !untyped ? [] : [`${pkg.manifest.name}: attw ended with ${code}\n${stdout}${stderr}`.trimEnd()]
}
