/** The unified limits of a Keystone: what each project may use of this service. Source: Identity API v3, "Unified limits". */
import { type Limits, resources } from '../quota/limits.ts'
import { IdentityUnavailable } from './identity.ts'
import type { KeystoneClient } from './keystone-client.ts'

interface LimitDocument {
  resource_name?: string
  project_id?: string | null
  resource_limit?: number
  default_limit?: number
  region_id?: string | null
}

/** @param client Logs in for the whole system: whoever has a project only is told of that one's limits.
 *  @param region Limits of this region count, and those of none. */
export class KeystoneLimits {
  readonly #client: KeystoneClient
  readonly #region: string
  #service: Promise<string> | undefined

  constructor(client: KeystoneClient, region: string) {
    this.#client = client
    this.#region = region
  }

  /** @throws IdentityUnavailable, also when Keystone knows no image service. */
  async of(projectId: string): Promise<Limits> {
    const service = encodeURIComponent(await this.#serviceId())
    const registered = await this.#get<LimitDocument>(`/registered_limits?service_id=${service}`, 'registered_limits')
    const own = await this.#get<LimitDocument>(
      `/limits?service_id=${service}&project_id=${encodeURIComponent(projectId)}`,
      'limits',
    )
    const limits: Limits = {}
    for (const resource of resources) {
      const [first] = own.filter((limit) => limit.resource_name === resource && limit.project_id === projectId)
      const [registration] = registered.filter((limit) => limit.resource_name === resource && this.#isHere(limit))
      const bound = first?.resource_limit ?? registration?.default_limit
      // A resource that nobody has registered is bounded by nothing there is: Glance takes it for 0, and no image could be made.
      if (bound !== undefined && bound >= 0) limits[resource] = bound
    }
    return limits
  }

  #isHere({ region_id: region }: LimitDocument): boolean {
    return region === null || region === undefined || region === this.#region
  }

  async #serviceId(): Promise<string> {
    this.#service ??= this.#get<{ id: string }>('/services?type=image', 'services').then(([service]) => {
      if (service === undefined) throw new IdentityUnavailable('Keystone knows no service of type image')
      return service.id
    })
    try {
      return await this.#service
    } catch (error) {
      this.#service = undefined
      throw error
    }
  }

  async #get<Item>(path: string, name: string): Promise<Item[]> {
    const { document } = await this.#client.get(path)
    const found = (document as Record<string, unknown> | undefined)?.[name]
    if (!Array.isArray(found)) throw new IdentityUnavailable(`Keystone answers ${path.split('?')[0]} without ${name}`)
    return found as Item[]
  }
}
