/** An export of an NBD server as the place of a new image: it is there, and stays as large as it is. */
import { type ByteStore, isStore, MoraineError } from '@moraine/engine'
import type { Context } from '../verb.ts'
import { withMembers } from './driver.ts'
import { openNamedNode } from './open-node.ts'

/** Opens the export of this name for writing. What fits may be made in it; the rest of it stays.
 *  @throws MoraineError as `openNbd`; `unsupported` later, in QEMU's words, for what does not fit. */
export async function openExported(context: Context, name: string, sync: 'always' | 'unsafe'): Promise<ByteStore> {
  const { imageGate } = await import('../open.ts')
  const node = await openNamedNode(name, {
    context,
    mode: 'write',
    purpose: 'use',
    sync,
    gate: imageGate(context, { lock: 'qemu', sync }),
    unlocked: imageGate(context, { lock: 'none', sync }),
    files: [],
    backingFiles: [],
  })
  if (!isStore(node)) {
    await node.close()
    throw new MoraineError('denied', 'the export cannot be written', { path: name })
  }
  return withMembers(node, {
    async resize(size: number) {
      if (size <= node.size) return
      throw new MoraineError('unsupported', 'Cannot grow NBD nodes', {
        path: name,
        field: 'size',
        value: size,
        rule: `at most ${node.size}`,
      })
    },
    ...(sync === 'unsafe' ? { flush: async () => {} } : {}),
  })
}
