/** Writes a changed appliance: a new file beside the old one, which takes its name when it is whole. */
import { renameSync, statSync, unlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { MoraineError, type OvfPackage, type RewriteOptions, rewriteOva, rewritePapers } from '@moraine/engine'
import { newFile } from '@moraine/engine/node'
import type { Context } from '../verb.ts'

/** Writes an OVA as `target`, which may be the file that it was read from.
 *  @returns whether an old signature went
 *  @throws MoraineError */
export async function rewriteArchive(
  context: Context,
  opened: OvfPackage,
  target: string,
  options: Omit<RewriteOptions, 'signal'>,
): Promise<boolean> {
  const there = statSync(target, { throwIfNoEntry: false })
  if (there !== undefined && !there.isFile()) throw new MoraineError('invalid', 'it is no plain file', { path: target })
  // A name that nobody has, in the same folder, so that the rename is one step.
  const beside = join(dirname(target), `.moraine-${process.pid}-${Date.now().toString(36)}.ova`)
  const file = await newFile(beside, { lock: 'none' })
  process.once('exit', file.abandonNow)
  let published = false
  try {
    const papers = await rewriteOva(file.store, opened, { ...options, signal: context.signal })
    await file.store.flush()
    await file.store.close()
    await file.publish()
    published = true
    renameSync(beside, target)
    return papers.certificate === undefined && opened.files.listed.some(({ name }) => /\.cert$/i.test(name))
  } catch (error) {
    await file.store.close().catch(() => {})
    await file.abandon()
    if (published) unlinkSync(beside)
    throw error
  } finally {
    process.removeListener('exit', file.abandonNow)
  }
}

/** Writes the descriptor, manifest and signature of a package whose files lie beside one another.
 *  @returns whether an old signature went
 *  @throws MoraineError */
export async function rewriteBeside(
  context: Context,
  opened: OvfPackage,
  path: string,
  options: Omit<RewriteOptions, 'signal'>,
): Promise<boolean> {
  const { descriptor, manifest, certificate } = await rewritePapers(opened, { ...options, signal: context.signal })
  const old = await opened.signature(context.signal).catch(() => undefined)
  const folder = dirname(path)
  const write = (name: string, bytes: Uint8Array) => {
    const beside = join(folder, `.moraine-${process.pid}-${Date.now().toString(36)}`)
    try {
      writeFileSync(beside, bytes, { flag: 'wx', flush: true })
      renameSync(beside, name)
    } catch (cause) {
      throw new MoraineError('io', cause instanceof Error ? cause.message : String(cause), { path: name, cause })
    }
  }
  // The signature goes first: a signature of another manifest is worse than none.
  const signed = old === undefined ? undefined : join(folder, old.name)
  if (signed !== undefined && certificate === undefined) unlinkSync(signed)
  write(path, descriptor)
  if (manifest !== undefined) write(join(folder, manifest.name), manifest.bytes)
  if (certificate !== undefined) write(join(folder, certificate.name), certificate.bytes)
  return signed !== undefined && certificate === undefined
}
