/** md5 and sha512 of a file, each in a thread of its own, as fast as this machine does it: `hash.ts FILE`. The floor of an upload. */
import { createHash } from 'node:crypto'
import { openSync, readSync } from 'node:fs'
import { isMainThread, Worker, workerData } from 'node:worker_threads'

if (isMainThread) {
  const file = process.argv[2]
  for (const name of ['md5', 'sha512']) {
    new Worker(new URL(import.meta.url), { workerData: { file, name } }).on('error', (error) => {
      throw error
    })
  }
} else {
  const { file, name } = workerData as { file: string; name: string }
  const descriptor = openSync(file, 'r')
  const hash = createHash(name)
  const bytes = Buffer.alloc(2 ** 20)
  for (let n = readSync(descriptor, bytes); n > 0; n = readSync(descriptor, bytes)) hash.update(bytes.subarray(0, n))
  hash.digest()
}
