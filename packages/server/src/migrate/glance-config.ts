/** The parts of glance-api.conf that say where images are kept. */
import { readFileSync } from 'node:fs'
import { MoraineError } from '@moraine/engine'

export interface GlanceConfig {
  /** The address of the database. */
  connection: string
  /** Folders of image data, by the store's name; without named stores, by an empty one. */
  folders: ReadonlyMap<string, readonly string[]>
}

/** @throws MoraineError `missing` for a file that cannot be read, `invalid` for one that names no database. */
export function readGlanceConfig(path: string): GlanceConfig {
  const sections = readSections(path)
  const connection = sections.get('database')?.get('connection')?.[0]
  if (connection === undefined) {
    throw new MoraineError('invalid', `${path} has no connection in [database]`, { path, field: 'connection' })
  }
  const folders = new Map<string, string[]>()
  const enabled = sections.get('DEFAULT')?.get('enabled_backends')?.[0] ?? ''
  const names = [...enabled.matchAll(/([^\s,{}'":]+)\s*'?"?:/g)].map(([, name = '']) => name)
  for (const [section, store] of [['glance_store', ''], ...names.map((name) => [name, name])] as [string, string][]) {
    const settings = sections.get(section)
    const given = [
      ...(settings?.get('filesystem_store_datadir') ?? []),
      ...(settings?.get('filesystem_store_datadirs') ?? []).map((entry) => entry.replace(/:\d+$/, '')),
    ]
    if (given.length > 0) folders.set(store, given)
  }
  return { connection, folders }
}

/** Sections as oslo.config reads them: a setting may stand several times, and go on in indented lines. */
function readSections(path: string): Map<string, Map<string, string[]>> {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (cause) {
    throw new MoraineError('missing', `cannot read ${path}: ${(cause as Error).message}`, { path, cause })
  }
  const sections = new Map<string, Map<string, string[]>>()
  let section = new Map<string, string[]>()
  sections.set('DEFAULT', section)
  let last: string[] | undefined
  for (const line of text.split(/\r?\n/)) {
    if (/^\s*([#;]|$)/.test(line)) continue
    const header = /^\[([^\]]+)\]/.exec(line)?.[1]
    if (header !== undefined) {
      section = sections.get(header) ?? new Map()
      sections.set(header, section)
      last = undefined
      continue
    }
    if (/^\s/.test(line) && last !== undefined) {
      last.push(`${last.pop() ?? ''}${line.trim()}`)
      continue
    }
    const [, name, value = ''] = /^([\w.-]+)\s*[=:]\s*(.*)$/.exec(line) ?? []
    if (name === undefined) continue
    last = section.get(name) ?? []
    last.push(value.trim())
    section.set(name, last)
  }
  return sections
}
