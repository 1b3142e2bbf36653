/** `npm run build`: emits every package to its `dist`, each after those it stands on, and judges what npm would publish.
 *  With `--no-lint` it only emits. */
import { emitPackage } from './build/emit.ts'
import { lintPackage, lintTypes } from './build/lint.ts'
import { nodeProgram, root, workspacePackages } from './build/workspace.ts'
import { run } from './support/run.ts'

const lint = !process.argv.includes('--no-lint')
const packages = workspacePackages()
for (const pkg of packages) {
  const started = performance.now()
  await emitPackage(pkg)
  console.log(
    `${pkg.manifest.name} ${pkg.manifest.version}: built (${((performance.now() - started) / 1000).toFixed(1)} s)`,
  )
}
// From the sources, which need nothing of what was built.
const { code, stderr } = await run(nodeProgram(), ['--conditions=source', 'scripts/man-pages.ts'], root)
if (code !== 0) throw new Error(`man pages: ${stderr}`)
if (lint) {
  // One after the other: both pack in the package's folder.
  for (const pkg of packages) {
    const said = [...(await lintPackage(pkg)), ...(await lintTypes(pkg))]
    console.log(said.length === 0 ? `${pkg.manifest.name}: publint and attw clean` : said.join('\n'))
    if (said.length > 0) process.exitCode = 1
  }
}
