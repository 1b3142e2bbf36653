/** QEMU's image locks. Facts: QEMU 7.2 `block/file-posix.c`, measured with strace: every lock is an OFD read lock of one byte; byte
 *  100 + i says "I use permission i", byte 200 + i says "nobody else may have permission i"; after setting its own, a process tests the opposite bytes. */
import fs from 'node:fs'
import { type ByteSource, MoraineError } from '../../core/index.ts'
import { type Native, native } from './native.ts'

/** QEMU's permissions on an image; the order is that of the lock bytes. */
const permissions = ['consistent read', 'write', 'write unchanged', 'resize'] as const

/** One of QEMU's permissions on an image. */
export type LockPermission = (typeof permissions)[number]

/** What a user of an image takes and what it does not let others have. */
export interface ImageLock {
  hold: readonly LockPermission[]
  deny: readonly LockPermission[]
}

/** What qemu-img and qemu-io 7.2 take, by what they do. Formats with metadata of their own let nobody else write or resize; raw lets
 *  everybody, except as the source of a conversion (`read`). */
export const imageLocks = {
  /** Reading guest content (check, map, measure, compare, convert's source, backing files). */
  read: { hold: ['consistent read'], deny: ['write', 'resize'] },
  /** Writing, creating, resizing, snapshots, repairs. */
  write: { hold: ['consistent read', 'write', 'resize'], deny: ['write', 'resize'] },
  /** `info`: only looks whether somebody writes. Of raw images `info` takes no lock. */
  info: { hold: [], deny: ['write', 'resize'] },
  /** Reading raw. */
  rawRead: { hold: ['consistent read'], deny: [] },
  /** Writing raw. */
  rawWrite: { hold: ['consistent read', 'write'], deny: [] },
  /** Resizing raw. */
  rawResize: { hold: ['consistent read', 'write', 'resize'], deny: [] },
  /** Emptying a file before a new image is written into it. */
  create: { hold: ['write', 'resize'], deny: ['resize'] },
} as const satisfies Record<string, ImageLock>

const holdByte = 100
const denyByte = 200

/** Takes a lock on an open file of the host, in place of the one that its descriptor holds. It is given back when the descriptor is closed, or by `unlockImage`.
 *  Where there are no such locks (no system calls, another system, a file system without locks) nothing is locked: false.
 *  @throws MoraineError `locked` with QEMU's text; `hint` is QEMU's hint, with a second line when the holder can be named. */
export function lockImage(source: ByteSource, lock: ImageLock): boolean {
  if (source.descriptor === undefined) return false
  const calls = native()
  return calls === undefined ? false : lockDescriptor(source.descriptor, source.name, lock, calls)
}

/** Gives back every lock of a descriptor. */
export function unlockImage(source: ByteSource): void {
  if (source.descriptor === undefined) return
  const calls = native()
  if (calls === undefined) return
  const nothing: ImageLock = { hold: [], deny: [] }
  keepOnly(source.descriptor, nothing, calls)
}

/** `lockImage` for a descriptor and given system calls. */
export function lockDescriptor(descriptor: number, name: string, lock: ImageLock, calls: Native): boolean {
  // As QEMU does under `locking=auto`: where the file system has no locks, go without.
  if (typeof calls.testLock(descriptor, 0, 1) === 'string') return false
  const taken = bytesOf(lock)
  for (const byte of taken) {
    const code = calls.setLock(descriptor, 'read', byte, 1)
    if (code !== undefined) {
      keepOnly(descriptor, { hold: [], deny: [] }, calls)
      throw lockedError(descriptor, name, `Failed to lock byte ${byte}`, byte, code)
    }
  }
  for (const [byte, text] of tests(lock)) {
    const found = calls.testLock(descriptor, byte, 1)
    if (found === undefined) continue
    keepOnly(descriptor, { hold: [], deny: [] }, calls)
    throw lockedError(descriptor, name, text, byte, typeof found === 'string' ? found : 'EAGAIN')
  }
  keepOnly(descriptor, lock, calls)
  return true
}

function bytesOf(lock: ImageLock): number[] {
  const bytes: number[] = []
  for (const [i, permission] of permissions.entries()) if (lock.hold.includes(permission)) bytes.push(holdByte + i)
  for (const [i, permission] of permissions.entries()) if (lock.deny.includes(permission)) bytes.push(denyByte + i)
  return bytes
}

/** In QEMU's order: for each permission first "does somebody deny me", then "does somebody use what I deny" ... of all permissions. */
function* tests(lock: ImageLock): Iterable<readonly [byte: number, text: string]> {
  for (const [i, permission] of permissions.entries()) {
    if (lock.hold.includes(permission)) yield [denyByte + i, `Failed to get "${permission}" lock`]
  }
  for (const [i, permission] of permissions.entries()) {
    if (lock.deny.includes(permission)) yield [holdByte + i, `Failed to get shared "${permission}" lock`]
  }
}

function keepOnly(descriptor: number, lock: ImageLock, calls: Native): void {
  const kept = bytesOf(lock)
  for (const first of [holdByte, denyByte]) {
    for (let i = 0; i < permissions.length; i++) {
      if (!kept.includes(first + i)) calls.setLock(descriptor, 'none', first + i, 1)
    }
  }
}

function lockedError(descriptor: number, name: string, text: string, byte: number, code: string): MoraineError {
  const holders = findHolders(descriptor, byte)
  const who = holders.length === 0 ? '' : `\nIt is held by ${holders.join(' and ')}.`
  return new MoraineError('locked', text, {
    path: name,
    code,
    hint: `Is another process using the image [${name}]?${who}`,
  })
}

const longestSearch = 200

/** Who holds a lock on this byte, as "qemu-io (process 1234)". OFD locks carry no process in /proc/locks, but each open descriptor
 *  lists its own in /proc/PID/fdinfo. Gives up after 200 ms, and sees only the processes that it may look into. */
function findHolders(descriptor: number, byte: number): string[] {
  const found: string[] = []
  const end = performance.now() + longestSearch
  const file = look(() => fs.fstatSync(descriptor, { bigint: true }))
  if (file === undefined) return found
  for (const pid of list('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    if (performance.now() > end) break
    const folder = `/proc/${pid}`
    for (const number of list(`${folder}/fd`)) {
      if (pid === String(process.pid) && number === String(descriptor)) continue
      const open = look(() => fs.statSync(`${folder}/fd/${number}`, { bigint: true }))
      if (open === undefined || open.ino !== file.ino || open.dev !== file.dev) continue
      if (!locksOf(`${folder}/fdinfo/${number}`).some(([first, last]) => first <= byte && byte <= last)) continue
      found.push(`${nameOf(folder)} (process ${pid})`)
      break
    }
  }
  return found
}

/** What runs programs, and says nothing about which: the names of their main threads. */
const interpreters = new Set(['node', 'MainThread', 'bun', 'python3'])

/** What a process is called; of what is run by an interpreter, the beginning of its command line. */
function nameOf(folder: string): string {
  const name = read(`${folder}/comm`).trim()
  if (name !== '' && !interpreters.has(name)) return name
  const [program = '', ...rest] = read(`${folder}/cmdline`).split('\0')
  const words = rest.filter((word) => word !== '' && !word.startsWith('-')).slice(0, 3)
  const shown = [program, ...words].map((word) => word.slice(word.lastIndexOf('/') + 1)).filter((word) => word !== '')
  return shown.join(' ') || name || 'a process'
}

function locksOf(path: string): [first: number, last: number][] {
  // lock:	1: OFDLCK  ADVISORY  READ -1 fe:00:12345 201 201
  const ranges: [number, number][] = []
  for (const match of read(path).matchAll(/^lock:.*\s(\d+)\s(\d+|EOF)$/gm)) {
    ranges.push([Number(match[1]), match[2] === 'EOF' ? Number.POSITIVE_INFINITY : Number(match[2])])
  }
  return ranges
}

/** What `how` finds; undefined when it may not look or it is gone meanwhile. */
function look<Found>(how: () => Found): Found | undefined {
  try {
    return how()
  } catch {
    return undefined
  }
}

function list(folder: string): string[] {
  return look(() => fs.readdirSync(folder)) ?? []
}

function read(path: string): string {
  return look(() => fs.readFileSync(path, 'utf8')) ?? ''
}
