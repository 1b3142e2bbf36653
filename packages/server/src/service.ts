/** What the routes work with: settings, catalog, store and the threads and counters they share. */
import type { Catalog } from './catalog/catalog.ts'
import type { Config } from './config.ts'
import type { Identity } from './identity/identity.ts'
import type { Policy } from './policy/policy.ts'
import type { RunningWork } from './running-work.ts'
import type { StorageBudget } from './store/budget.ts'
import type { HashThreads } from './store/hashing.ts'
import type { Stores } from './store/stores.ts'
import type { Worker } from './task/worker.ts'

export interface Service {
  readonly config: Config
  readonly identity: Identity
  readonly policy: Policy
  readonly catalog: Catalog
  readonly stores: Stores
  readonly hashes: HashThreads
  readonly budget: StorageBudget
  /** Uploads under way. */
  readonly uploads: RunningWork
  /** This process among those that share the catalog. */
  readonly worker: Worker
}
