/** Images of another image service: their facts and their data. */
import type { JsonObject } from '../catalog/json.ts'
import type { Service } from '../service.ts'
import { WebClient } from '../web/client.ts'
import { WebGate } from '../web/gate.ts'
import { readBounded } from '../web/read-bounded.ts'
import { checkable } from './body.ts'
import { ImportFailed } from './explain.ts'
import type { Job } from './job.ts'

/** Properties that come along, by how they begin: those of Glance's own default. */
const copied = ['hw_', 'trait:', 'os_distro', 'os_secure_boot', 'os_type']
const mostFactBytes = 1024 * 1024

export interface GlanceFacts {
  diskFormat: string | null
  containerFormat: string | null
  properties: [string, string][]
  /** `os_hash_algo` and `os_hash_value`, where that service has a digest that can be checked. */
  digest: JsonObject
}

/** An image of another service, as it is fetched. Its client is closed by whoever is done with it. */
export type OtherGlance = ReturnType<typeof fetchFromGlance>

/** The services of the setting `importRegions`, by region. */
export function regions(setting: string): Map<string, string> {
  const pairs = setting.split(',').flatMap((entry) => {
    const [, region = '', url = ''] = /^\s*([^=]+?)\s*=\s*(https?:\/\/\S+?)\/*\s*$/.exec(entry) ?? []
    return region === '' ? [] : [[region, url] as const]
  })
  return new Map(pairs)
}

/** How the image of a request is fetched.
 *  @throws ImportFailed for a region that is not in the settings, or when the token that the request came with is gone with the process that had it. */
export function fetchFromGlance(
  { config, callerTokens }: Service,
  { details, taskId, withToken }: Pick<Job, 'details' | 'taskId' | 'withToken'>,
) {
  const base = regions(config.importRegions).get(String(details.glance_region))
  if (base === undefined)
    throw new ImportFailed(`no image service is known for region ${String(details.glance_region)}`)
  const url = `${base}/v2/images/${String(details.glance_image_id)}`
  const token = callerTokens.of(taskId)
  if (withToken && token === undefined)
    throw new ImportFailed(
      "the caller's token is gone with the process of the service that had it: the import must be asked for again",
    )
  const headers: Record<string, string> = token === undefined ? {} : { 'x-auth-token': token }
  // The operator names the host, so it may be private; nothing else may be reached through it.
  const { hostname, port, protocol } = new URL(base)
  const gate = new WebGate({
    importSchemes: protocol.slice(0, -1),
    importPorts: port === '' ? (protocol === 'https:' ? '443' : '80') : port,
    importAllowedHosts: hostname.replace(/^\[(.*)\]$/, '$1'),
    importDeniedHosts: '',
  })
  const client = new WebClient(gate, { ...config, importRedirects: 0 })
  const facts = async (signal: AbortSignal): Promise<GlanceFacts> => {
    const answer = await client.get(url, { ...headers, accept: 'application/json' }, signal)
    const text = (await readBounded(answer.body, mostFactBytes)).toString()
    if (answer.status !== 200) throw new ImportFailed(`the other image service answered ${answer.status}`)
    const document = readDocument(text)
    if (document.status !== 'active') {
      throw new ImportFailed(`Source image status should be active instead of ${String(document.status)}`)
    }
    const properties = Object.entries(document).filter(
      (entry): entry is [string, string] =>
        typeof entry[1] === 'string' && copied.some((start) => entry[0].startsWith(start)),
    )
    const format = (value: unknown) => (typeof value === 'string' ? value : null)
    const { os_hash_algo, os_hash_value } = document
    const isCheckable = checkable.some((name) => name === os_hash_algo) && typeof os_hash_value === 'string'
    return {
      ...{ diskFormat: format(document.disk_format), containerFormat: format(document.container_format), properties },
      digest: isCheckable ? ({ os_hash_algo, os_hash_value } as JsonObject) : {},
    }
  }
  return { facts, data: { url: `${url}/file`, headers, client } }
}

function readDocument(text: string): Record<string, unknown> {
  try {
    const document: unknown = JSON.parse(text)
    if (typeof document === 'object' && document !== null) return document as Record<string, unknown>
  } catch {
    // Said below.
  }
  throw new ImportFailed('the other image service answered with something that is no image')
}
