/** What a server sends to one client: nothing is kept for a client that does not read. */
import type { Socket } from 'node:net'
import { MoraineError } from '@moraine/engine'

/** The writing side of a client's socket. */
export class Sender {
  readonly #socket: Socket
  readonly #timeout: number

  /** `timeout`: milliseconds that a client may leave unread what was sent to it. */
  constructor(socket: Socket, timeout: number) {
    this.#socket = socket
    this.#timeout = timeout
  }

  /** Sends pieces together. Their buffers are free when this returns.
   *  @throws MoraineError `io` when the client is gone or does not read. */
  send(...pieces: Uint8Array[]): Promise<void> {
    const socket = this.#socket
    return new Promise((resolve, reject) => {
      const end = (error?: unknown) => {
        clearTimeout(timer)
        if (error === undefined || error === null) resolve()
        else reject(error)
      }
      const timer = setTimeout(() => {
        socket.destroy()
        end(new MoraineError('io', 'the client does not read', { code: 'ETIMEDOUT' }))
      }, this.#timeout)
      if (pieces.length > 1) socket.cork()
      const last = pieces.length - 1
      pieces.forEach((piece, index) => {
        if (index < last) socket.write(piece)
        else socket.write(piece, end)
      })
      if (pieces.length > 1) socket.uncork()
    })
  }
}
