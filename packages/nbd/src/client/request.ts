/** A request under way, and what its reply has brought so far. */
import { MoraineError } from '@moraine/engine'
import { strerror } from '@moraine/engine/node'
import { codeOfNumber, wordsOf } from '../wire/errno.ts'
import { Coverage } from './coverage.ts'

/** One extent of a block status. */
export interface StatusRun {
  /** Bytes. */
  length: number
  /** As the context defines them. */
  flags: number
}

/** What is asked of a server. */
export interface Order {
  type: number
  flags: number
  offset: number
  length: number
  /** What is written. */
  payload?: Uint8Array | undefined
  /** Where what is read goes. */
  into?: Uint8Array | undefined
}

/** One request. */
export class Request {
  readonly order: Order
  readonly promise: Promise<void>
  /** For a read: what has arrived. */
  readonly coverage: Coverage
  /** For a block status: by the context's number. */
  readonly status = new Map<number, StatusRun[]>()
  /** Nobody waits for it any more: what still comes is thrown away. */
  abandoned = false
  /** Its buffer is in use by the socket right now. */
  busy = false
  #settled = false
  #resolve: () => void = () => {}
  #reject: (error: unknown) => void = () => {}
  #failure: MoraineError | undefined

  constructor(order: Order) {
    this.order = order
    this.coverage = new Coverage(order.into?.length ?? 0)
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
  }

  /** Notes an error that the server answered; the reply goes on to its end. The first one counts. */
  note(error: MoraineError): void {
    this.#failure ??= error
  }

  /** Whether the server answered an error. */
  get failed(): boolean {
    return this.#failure !== undefined
  }

  /** The reply is complete. */
  finish(): void {
    if (this.#failure === undefined) this.#settle(this.#resolve)
    else this.fail(this.#failure)
  }

  /** There will be no reply, or nobody waits for it. */
  fail(error: unknown): void {
    this.#settle(() => this.#reject(error))
  }

  #settle(how: () => void): void {
    if (this.#settled) return
    this.#settled = true
    how()
  }
}

/** The error for a number that a server answered. */
export function serverError(name: string, { offset }: Order, number: number, said?: string): MoraineError {
  const code = codeOfNumber(number)
  const kind = code === 'EPERM' ? 'denied' : code === 'ENOTSUP' ? 'unsupported' : 'io'
  return new MoraineError(kind, wordsOf(code) ?? strerror(code), {
    path: name,
    offset,
    code,
    hint: said === undefined || said === '' ? undefined : `server reported: ${said}`,
  })
}
