/** What the routes work with: settings, catalog, store and the threads and counters they share. */
import type { ImageSchemas } from './api/images/image-schemas.ts'
import type { FileCache } from './cache/file-cache.ts'
import type { ImageCache } from './cache/image-cache.ts'
import type { Catalog } from './catalog/catalog.ts'
import type { Config } from './config.ts'
import type { Identity } from './identity/identity.ts'
import type { CallerTokens } from './import/caller-tokens.ts'
import type { RequestLimits } from './operate/request-limits.ts'
import type { Policy } from './policy/policy.ts'
import type { Protections } from './policy/protections.ts'
import type { Quotas } from './quota/quotas.ts'
import type { RunningWork } from './running-work.ts'
import type { Signatures } from './signature/signatures.ts'
import type { HashThreads } from './store/hashing.ts'
import type { Stores } from './store/stores.ts'
import type { Schedule } from './sync/schedule.ts'
import type { TaskRunner } from './task/runner.ts'
import type { Worker } from './task/worker.ts'
import type { WebClient } from './web/client.ts'

export interface Service {
  readonly config: Config
  readonly identity: Identity
  readonly policy: Policy
  readonly protections: Protections
  readonly schemas: ImageSchemas
  readonly catalog: Catalog
  readonly stores: Stores
  readonly hashes: HashThreads
  /** Checks what images are signed with. */
  readonly signatures: Signatures
  readonly quotas: Quotas
  /** Uploads under way. */
  readonly uploads: RunningWork
  /** This process among those that share the catalog. */
  readonly worker: Worker
  /** Runs tasks, those of other processes too. */
  readonly tasks: TaskRunner
  /** Asks for looks at catalogues. */
  readonly schedule: Schedule
  /** Fetches what is imported. */
  readonly web: WebClient
  readonly callerTokens: CallerTokens
  /** Undefined: everybody may send as many requests as they like. */
  readonly requestLimits: RequestLimits | undefined
  /** Exports that were made before. */
  readonly exports: FileCache
  readonly imageCache: ImageCache
  /** Adds a line to the audit log that is not about a request. */
  audit(line: object): void
}
