/** Our own server, for one test. */
import { type Disk, isWritable, MemoryStore, openDisk, raw, type WritableDisk } from '@moraine/engine'
import type { Folder } from '../../../engine/test/support/folder.ts'
import { Random } from '../../../engine/test/support/random.ts'
import { type ServeNbdOptions, serveNbd } from '../../src/index.ts'

/** A disk that is served, and what was said meanwhile. */
export interface Served {
  uri: string
  disk: Disk
  warnings: string[]
  counts: [number, string][]
  close(patience?: number): Promise<void>
}

/** Serves a disk on a socket in the folder. */
export async function served(folder: Folder, disk: Disk, options: Partial<ServeNbdOptions> = {}): Promise<Served> {
  const warnings: string[] = []
  const counts: [number, string][] = []
  const server = await serveNbd(disk, {
    listen: { path: folder.fresh('.sock') },
    clients: 8,
    warn: (message) => warnings.push(message),
    onClients: (count, event) => counts.push([count, event]),
    ...options,
  })
  return {
    uri: server.uri,
    disk,
    warnings,
    counts,
    async close(patience) {
      await server.close(patience)
      await disk.close()
    },
  }
}

/** A raw disk in memory. */
export async function memoryDisk(bytes: Uint8Array): Promise<WritableDisk> {
  const disk = await openDisk(MemoryStore.from(bytes), { formats: [raw], format: 'raw', mode: 'write' })
  if (!isWritable(disk)) throw new Error('it cannot be written')
  return disk
}

/** Data, holes, and zeros. */
export function content(size: number, n = 1): Buffer {
  const bytes = Buffer.alloc(size)
  const random = new Random(n)
  bytes.set(random.bytes(500_000), 70_000)
  bytes.set(random.bytes(2_000_000), size - 2_500_000)
  return bytes
}

/** Bytes of the disks. */
export const size = 8 << 20
