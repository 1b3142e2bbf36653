/** Temporary files without a name: they are gone when they are closed, however the process ends. */
import fs from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import type { ByteStore } from '../../core/index.ts'
import { openFile } from './open-file.ts'

/** An empty, sparse store for what may be large: in the folder that TMPDIR names, or else in /var/tmp, as QEMU does it, or wherever the system has temporary files.
 *  @throws MoraineError as `openFile`. */
export async function openSpool(): Promise<ByteStore> {
  const folder = process.env.TMPDIR ?? (fs.existsSync('/var/tmp') ? '/var/tmp' : os.tmpdir())
  const name = path.join(folder, `moraine-${process.pid}-${Math.random().toString(36).slice(2, 14)}.spool`)
  const store = await openFile(name, { mode: 'write', create: true, exclusive: true, sync: 'unsafe' })
  // Where an open file cannot lose its name (Windows), it is left to the system's cleaning.
  try {
    fs.unlinkSync(name)
  } catch {}
  return store
}
