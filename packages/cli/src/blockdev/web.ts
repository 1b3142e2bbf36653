/** Images behind `http:` and `https:`. Options, their order and words: QEMU's `block/curl.c`. */
import { type ByteSource, cachedSource, type HttpOptions, MoraineError, openHttp } from '@moraine/engine'
import type { Objects } from '../objects/objects.ts'
import type { NodeRequest, Protocol } from './driver.ts'
import { NodeOptions } from './options.ts'

/** The protocol of one of the two names. */
export function web(driver: 'http' | 'https'): Protocol {
  return {
    strong: ['url', 'sslverify', 'cookie', 'cookie-secret', 'username', 'password-secret'],
    readName: (name) => new NodeOptions([['url', name]]),
    plainName: ({ url, sslverify, ...more }) =>
      Object.keys(more).length === 0 && sslverify !== 'off' && sslverify !== false ? String(url) : undefined,
    open: async (options, request) => openAddress(driver, options, request),
  }
}

/** A resource over HTTP, read through a cache.
 *  @throws MoraineError as `openHttp` */
export async function openWeb(url: string, signal: AbortSignal, options: HttpOptions = {}): Promise<ByteSource> {
  const { ownFetch } = await import('./own-fetch.ts')
  return cachedSource(await openHttp(url, { fetch: ownFetch(), ...options }, signal))
}

async function openAddress(driver: string, options: NodeOptions, { context, mode }: NodeRequest): Promise<ByteSource> {
  const refuse = (reason: string, field: string) => new MoraineError('invalid', reason, { field })
  if (mode === 'write') throw new MoraineError('denied', 'curl driver does not support writes', { field: 'url' })
  const ahead = options.takeSize('readahead')
  if (ahead !== undefined && ahead % 512 !== 0) {
    throw refuse(`HTTP_READAHEAD_SIZE ${ahead} is not a multiple of 512`, 'readahead')
  }
  const seconds = options.takeSize('timeout') ?? 60
  if (seconds > 10_000) throw refuse('timeout parameter is too large or negative', 'timeout')
  const verify = options.takeSwitch('sslverify') ?? true
  const given = options.takeText('cookie')
  const cookieSecret = options.takeText('cookie-secret')
  if (given !== undefined && cookieSecret !== undefined) {
    throw refuse('curl driver cannot handle both cookie and cookie secret', 'cookie-secret')
  }
  const cookie = cookieSecret === undefined ? given : readSecretText(context.objects, 'cookie-secret', cookieSecret)
  const url = options.takeText('url')
  if (url === undefined) throw refuse(`${driver} block driver requires an 'url' option`, 'url')
  if (!url.startsWith(`${driver}:`)) {
    throw refuse(`${driver} curl driver cannot handle the URL '${url}' (does not start with '${driver}://')`, 'url')
  }
  const username = options.takeText('username')
  const passwordId = options.takeText('password-secret')
  const password = passwordId === undefined ? '' : readSecretText(context.objects, 'password-secret', passwordId)
  for (const name of ['proxy-username', 'proxy-password-secret']) {
    if (!options.has(name)) continue
    throw new MoraineError(
      'unsupported',
      `the option '${name}' is not supported by moraine: a proxy is that of the environment`,
      {
        field: name,
      },
    )
  }
  const headers: Record<string, string> = {}
  if (cookie !== undefined) headers.cookie = cookie
  if (username !== undefined) {
    headers.authorization = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`
  }
  return await openWeb(url, context.signal, {
    headers,
    timeout: seconds === 0 ? undefined : seconds * 1000,
    ...(verify ? {} : { fetch: (await import('./own-fetch.ts')).ownFetch({ insecure: true }) }),
  })
}

/** What a secret holds, as text. */
function readSecretText({ secrets }: Objects, field: string, id: string): string {
  const secret = secrets.get(id)
  if (secret === undefined) throw new MoraineError('missing', `No secret with id '${id}'`, { field, value: id })
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(secret)
  } catch (cause) {
    throw new MoraineError('invalid', `Data from secret ${id} is not valid UTF-8`, { field, value: id, cause })
  }
}
