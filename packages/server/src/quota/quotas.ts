/** What each project may use: what the settings say, or a Keystone's unified limits. */
import type { Bound, Usage, Usages } from '../catalog/usage.ts'
import type { Config } from '../config.ts'
import type { Identity } from '../identity/identity.ts'
import type { Limits } from './limits.ts'
import { Reservation } from './reservation.ts'

const MiB = 1024 * 1024
/** Limits that another service keeps are asked for again after so many milliseconds. */
const believed = 30_000
const mostProjects = 1000

export class Quotas {
  readonly #config: Config
  readonly #identity: Identity
  readonly #usages: Usages
  readonly #known = new Map<string, { until: number; limits: Promise<Limits> }>()

  constructor(config: Config, identity: Identity, usages: Usages) {
    this.#config = config
    this.#identity = identity
    this.#usages = usages
  }

  /** @param project Null: images without an owner, which only the bound on all image data is for. @throws IdentityUnavailable */
  async limitsOf(project: string | null): Promise<Limits> {
    if (project === null) return {}
    const own = this.#identity.limitsOf?.bind(this.#identity)
    if (own === undefined) return this.#settings()
    const known = this.#known.get(project)
    if (known !== undefined && known.until > Date.now()) return known.limits
    const limits = own(project)
    if (this.#known.size >= mostProjects) this.#known.clear()
    this.#known.set(project, { until: Date.now() + believed, limits })
    // What could not be had is asked for again.
    limits.catch(() => this.#known.delete(project))
    return limits
  }

  usageOf(project: string | null): Promise<Usage> {
    return this.#usages.of(project)
  }

  /** For an upload that was opened. @param staged It is data that waits to be imported. @throws IdentityUnavailable */
  async reserve(uploadKey: string, owner: string | null, staged = false): Promise<Reservation> {
    const limits = await this.limitsOf(owner)
    const bounds: Bound[] = []
    const limit = staged ? limits.image_stage_total : limits.image_size_total
    const kind = staged ? 'stagedBytes' : 'bytes'
    if (limit !== undefined) bounds.push({ of: { owner }, kind, limit: limit * MiB })
    const all = this.#config.storageQuota
    if (all > 0 && !staged) bounds.push({ of: 'everybody', kind, limit: all })
    return new Reservation(this.#usages, uploadKey, bounds)
  }

  #settings(): Limits {
    const { projectSizeQuota, projectStageQuota, projectImageQuota, projectUploadQuota } = this.#config
    const limits: Limits = {}
    if (projectSizeQuota > 0) limits.image_size_total = Math.floor(projectSizeQuota / MiB)
    if (projectStageQuota > 0) limits.image_stage_total = Math.floor(projectStageQuota / MiB)
    if (projectImageQuota > 0) limits.image_count_total = projectImageQuota
    if (projectUploadQuota > 0) limits.image_count_uploading = projectUploadQuota
    return limits
  }
}
