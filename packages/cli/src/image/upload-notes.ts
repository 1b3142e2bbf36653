/** Where interrupted uploads are, remembered on this machine: tus leaves it to the client to keep the address. */
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { isMapping } from './clouds.ts'

/** An upload that was begun. */
export interface UploadNote {
  /** The upload's address. */
  address: string
  /** Bytes of the file, and when it was last changed (milliseconds since 1970): another file must not go on with it. */
  size: number
  modified: number
}

function notePath(id: string): string {
  const base = process.env.XDG_STATE_HOME ?? join(homedir(), '.local', 'state')
  return join(base, 'moraine', 'uploads', `${id.replace(/[^\w-]/g, '_')}.json`)
}

/** What is to be remembered of a file. */
export function noteOf(path: string, address: string): UploadNote {
  const { size, mtimeMs } = statSync(path)
  return { address, size, modified: mtimeMs }
}

/** Remembers an upload. Where that cannot be, the upload goes on without. */
export function keepNote(id: string, note: UploadNote): void {
  try {
    const path = notePath(id)
    mkdirSync(join(path, '..'), { recursive: true, mode: 0o700 })
    writeFileSync(path, `${JSON.stringify(note)}\n`, { mode: 0o600 })
  } catch {
    // A read-only home: the service may still know the upload by the image.
  }
}

/** What is remembered of an image's upload. */
export function findNote(id: string): UploadNote | undefined {
  try {
    const note: unknown = JSON.parse(readFileSync(notePath(id), 'utf8'))
    if (!isMapping(note) || typeof note.address !== 'string') return undefined
    if (typeof note.size !== 'number' || typeof note.modified !== 'number') return undefined
    return { address: note.address, size: note.size, modified: note.modified }
  } catch {
    return undefined
  }
}

/** Forgets an upload that is over. */
export function dropNote(id: string): void {
  rmSync(notePath(id), { force: true })
}
