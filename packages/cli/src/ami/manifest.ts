/** Manifests of Amazon's bundles, and what lies beside them. */
import { readFileSync } from 'node:fs'
import { type BundlePart, type ByteSource, MoraineError, readManifest, type SignedManifest } from '@moraine/engine'
import { fileGate, openFile } from '@moraine/engine/node'
import { readsXml } from '../containers.ts'
import { failureFrom } from '../failure.ts'
import { pathOf } from '../open.ts'
import type { Context } from '../verb.ts'

const mostManifestBytes = 64 * 1024 * 1024
const mostPemBytes = 1024 * 1024

/** A manifest and where it is. */
export interface OpenedManifest {
  manifest: SignedManifest
  path: string
  /** Opens a part, which must lie beside the manifest. */
  openPart(part: BundlePart): Promise<ByteSource>
}

/** Reads a manifest.
 *  @throws Failure */
export async function openManifest(context: Context, name: string): Promise<OpenedManifest> {
  try {
    const path = pathOf(name, context.persona)
    const manifest = await readManifest(await readWhole(path), readsXml, path)
    const gate = fileGate()
    return {
      manifest,
      path,
      openPart: ({ filename }) => gate.open({ from: path, name: filename, role: 'extent', mode: 'read' }),
    }
  } catch (error) {
    throw failureFrom(error, context.persona, `Could not read the manifest '${name}': `)
  }
}

async function readWhole(path: string): Promise<Uint8Array> {
  const source = await openFile(path)
  try {
    if (source.size > mostManifestBytes) {
      throw new MoraineError('limit', 'it is too large for a manifest', {
        path,
        field: 'bytes',
        value: source.size,
        rule: `at most ${mostManifestBytes}`,
      })
    }
    const bytes = new Uint8Array(source.size)
    await source.read(0, bytes)
    return bytes
  } finally {
    await source.close()
  }
}

/** A certificate or a key, in PEM.
 *  @throws Failure */
export function readPem(context: Context, name: string): string {
  try {
    const text = readFileSync(name)
    if (text.length <= mostPemBytes) return text.toString('latin1')
    throw new MoraineError('limit', 'it is too large for a certificate or a key', { path: name })
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException
    const known =
      error instanceof MoraineError
        ? error
        : new MoraineError(code === 'ENOENT' ? 'missing' : 'io', message, { path: name })
    throw failureFrom(known, context.persona, `Could not read '${name}': `)
  }
}
