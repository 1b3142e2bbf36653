/** A hashing thread: holds any number of running hashes and feeds them from shared memory, so that no byte is copied. */
import { constants, createHash, createVerify } from 'node:crypto'
import { parentPort } from 'node:worker_threads'
import type { HashReply, HashRequest, Verification } from './hash-protocol.ts'

interface Running {
  update(bytes: Uint8Array): unknown
  digest(encoding: 'hex'): string
}

const running = new Map<number, Running>()

function verifier({ hash, key, signature, saltLength }: Verification): Running {
  const verify = createVerify(hash)
  const padded = saltLength === undefined ? {} : { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength }
  return {
    update: (bytes) => verify.update(bytes),
    digest() {
      try {
        return verify.verify({ key, ...padded }, signature) ? 'good' : ''
      } catch {
        // A key that the library does not take verifies nothing.
        return ''
      }
    },
  }
}

function answer(request: HashRequest): HashReply | undefined {
  const { op, hash } = request
  switch (op) {
    case 'start':
      running.set(
        hash,
        typeof request.algorithm === 'string' ? createHash(request.algorithm) : verifier(request.algorithm),
      )
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
