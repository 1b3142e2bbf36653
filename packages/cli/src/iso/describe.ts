/** Entries of an image as people and programs read them. */
import type { IsoEntry } from '@moraine/engine'
import { plainText } from '../image/error-text.ts'

const letters = {
  file: '-',
  directory: 'd',
  symlink: 'l',
  'character-device': 'c',
  'block-device': 'b',
  fifo: 'p',
  socket: 's',
} as const

/** One line, as `ls -l` has it. Times are UTC. */
export function entryLine(entry: IsoEntry): string {
  const { path, kind, mode, size, modified, target } = entry
  const rights = mode === undefined ? '?????????' : rightsText(mode)
  const name = plainText(path.slice(1)) + (kind === 'directory' ? '/' : '')
  const arrow = kind === 'symlink' ? ` -> ${plainText(target ?? '')}` : ''
  return `${letters[kind]}${rights} ${String(size).padStart(12)} ${timeText(modified) ?? '-'.padEnd(20)} ${name}${arrow}\n`
}

function rightsText(mode: number): string {
  const special = [mode & 0o4000, mode & 0o2000, mode & 0o1000]
  return [6, 3, 0]
    .map((shift, index) => {
      const bits = (mode >>> shift) & 7
      const run = (bits & 1) !== 0
      const letter = index === 2 ? 't' : 's'
      const last = special[index] === 0 ? (run ? 'x' : '-') : run ? letter : letter.toUpperCase()
      return `${(bits & 4) !== 0 ? 'r' : '-'}${(bits & 2) !== 0 ? 'w' : '-'}${last}`
    })
    .join('')
}

/** A time as ISO 8601 has it, to the second. */
export function timeText(seconds: number | undefined): string | undefined {
  if (seconds === undefined) return undefined
  return `${new Date(seconds * 1000).toISOString().slice(0, 19)}Z`
}

/** The members of an entry, for programs. */
export function entryJson(entry: IsoEntry): Record<string, unknown> {
  const { path, kind, size, mode, uid, gid, links, modified, target, device, hidden, extents, packed, unreadable } =
    entry
  return {
    path,
    type: kind,
    size,
    'unpacked-size': packed?.size,
    mode: mode === undefined ? undefined : (mode & 0o7777).toString(8).padStart(4, '0'),
    uid,
    gid,
    links,
    modified: timeText(modified),
    target,
    device: device === undefined ? undefined : `${device.major}:${device.minor}`,
    hidden: hidden || undefined,
    unreadable,
    extents: kind === 'file' ? extents : undefined,
  }
}
