/** Where the services of a cloud are, by Keystone's catalog. Source: Identity API v3, "Get service catalog". */
import type { KeystoneClient } from './keystone-client.ts'

interface CatalogDocument {
  catalog?: {
    type?: string
    endpoints?: { interface?: string; region?: string | null; region_id?: string | null; url?: string }[]
  }[]
}

/** An answer is believed for so long. */
const believedMilliseconds = 300_000

export class KeystoneCatalog {
  readonly #client: KeystoneClient
  readonly #region: string
  #known: { until: number; document: CatalogDocument } | undefined

  constructor(client: KeystoneClient, region: string) {
    this.#client = client
    this.#region = region
  }

  /** The public address of a service in the region; undefined where there is none. @throws IdentityUnavailable */
  async endpointOf(type: string): Promise<string | undefined> {
    if (this.#known === undefined || this.#known.until < Date.now()) {
      const { document } = await this.#client.get('/auth/catalog')
      this.#known = { until: Date.now() + believedMilliseconds, document: (document ?? {}) as CatalogDocument }
    }
    const service = this.#known.document.catalog?.find((entry) => entry.type === type)
    return service?.endpoints?.find(
      (endpoint) => endpoint.interface === 'public' && (endpoint.region_id ?? endpoint.region) === this.#region,
    )?.url
  }
}
