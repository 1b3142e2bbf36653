/** The engine's one error: a stable kind, where it happened, and the rule that was broken. */

/** What went wrong, in a word that programs may rely on:
 *  `not-this-format` the bytes are of another format; `invalid` a field or an argument breaks a rule; `unsupported` known but not
 *  done (a feature, an option); `corrupt` metadata contradicts itself; `limit` allowed by the format, refused by `Limits`;
 *  `denied` the gate or the mode forbids it; `missing` a named file is not there; `locked` somebody else holds the image;
 *  `io` the host failed; `cancelled` the caller's signal fired. */
export type ErrorKind =
  | 'not-this-format'
  | 'invalid'
  | 'unsupported'
  | 'corrupt'
  | 'limit'
  | 'denied'
  | 'missing'
  | 'locked'
  | 'io'
  | 'cancelled'

/** A step of a copy: one way, from this byte of the disk on. */
export interface CopyStep {
  doing: 'reading' | 'writing'
  offset: number
}

/** Where an error happened and what broke; every part is optional. */
export interface ErrorPlace {
  /** The image or file, as the caller named it. */
  path?: string | undefined
  /** The format's name, as in `qcow2`. */
  format?: string | undefined
  /** The field of the format or the argument of the call. */
  field?: string | undefined
  /** Byte offset within `path`. */
  offset?: number | undefined
  /** The value that was found. */
  value?: number | bigint | string | undefined
  /** The rule that the value breaks, as in "a power of two from 512 to 2 MiB". */
  rule?: string | undefined
  /** The operating system's code, as in `ENOSPC`. */
  code?: string | undefined
  /** What to do about it, for people. */
  hint?: string | undefined
  /** What a copy was doing. */
  copying?: CopyStep | undefined
  cause?: unknown
}

/** The only error that the engine throws on purpose. `reason` is the short text (QEMU's own where it has one);
 *  `message` is the same with the place. */
export class MoraineError extends Error {
  readonly kind: ErrorKind
  readonly reason: string
  readonly path: string | undefined
  readonly format: string | undefined
  readonly field: string | undefined
  readonly offset: number | undefined
  readonly value: number | bigint | string | undefined
  readonly rule: string | undefined
  readonly code: string | undefined
  readonly hint: string | undefined
  readonly copying: CopyStep | undefined

  constructor(kind: ErrorKind, reason: string, place: ErrorPlace = {}) {
    super(describe(reason, place), place.cause === undefined ? undefined : { cause: place.cause })
    this.name = 'MoraineError'
    this.kind = kind
    this.reason = reason
    this.path = place.path
    this.format = place.format
    this.field = place.field
    this.offset = place.offset
    this.value = place.value
    this.rule = place.rule
    this.code = place.code
    this.hint = place.hint
    this.copying = place.copying
  }
}

function describe(reason: string, place: ErrorPlace): string {
  const facts: string[] = []
  if (place.field !== undefined) {
    facts.push(place.value === undefined ? `field ${place.field}` : `field ${place.field} is ${place.value}`)
  } else if (place.value !== undefined) {
    facts.push(`value ${place.value}`)
  }
  if (place.offset !== undefined) facts.push(`at byte ${place.offset}`)
  if (place.rule !== undefined) facts.push(`rule: ${place.rule}`)
  const head = place.path === undefined ? reason : `${place.path}: ${reason}`
  return facts.length === 0 ? head : `${head} (${facts.join('; ')})`
}

/** Narrows an unknown value to a `MoraineError`, of the given kind when one is named. It goes by the name, not the class: a program may hold the
 *  engine twice. */
export function isMoraineError(error: unknown, kind?: ErrorKind): error is MoraineError {
  return (
    error instanceof Error &&
    error.name === 'MoraineError' &&
    (kind === undefined || (error as MoraineError).kind === kind)
  )
}

/** The same error in other words, with the first one as its cause. `place`: what is said otherwise of where it happened. */
export function retold(error: MoraineError, reason: string, place: ErrorPlace = {}): MoraineError {
  const { kind, path, format, field, offset, value, rule, code, hint, copying } = error
  return new MoraineError(kind, reason, {
    path,
    format,
    field,
    offset,
    value,
    rule,
    code,
    hint,
    copying,
    cause: error,
    ...place,
  })
}

/** What `action` gives; where it fails with kind `io`, its error as `say` words it. */
export async function retelling<Result>(
  say: (reason: string) => string,
  action: () => Promise<Result>,
): Promise<Result> {
  try {
    return await action()
  } catch (error) {
    throw isMoraineError(error, 'io') ? retold(error, say(error.reason)) : error
  }
}

/** Throws kind `cancelled` when the signal has fired. Cheap enough for inner loops. */
export function throwIfCancelled(signal: AbortSignal | undefined, path?: string): void {
  if (signal?.aborted)
    throw new MoraineError('cancelled', 'the operation was cancelled', { path, cause: signal.reason })
}
