/** What the routes work with: settings, catalog, store and the threads and counters they share. */
import type { Catalog } from './catalog/catalog.ts'
import type { Config } from './config.ts'
import type { Identity } from './identity/identity.ts'
import type { Policy } from './policy/policy.ts'
import type { RunningWork } from './running-work.ts'
import type { StorageBudget } from './store/budget.ts'
import type { HashThreads } from './store/hashing.ts'
import type { ImageStore } from './store/store.ts'

export interface Service {
  readonly config: Config
  readonly identity: Identity
  readonly policy: Policy
  readonly catalog: Catalog
  readonly store: ImageStore
  readonly hashes: HashThreads
  readonly budget: StorageBudget
  /** Uploads under way. */
  readonly uploads: RunningWork
}
