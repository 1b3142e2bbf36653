/** Which version this is. */
import { readFileSync } from 'node:fs'
import type { Persona } from './persona.ts'

/** The release of qemu-img whose behaviour this reproduces. */
const qemuVersion = '7.2.22'

/** Given by the build of the standalone executable, which has no package.json beside it. */
declare const standaloneVersion: string | undefined

/** The version of this package. */
export function ownVersion(): string {
  if (typeof standaloneVersion === 'string') return standaloneVersion
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  const { version } = JSON.parse(text) as { version: string }
  return version
}

/** What `--version` prints. As qemu-img it begins as QEMU's does, because programs read the number there. */
export function versionText(persona: Persona): string {
  return persona.name === 'qemu-img'
    ? `qemu-img version ${qemuVersion} (moraine ${ownVersion()})\n`
    : `moraine ${ownVersion()}\n`
}
