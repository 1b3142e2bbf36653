/** Where image data lies: a folder, a web server, and later an object store are values of one type. */
import type { ByteSource } from '@moraine/engine'

/** Image data on its way in: nobody sees it before `commit`, and nothing is left of it after `abort`. */
export interface StoreUpload {
  /** Appends. The caller waits before it calls again, and may reuse `bytes` afterwards.
   *  @throws StoreError `full`, or the host's own error. */
  write(bytes: Uint8Array): Promise<void>
  /** What was written so far, for reading. The caller closes it. */
  read(): Promise<ByteSource>
  /** Puts the data under its name. When this returns, it is on stable storage, whole. */
  commit(): Promise<void>
  /** Takes everything back; harmless after `commit` and when called twice. */
  abort(): Promise<void>
  /** Stops here, to go on later: what was written is on stable storage, and resolves to its length. Only where the store can `resume`. */
  suspend?(): Promise<number>
  /** Brings what was written so far to stable storage, beside what is written meanwhile. Resolves to how many bytes are there. Only where the store can `resume`. */
  flush?(): Promise<number>
}

export interface ImageStore {
  /** For the log: what and where it is. */
  readonly description: string
  /** Facts for operators, as `GET /v2/info/stores/detail` shows them. */
  readonly properties: Readonly<Record<string, string | number | boolean>>
  /** @param key A name that was never used before. @param expected Bytes that will come, where that is known; a store without room for them says so at once.
   *  @throws StoreError `full`, `read-only`. */
  begin(key: string, expected?: number): Promise<StoreUpload>
  /** Goes on with data that was suspended, or cut off, at `offset`: what lies behind it is dropped. Absent: the store cannot.
   *  @param as Another key for it from now on, one that was never used before: whoever still goes on under the old one cannot commit. */
  resume?(key: string, offset: number, as?: string): Promise<StoreUpload>
  /** Gives a file of this machine a second name as data of the store, where that can be: no byte is copied, and neither name's owner may write to it any more.
   *  Resolves to false where it cannot. */
  link?(key: string, path: string): Promise<boolean>
  /** For reading. The caller closes it; it stays readable when the data is removed meanwhile. @throws MoraineError `missing`, `io`. */
  open(key: string): Promise<ByteSource>
  /** Nothing happens when it is not there. */
  remove(key: string): Promise<void>
  /** The address of data, for clients that are told where it lies. */
  urlOf(key: string): string
  /** The key of data that is kept elsewhere, by an address that a client gives; undefined when the store has nothing at such an address. May ask there.
   *  @throws StoreError `refused`. */
  keyOf(url: string): Promise<string | undefined>
  /** Removes all data, whole or not, whose key `isKnown` does not return. Resolves to the names removed. */
  sweep(isKnown: (keys: readonly string[]) => Promise<ReadonlySet<string>>): Promise<string[]>
}

/** Why a store could not do it, where the service can say something better than "internal error". */
export class StoreError extends Error {
  readonly kind: 'full' | 'denied' | 'read-only' | 'refused' | 'stalled'

  constructor(kind: StoreError['kind'], message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'StoreError'
    this.kind = kind
  }
}
