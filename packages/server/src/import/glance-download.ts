/** Images of another image service: their facts and their data. */
import type { Service } from '../service.ts'
import { WebClient } from '../web/client.ts'
import { WebGate } from '../web/gate.ts'
import { ImportFailed } from './explain.ts'
import type { Job } from './job.ts'

/** Properties that come along, by how they begin: those of Glance's own default. */
const copied = ['hw_', 'trait:', 'os_distro', 'os_secure_boot', 'os_type']
const mostFactBytes = 1024 * 1024

export interface GlanceFacts {
  diskFormat: string | null
  containerFormat: string | null
  properties: [string, string][]
}

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
    const text = await readText(answer.body)
    if (answer.status !== 200) throw new ImportFailed(`the other image service answered ${answer.status}`)
    const document = JSON.parse(text) as Record<string, unknown>
    if (document.status !== 'active') {
      throw new ImportFailed(`Source image status should be active instead of ${String(document.status)}`)
    }
    const properties = Object.entries(document).filter(
      (entry): entry is [string, string] =>
        typeof entry[1] === 'string' && copied.some((start) => entry[0].startsWith(start)),
    )
    const format = (value: unknown) => (typeof value === 'string' ? value : null)
    return { diskFormat: format(document.disk_format), containerFormat: format(document.container_format), properties }
  }
  return { facts, data: { url: `${url}/file`, headers, client } }
}

async function readText(body: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = []
  let size = 0
  for await (const part of body) {
    size += part.length
    if (size > mostFactBytes) throw new ImportFailed('the other image service says too much')
    parts.push(part)
  }
  return Buffer.concat(parts).toString('utf8')
}
