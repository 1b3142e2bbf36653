/** Takes the files out of an appliance, and never leaves the target folder: the names are a stranger's. */
import { lstatSync, mkdirSync, type Stats, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { type DigestName, isMoraineError, MoraineError, type OvfPackage, throwIfCancelled } from '@moraine/engine'
import { newFile, nodeSigning } from '@moraine/engine/node'
import type { WritePlan } from '../dry-run.ts'
import type { Context } from '../verb.ts'

const pieceBytes = 1024 * 1024

/** What is extracted, and how. */
export interface ExtractRequest {
  folder: string
  /** Members or their short names; all files when empty. */
  names: readonly string[]
  force: boolean
}

/** What was extracted, and what a package that is whole would have had. */
export interface Extracted {
  names: readonly string[]
  /** In words; empty for members asked for by name. */
  wrong: readonly string[]
}

/** Writes members as they are stored; each is compared with the manifest while it is written.
 *  @throws MoraineError `denied` for a name that is no plain one, `corrupt` for a wrong digest; then the file is not there. */
export async function extractFiles(
  context: Context,
  opened: OvfPackage,
  { folder, names, force }: ExtractRequest,
): Promise<Extracted> {
  const chosen = await chooseFiles(opened, names)
  const wrong = names.length === 0 ? await missingParts(opened) : []
  const manifest = await opened.manifest(context.signal)
  mkdirSync(folder, { recursive: true })
  for (const name of chosen) {
    const target = join(folder, name)
    makeRoom(target, force)
    const wanted = manifest?.entries.filter(({ file }) => file === name) ?? []
    const hashes = [...new Set(wanted.map(({ digest }) => digest))].map(
      (digest): [DigestName, ReturnType<typeof nodeSigning.digest>] => [digest, nodeSigning.digest(digest)],
    )
    const source = await opened.files.open(name)
    const file = await newFile(target, { lock: 'none' })
    process.once('exit', file.abandonNow)
    try {
      const buffer = new Uint8Array(pieceBytes)
      for (let at = 0; at < source.size; at += pieceBytes) {
        throwIfCancelled(context.signal, name)
        const piece = buffer.subarray(0, Math.min(pieceBytes, source.size - at))
        await source.read(at, piece, context.signal)
        for (const [, hash] of hashes) hash.update(piece)
        await file.store.write(at, piece)
      }
      const found = new Map(hashes.map(([digest, hash]) => [digest, hash.hex()]))
      for (const { digest, hex } of wanted) {
        if (found.get(digest) !== hex)
          throw new MoraineError('corrupt', `the file '${name}' is not what the manifest says`, {
            path: opened.source.name,
            field: digest,
          })
      }
      await file.store.flush()
      await file.store.close()
      await file.publish()
    } catch (error) {
      await file.store.close().catch(() => {})
      await file.abandon()
      throw error
    } finally {
      process.removeListener('exit', file.abandonNow)
      await source.close()
    }
  }
  return { names: chosen, wrong }
}

/** Members that are no files, and references that are not there or are of another size than the descriptor says. */
async function missingParts(opened: OvfPackage): Promise<string[]> {
  const others = opened.files.listed.filter(({ kind, name }) => kind === 'other' && name !== '')
  const wrong = others.map(({ name }) => `'${name}' was not extracted: it is no plain file`)
  for (const file of opened.envelope.files) {
    if (others.some(({ name }) => name === file.href)) continue
    try {
      await (await opened.openStored(file)).close()
    } catch (error) {
      if (!isMoraineError(error) || error.kind === 'io' || error.kind === 'cancelled') throw error
      wrong.push(error.message)
    }
  }
  return wrong
}

/** What `extractFiles` would write.
 *  @throws MoraineError as it. */
export async function planExtraction(opened: OvfPackage, { folder, names, force }: ExtractRequest): Promise<WritePlan> {
  const chosen = await chooseFiles(opened, names)
  const sizes = new Map(opened.files.listed.map(({ name, size }) => [name, size]))
  const there = chosen.filter((name) => {
    const target = join(folder, name)
    const found = lstatSync(target, { throwIfNoEntry: false })
    if (found !== undefined) refuseUnlessForced(target, found, force)
    return found !== undefined
  })
  return {
    operation: 'ova extract',
    target: folder,
    writes: chosen.map((name) => `'${name}'${sizes.get(name) === undefined ? '' : `, ${sizes.get(name)} bytes`}`),
    lost: there.map((name) => `what '${join(folder, name)}' holds now`),
  }
}

async function chooseFiles(opened: OvfPackage, names: readonly string[]): Promise<string[]> {
  const chosen =
    names.length === 0
      ? opened.files.listed.filter(({ kind }) => kind === 'file').map(({ name }) => name)
      : await Promise.all(names.map((name) => storedName(opened, name)))
  for (const name of chosen) refuseName(name, opened)
  return chosen
}

async function storedName(opened: OvfPackage, name: string): Promise<string> {
  const member = await opened.find?.(name)
  if (member !== undefined) return member.name
  throw new MoraineError('missing', `there is no member '${name}'`, {
    path: opened.source.name,
    field: 'member',
    hint: `It has ${opened.files.listed.map((listed) => `'${listed.name}'`).join(', ')}.`,
  })
}

function refuseName(name: string, opened: OvfPackage): void {
  if (name !== '' && name !== '.' && name !== '..' && !/[/\\\0]/.test(name)) return
  throw new MoraineError('denied', 'a member lies in a folder, or leads out of the package', {
    path: opened.source.name,
    field: 'member',
    value: name.slice(0, 200),
    rule: 'a plain name',
  })
}

/** Nothing is written through a link, and nothing is replaced that was not to be. */
function makeRoom(target: string, force: boolean): void {
  const there = lstatSync(target, { throwIfNoEntry: false })
  if (there === undefined) return
  refuseUnlessForced(target, there, force)
  unlinkSync(target)
}

function refuseUnlessForced(target: string, there: Stats, force: boolean): void {
  if (force && (there.isFile() || there.isSymbolicLink())) return
  throw new MoraineError('invalid', 'it is there already', {
    path: target,
    hint: there.isDirectory() ? undefined : 'With --force it is replaced.',
  })
}
