/** Requests at a service, as many as it answers, over connections that stay open where it lets them. */
import { Client } from 'undici'
import { heldBytes, processorSeconds } from './process-tree.ts'

export interface Load {
  url: string
  method?: 'GET' | 'POST'
  headers: Record<string, string>
  body?: string
  /** The status that every answer must have. */
  expect: number
  connections: number
  seconds: number
  /** The processes that serve it, by their first ones. */
  pids: readonly number[]
}

/** How a service did under a load. */
export interface Rate {
  connections: number
  requests: number
  perSecond: number
  /** Milliseconds in which half, and 99 of 100 requests were answered. */
  p50: number
  p99: number
  /** Milliseconds of processor time of the service for each request. */
  processorMs: number
  /** Bytes that the service's processes held at the end. */
  heldBytes: number
}

/** @throws Error when an answer is not the one expected. */
export async function loadWith(load: Load): Promise<Rate> {
  const { url, method = 'GET', headers, body, expect, connections, seconds, pids } = load
  const before = processorSeconds(pids)
  const times: number[] = []
  const started = performance.now()
  const end = started + seconds * 1000
  let last = started
  const ask = async (client: Client): Promise<void> => {
    const sent = performance.now()
    const answer = await client.request({ path, method, headers, body: body ?? null })
    await answer.body.dump({ limit: 2 ** 30 })
    last = performance.now()
    if (answer.statusCode !== expect) throw new Error(`${method} ${url}: ${answer.statusCode}, not ${expect}`)
    times.push(last - sent)
  }
  const { origin, pathname, search } = new URL(url)
  const path = pathname + search
  const clients = Array.from({ length: connections }, () => new Client(origin, { headersTimeout: 60_000 }))
  try {
    await Promise.all(
      clients.map(async (client) => {
        while (performance.now() < end) await ask(client)
      }),
    )
  } finally {
    await Promise.all(clients.map((client) => client.destroy()))
  }
  const spent = processorSeconds(pids) - before
  times.sort((a, b) => a - b)
  const quantile = (part: number) => times[Math.min(times.length - 1, Math.floor(times.length * part))] ?? Number.NaN
  return {
    connections,
    requests: times.length,
    perSecond: times.length / ((last - started) / 1000),
    p50: quantile(0.5),
    p99: quantile(0.99),
    processorMs: (spent * 1000) / times.length,
    heldBytes: heldBytes(pids),
  }
}
