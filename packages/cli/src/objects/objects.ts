/** What `--object` has defined. */
import type { ThrottleGroup } from './throttle-group.ts'
import type { TlsCredentials } from './tls-credentials.ts'

/** The objects of a call, by their ids. */
export interface Objects {
  /** The kind of each, of those too that change nothing here. */
  readonly kinds: Map<string, string>
  readonly throttleGroups: Map<string, ThrottleGroup>
  /** What secrets hold; it is never shown. */
  readonly secrets: Map<string, Uint8Array>
  readonly tlsCredentials: Map<string, TlsCredentials>
}

/** No objects yet. */
export function noObjects(): Objects {
  return { kinds: new Map(), throttleGroups: new Map(), secrets: new Map(), tlsCredentials: new Map() }
}
