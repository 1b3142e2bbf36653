/** The licences of libraries whose code is in a bundle: who gets the bundle gets them too, as they all ask. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { readJson } from './workspace.ts'

/** Folders of the packages that modules belong to; what is not below a `node_modules` belongs to none. */
export function librariesOf(modules: Iterable<string>): string[] {
  const folders = new Set<string>()
  for (const path of modules) {
    const match = /^\0?(.*\/node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(path)
    if (match?.[1] !== undefined) folders.add(match[1])
  }
  return [...folders].sort()
}

/** Names, versions and licences of libraries, one after the other. @throws Error for one that comes without any. */
export async function licencesOf(folders: readonly string[]): Promise<string> {
  const parts: string[] = []
  for (const folder of folders) {
    const { name, version, license } = readJson<{ name: string; version: string; license?: string }>(
      join(folder, 'package.json'),
    )
    const files = (await readdir(folder)).filter((file) => /^(licen[cs]e|copying|notice)/i.test(file)).sort()
    if (files.length === 0 && license === undefined) throw new Error(`${name} ${version} comes without a licence`)
    const texts = await Promise.all(files.map((file) => readFile(join(folder, file), 'utf8')))
    parts.push([`${name} ${version} (${license ?? 'see below'})`, ...texts.map((text) => text.trim())].join('\n\n'))
  }
  return `This package has code of the following libraries in it.\n\n${parts.join(`\n\n${'-'.repeat(80)}\n\n`)}\n`
}
