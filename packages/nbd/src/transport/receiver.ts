/** Bytes from a socket, in the pieces in which they are wanted. Large pieces go from the kernel straight to where they shall lie. */
import type { OnReadOpts, Socket } from 'node:net'
import { MoraineError } from '@moraine/engine'

const scratchBytes = 64 * 1024

/** A wanted piece that is at least so long is read in place. */
const directBytes = 32 * 1024

/** So much may wait unread before the socket is told to stop. */
const waitingBytes = 256 * 1024

/** Hands out what a socket receives. One caller at a time. */
export class Receiver {
  /** Received and not yet handed out. Pieces are views of buffers that nothing else uses until they are. */
  readonly #waiting: Uint8Array[] = []
  readonly #spare: Uint8Array[] = []
  #waitingBytes = 0
  #want: Uint8Array | undefined
  #filled = 0
  #resolve: () => void = () => {}
  #reject: (error: unknown) => void = () => {}
  #end: { error: unknown } | undefined
  #socket: Socket | undefined
  #paused = false
  /** The socket reads into buffers of this receiver, which may be used again. */
  #ownBuffers = false
  /** Bytes received so far. */
  received = 0

  /** For the options of a socket that is to be made: it then reads into this receiver's buffers. */
  readonly onread: OnReadOpts = {
    buffer: () => this.#next(),
    callback: (length, buffer) => {
      this.#took(buffer, length)
      if (this.#waitingBytes > waitingBytes) {
        this.#paused = true
        return false
      }
      return true
    },
  }

  /** Takes a socket's events: its end, and its data where it was made without `onread`. `name` is for messages. */
  attach(socket: Socket, name: string): void {
    this.#socket = socket
    socket.on('data', this.#onData)
    socket.on('error', (cause: unknown) =>
      this.fail(new MoraineError('io', 'the connection broke', { path: name, code: 'ECONNRESET', cause })),
    )
    const ended = () =>
      this.fail(new MoraineError('io', 'the connection was closed', { path: name, code: 'ECONNRESET' }))
    socket.on('end', ended)
    socket.on('close', ended)
  }

  /** Leaves the socket to somebody else (TLS). Bytes that were received before that are nobody's: there must be none.
   *  @returns whether there were none. */
  detach(): boolean {
    this.#socket?.removeListener('data', this.#onData)
    this.#socket = undefined
    return this.#waitingBytes === 0
  }

  /** Fills `into`. Costs no promise where the bytes are there already. */
  fill(into: Uint8Array): Promise<void> | undefined {
    this.#want = into
    this.#filled = 0
    this.#deliver()
    if (this.#filled === into.length) {
      this.#want = undefined
      return undefined
    }
    if (this.#end !== undefined) {
      this.#want = undefined
      return Promise.reject(this.#end.error)
    }
    return new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
  }

  /** Nothing more will come. What is wanted now or later, beyond what was received, fails with this error. */
  fail(error: unknown): void {
    if (this.#end !== undefined) return
    this.#end = { error }
    if (this.#want === undefined) return
    this.#want = undefined
    this.#reject(error)
  }

  readonly #onData = (data: Buffer): void => {
    this.received += data.length
    this.#add(data)
    if (this.#waitingBytes > waitingBytes) {
      this.#paused = true
      this.#socket?.pause()
    }
  }

  /** Where the socket shall put what comes next. */
  #next(): Uint8Array {
    this.#ownBuffers = true
    const want = this.#want
    if (want !== undefined && this.#waitingBytes === 0 && want.length - this.#filled >= directBytes) {
      return want.subarray(this.#filled)
    }
    return this.#spare.pop() ?? new Uint8Array(scratchBytes)
  }

  #took(buffer: Uint8Array, length: number): void {
    this.received += length
    const want = this.#want
    if (want !== undefined && buffer.buffer === want.buffer && buffer.byteOffset === want.byteOffset + this.#filled) {
      this.#filled += length
      this.#finish()
      return
    }
    this.#add(buffer.subarray(0, length))
  }

  #add(bytes: Uint8Array): void {
    this.#waiting.push(bytes)
    this.#waitingBytes += bytes.length
    if (this.#want === undefined) return
    this.#deliver()
    this.#finish()
  }

  #finish(): void {
    if (this.#want === undefined || this.#filled < this.#want.length) return
    this.#want = undefined
    this.#resolve()
  }

  /** Copies what waits to where it is wanted. */
  #deliver(): void {
    const want = this.#want
    if (want === undefined) return
    while (this.#filled < want.length) {
      const [first] = this.#waiting
      if (first === undefined) break
      const length = Math.min(first.length, want.length - this.#filled)
      want.set(length === first.length ? first : first.subarray(0, length), this.#filled)
      this.#filled += length
      this.#waitingBytes -= length
      if (length < first.length) this.#waiting[0] = first.subarray(length)
      else this.#giveBack()
    }
    if (this.#paused && this.#waitingBytes <= waitingBytes) {
      this.#paused = false
      this.#socket?.resume()
    }
  }

  #giveBack(): void {
    const used = this.#waiting.shift()
    if (used === undefined || !this.#ownBuffers || this.#spare.length >= 4) return
    if (used.buffer.byteLength === scratchBytes) this.#spare.push(new Uint8Array(used.buffer))
  }
}
