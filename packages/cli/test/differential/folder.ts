/** Folders in which one command line runs: copies of fixtures, holes and all, and what is left there afterwards. */
import {
  closeSync,
  existsSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const block = 4096

/** A file as its blocks that hold anything. */
interface Content {
  length: number
  pieces: [offset: number, bytes: Buffer][]
}

/** A folder of fixtures, each read once. */
export class Originals {
  readonly folder: string
  private readonly contents = new Map<string, Content>()

  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), 'moraine-lines-'))
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true })
  }

  /** A new folder with copies of those of these files that exist. */
  copies(names: readonly string[]): string {
    const folder = mkdtempSync(join(tmpdir(), 'moraine-line-'))
    mkdirSync(join(folder, 'dir'))
    for (const name of names) {
      const content = this.content(name)
      if (content === undefined) continue
      const file = openSync(join(folder, name), 'w', 0o644)
      for (const [offset, bytes] of content.pieces) writeSync(file, bytes, 0, bytes.length, offset)
      ftruncateSync(file, content.length)
      closeSync(file)
    }
    return folder
  }

  private content(name: string): Content | undefined {
    const known = this.contents.get(name)
    if (known !== undefined) return known
    const path = join(this.folder, name)
    if (name === '' || !existsSync(path) || !lstatSync(path).isFile()) return undefined
    const content = piecesOf(readFileSync(path))
    this.contents.set(name, content)
    return content
  }
}

function piecesOf(bytes: Buffer): Content {
  const pieces: Content['pieces'] = []
  const zeros = Buffer.alloc(block)
  let start = -1
  for (let at = 0; at < bytes.length + block; at += block) {
    const part = bytes.subarray(at, at + block)
    const empty = part.equals(zeros.subarray(0, part.length))
    if (!empty && start < 0) start = at
    if (empty && start >= 0) {
      pieces.push([start, bytes.subarray(start, at)])
      start = -1
    }
  }
  return { length: bytes.length, pieces }
}

/** All that lies in a folder, and of what kind it is. */
export function listing(folder: string): Map<string, string> {
  const found = new Map<string, string>()
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort()) {
    const stats = lstatSync(join(folder, name))
    found.set(name, stats.isFile() ? 'file' : stats.isDirectory() ? 'folder' : 'something else')
  }
  return found
}
