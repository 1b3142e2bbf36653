/** Which addresses on the web the service fetches from in somebody's name. Without this, whoever may import could make it ask servers that only it can reach. */
import { lookup as systemLookup } from 'node:dns/promises'
import { BlockList, isIP, isIPv4, isIPv6 } from 'node:net'
import type { Config } from '../config.ts'

/** An address that is not fetched from; the text says why. */
export class WebRefused extends Error {}

/** All addresses of a host. */
export type Resolve = (host: string) => Promise<{ address: string; family: number }[]>

export type WebRules = Pick<Config, 'importSchemes' | 'importPorts' | 'importAllowedHosts' | 'importDeniedHosts'>

/** Networks that are nobody's on the internet: IANA's special-purpose address registries (RFC 6890 and its updates), multicast, and what wraps an IPv4 address. */
const special = new BlockList()
for (const [network, bits] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
] as const) {
  special.addSubnet(network, bits, 'ipv4')
}
/** All that is not in the part of IPv6 that is given out, and what is special there. */
const ipv6 = new BlockList()
ipv6.addSubnet('2000::', 3, 'ipv6')
for (const [network, bits] of [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
] as const) {
  special.addSubnet(network, bits, 'ipv6')
}

/** Whether an address is one that everybody on the internet can reach. */
export function isPublic(address: string): boolean {
  if (isIPv4(address)) return !special.check(address, 'ipv4')
  return isIPv6(address) && ipv6.check(address, 'ipv6') && !special.check(address, 'ipv6')
}

export class WebGate {
  readonly #schemes: readonly string[]
  readonly #ports: readonly string[]
  readonly #allowed: Hosts | undefined
  readonly #denied: Hosts
  readonly #resolve: Resolve

  /** @param resolve For tests; default: the system's. */
  constructor(rules: WebRules, resolve: Resolve = (host) => systemLookup(host, { all: true })) {
    this.#schemes = list(rules.importSchemes)
    this.#ports = list(rules.importPorts)
    const allowed = list(rules.importAllowedHosts)
    this.#allowed = allowed.length === 0 ? undefined : new Hosts(allowed)
    this.#denied = new Hosts(list(rules.importDeniedHosts))
    this.#resolve = resolve
  }

  /** Reads an address and judges all that can be judged by its text. @throws WebRefused */
  check(written: string): URL {
    // Readers of addresses disagree about these; no honest one has them.
    if (/[\s\\\p{Cc}]/u.test(written)) throw new WebRefused('there are spaces, backslashes or control characters in it')
    const url = URL.parse(written)
    if (url === null || !/^[a-z][a-z0-9+.-]*:\/\//i.test(written)) throw new WebRefused('it is no address')
    const scheme = url.protocol.slice(0, -1)
    if (!this.#schemes.includes(scheme))
      throw new WebRefused(`the scheme '${scheme}' is not one of ${this.#schemes.join(', ')}`)
    if (url.username !== '' || url.password !== '') throw new WebRefused('there is a user name or password in it')
    const port = url.port === '' ? (scheme === 'https' ? '443' : '80') : url.port
    if (!this.#ports.includes('*') && !this.#ports.includes(port)) {
      throw new WebRefused(`the port ${port} is not one of ${this.#ports.join(', ')}`)
    }
    const host = hostOf(url)
    if (isIP(host) !== 0 && rawHost(written) !== host) throw new WebRefused(`the host is another way to write ${host}`)
    if (this.#denied.hasName(host)) throw new WebRefused(`the host ${host} is on the list of those that are denied`)
    if (isIP(host) !== 0) this.#checkAddress(host, host)
    // A network among those allowed is known by the address only.
    else if (this.#allowed !== undefined && !this.#allowed.hasName(host) && !this.#allowed.hasNetworks)
      throw notAllowed(host)
    return url
  }

  /** The addresses of a host, each of them judged: connect to no other. @throws WebRefused, and the resolver's own error. */
  async resolve(host: string): Promise<{ address: string; family: number }[]> {
    const addresses = isIP(host) === 0 ? await this.#resolve(host) : [{ address: host, family: isIP(host) }]
    if (addresses.length === 0) throw new WebRefused(`${host} has no address`)
    // The dot of a complete name is for the resolver alone.
    for (const { address } of addresses) this.#checkAddress(host.replace(/\.$/, ''), address)
    return addresses
  }

  #checkAddress(host: string, address: string): void {
    const plain = address.replace(/%.*$/, '')
    if (this.#denied.hasAddress(plain))
      throw new WebRefused(
        `${host === plain ? `the address ${plain}` : `an address of ${host}`} is on the list of those that are denied`,
      )
    if (this.#allowed !== undefined) {
      // Who names a host here knows where it is.
      if (this.#allowed.hasName(host) || this.#allowed.hasAddress(plain)) return
      throw notAllowed(host)
    }
    if (!isPublic(plain))
      // Which address that is, only those are told who can ask the same servers for names.
      throw new WebRefused(
        host === plain ? `${host} is not on the internet` : `${host} has an address that is not on the internet`,
      )
  }
}

function notAllowed(host: string): WebRefused {
  return new WebRefused(`the host ${host} is not on the list of those that are allowed`)
}

/** Names (`example.org`, `*.example.org`), addresses and networks (`10.0.0.0/8`). */
class Hosts {
  readonly hasNetworks: boolean
  readonly #names: readonly string[]
  readonly #networks = new BlockList()

  constructor(entries: readonly string[]) {
    const networks = entries.filter((entry) => isIP(entry.replace(/\/\d+$/, '')) !== 0)
    for (const entry of networks) {
      const [address = '', bits] = entry.split('/')
      const type = isIPv4(address) ? 'ipv4' : 'ipv6'
      if (bits === undefined) this.#networks.addAddress(address, type)
      else this.#networks.addSubnet(address, Number(bits), type)
    }
    this.hasNetworks = networks.length > 0
    this.#names = entries.filter((entry) => !networks.includes(entry))
  }

  hasName(host: string): boolean {
    return this.#names.some((name) => name === host || (name.startsWith('*.') && host.endsWith(name.slice(1))))
  }

  hasAddress(address: string): boolean {
    return this.#networks.check(address, isIPv4(address) ? 'ipv4' : 'ipv6')
  }
}

/** Without the brackets of IPv6 and the dot of a complete name. */
function hostOf(url: URL): string {
  return url.hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '')
}

/** The host as it was written, without anything of what the standard makes the same. */
function rawHost(written: string): string {
  const authority = /^[^:]+:\/\/([^/?#]*)/.exec(written)?.[1] ?? ''
  const host = authority.startsWith('[') ? authority.slice(1).split(']')[0] : authority.split(':')[0]
  return (host ?? '').toLowerCase()
}

/** The entries of a comma-separated setting. */
export function list(setting: string): string[] {
  return setting
    .split(',')
    .map((entry) => entry.trim().toLowerCase())
    .filter((entry) => entry !== '')
}
