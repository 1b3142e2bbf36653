/** Emits one package to its `dist`: modules, their types, and what npm shows of it. */
import { chmod, copyFile, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { run } from '../support/run.ts'
import { bundlePackage } from './bundle.ts'
import { root, type WorkspacePackage } from './workspace.ts'

/** Compiles `src` to a fresh `dist` and copies licence and readme beside it.
 *  Throws with the compiler's words when it finds an error, and when a `bin` has no `#!` line. */
export async function emitPackage(pkg: WorkspacePackage): Promise<void> {
  const dist = join(pkg.folder, 'dist')
  await rm(dist, { recursive: true, force: true })
  const { code, stdout, stderr } = await run(
    join(root, 'node_modules', '.bin', 'tsc'),
    ['-p', join(pkg.folder, 'tsconfig.build.json'), '--pretty', 'false'],
    root,
  )
  if (code !== 0) throw new Error(`${pkg.manifest.name}: tsc ended with ${code}\n${stdout}${stderr}`.trimEnd())
  await rewriteDeclarations(dist)
  await bundlePackage(pkg)
  for (const program of Object.values(pkg.manifest.bin ?? {})) await makeExecutable(join(pkg.folder, program))
  for (const name of ['LICENSE', 'README.md']) await copyFile(join(root, name), join(pkg.folder, name))
}

/** The compiler rewrites `./x.ts` to `./x.js` in modules only; its declarations keep what the source says. */
async function rewriteDeclarations(dist: string): Promise<void> {
  for (const entry of await readdir(dist, { recursive: true })) {
    if (!entry.endsWith('.d.ts')) continue
    const path = join(dist, entry)
    const text = await readFile(path, 'utf8')
    const rewritten = rewriteSpecifiers(text)
    if (rewritten !== text) await writeFile(path, rewritten)
  }
}

/** Turns the relative `.ts` specifiers of a declaration file into `.js`: after `from`, in `import '…'` and in `import('…')`. */
export function rewriteSpecifiers(text: string): string {
  return text.replace(/(\bfrom\s*|\bimport\s*\(?\s*)(["'])(\.{1,2}\/[^"'\n]*)\.ts\2/g, '$1$2$3.js$2')
}

async function makeExecutable(path: string): Promise<void> {
  const text = await readFile(path, 'utf8')
  if (!text.startsWith('#!')) throw new Error(`${path} is a command without a #! line`)
  await chmod(path, 0o755)
}
