/** Servers that lie, one to a row: each gives one clear error, in bounded time and memory. */
import { type ErrorKind, type Extent, isMoraineError } from '@moraine/engine'
import { describe, expect, it } from 'vitest'
import type { Folder } from '../../../engine/test/support/folder.ts'
import { type NbdStore, openNbd } from '../../src/index.ts'
import { greeting, type Peer, reply, scripted, takeOption } from './scripted.ts'

/** Bytes of the exports. */
export const size = 1 << 20

/** Milliseconds that a server may be silent, where it is waited for; otherwise nothing may take so long. */
const patience = { short: 700, long: 20_000 }

/** What a server does, and what comes of it. */
export interface Row {
  name: string
  script(peer: Peer): Promise<void>
  /** What is done once it is open; undefined: opening fails. */
  work?(store: NbdStore): Promise<unknown>
  /** It ends because the server is silent. */
  silent?: true
  kind: ErrorKind
  says: RegExp
}

/** Waits until the connection is given up. */
export const never: Promise<void> = new Promise(() => {})

/** Bytes that are no zeros. */
export const bytes = (length: number): Buffer => Buffer.alloc(length, 1)

/** All extents of an export. */
export async function extentsOf(store: NbdStore): Promise<Extent[]> {
  const all: Extent[] = []
  for await (const batch of store.extents(0, store.size)) all.push(...batch)
  return all
}

/** Options up to the one that is answered by `answer`. */
export const atOption =
  (wanted: number, answer: (peer: Peer, data: Buffer) => void | Promise<void>): Row['script'] =>
  async (peer) => {
    peer.say(greeting())
    await peer.take(4)
    for (;;) {
      const { id, data } = await takeOption(peer)
      if (id === wanted) {
        await answer(peer, data)
        await never
      }
      peer.say(reply(id, id === 8 ? 1 : 0x8000_0001))
    }
  }

/** Runs the rows. */
export function testRows(folder: Folder, rows: readonly Row[]): void {
  describe('a server that', () => {
    it.each(rows.map((row) => [row.name, row] as const))('%s', async (_name, { script, work, silent, kind, says }) => {
      const timeout = silent === true ? patience.short : patience.long
      const server = await scripted(folder.fresh('.sock'), script)
      const before = process.memoryUsage().rss
      const started = performance.now()
      try {
        const done = openNbd(server.uri, { mode: 'write', timeout, retries: 0 }).then(async (store) => {
          try {
            await work?.(store)
          } finally {
            await store.close()
          }
        })
        const error = await done.then(
          () => undefined,
          (error: unknown) => error,
        )
        if (!isMoraineError(error)) throw error ?? new Error('it was believed')
        expect.soft([error.kind, error.message]).toEqual([kind, expect.stringMatching(says)])
        expect.soft(error.path, 'the error says which export').toBe(server.uri)
        expect.soft(`${error.message}${error.hint}`, 'nothing for the terminal').not.toContain('\u001b')
      } finally {
        await server.stop()
      }
      expect(performance.now() - started, 'milliseconds').toBeLessThan(10_000)
      expect(process.memoryUsage().rss - before, 'bytes').toBeLessThan(64 << 20)
    })
  })
}
