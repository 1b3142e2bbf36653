/** A hashing thread: holds any number of running hashes and feeds them from shared memory, so that no byte is copied. */
import { createHash, type Hash } from 'node:crypto'
import { parentPort } from 'node:worker_threads'
import type { HashReply, HashRequest } from './hash-protocol.ts'

const running = new Map<number, Hash>()

function answer(request: HashRequest): HashReply | undefined {
  const { op, hash } = request
  switch (op) {
    case 'start':
      running.set(hash, createHash(request.algorithm))
      return undefined
    case 'drop':
      running.delete(hash)
      return undefined
    case 'update':
      running.get(hash)?.update(new Uint8Array(request.memory, 0, request.length))
      return { hash }
    case 'digest': {
      const digest = running.get(hash)?.digest('hex') ?? ''
      running.delete(hash)
      return { hash, digest }
    }
  }
}

parentPort?.on('message', (request: HashRequest) => {
  const reply = answer(request)
  if (reply !== undefined) parentPort?.postMessage(reply)
})
