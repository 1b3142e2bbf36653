/** Every source and store that needs no host runs the conformance suite; those over files stand in ../platform. */
import {
  blobSource,
  cachedSource,
  countingSource,
  faultySource,
  JournalStore,
  MemoryStore,
  openHttp,
  sliceSource,
} from '@moraine/engine'
import { afterAll } from 'vitest'
import { sourceConformance, storeConformance } from './conformance.ts'
import { serve, type TestServer } from './http-server.ts'

sourceConformance('memory', async (content) => MemoryStore.from(content))
storeConformance('memory', async (content) => MemoryStore.from(content))

sourceConformance('a slice', async (content) => {
  const around = new Uint8Array(content.length + 3000).fill(0x77)
  around.set(content, 1001)
  return sliceSource(MemoryStore.from(around), 1001, content.length)
})

sourceConformance('a blob', async (content) => blobSource(new Blob([content as Uint8Array<ArrayBuffer>])))

sourceConformance('a cache', async (content) => cachedSource(MemoryStore.from(content)))
sourceConformance('a small cache', async (content) =>
  cachedSource(MemoryStore.from(content), { pageBytes: 4096, cacheBytes: 20_000, readAheadBytes: 8192 }),
)

sourceConformance('a counting source', async (content) => countingSource(MemoryStore.from(content)).source)
storeConformance('a counting store', async (content) => countingSource(MemoryStore.from(content)).source)
storeConformance(
  'a faulty store without faults',
  async (content) => faultySource(MemoryStore.from(content), { fault: 'EIO' }).source,
)
storeConformance('a journal', async (content) => new JournalStore(MemoryStore.from(content)))

const servers: TestServer[] = []
afterAll(async () => {
  for (const server of servers) await server.close()
})

sourceConformance('HTTP', async (content) => {
  const server = await serve({ content, etag: '"a"' })
  servers.push(server)
  return openHttp(server.url)
})
sourceConformance('HTTP without ranges', async (content) => {
  const server = await serve({ content, noRanges: true })
  servers.push(server)
  return openHttp(server.url)
})
sourceConformance('HTTP behind a cache', async (content) => {
  const server = await serve({ content })
  servers.push(server)
  return cachedSource(await openHttp(server.url))
})
