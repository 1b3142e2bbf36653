/** The kinds of objects that qemu-img has: the properties of each, and what is made of them. Source of the properties: QEMU 7.2, `qapi/qom.json`. */
import { authzListFile } from './absent-kinds.ts'
import { checkCipherSuites, checkMainLoop, checkThreadContext } from './idle.ts'
import type { Objects } from './objects.ts'
import { reachHelper } from './pr-manager.ts'
import {
  bool,
  describeMembers,
  int,
  int32,
  listOf,
  type Members,
  oneOf,
  readOnlyBool,
  string,
  struct,
  uint16,
  type Values,
} from './schema.ts'
import { readKeyringSecret, readSecret } from './secrets.ts'
import { limitNames, readLimits, ThrottleGroup } from './throttle-group.ts'
import { type GivenTls, readTlsCredentials, type TlsKind } from './tls-credentials.ts'

/** Where an object comes to be. */
interface Making {
  id: string
  objects: Objects
  signal: AbortSignal
}

/** One kind. What `make` throws is a Failure in QEMU's words. */
export interface Kind {
  readonly members: Members
  make(values: unknown, making: Making): void | Promise<void>
}

function kind<const Of extends Members>(
  members: Of,
  make: (values: Values<Of>, making: Making) => void | Promise<void>,
): Kind {
  // The table and the values that are read by it belong together.
  return { members, make: (values, making) => make(values as Values<Of>, making) }
}

const secretMembers = {
  '*loaded': readOnlyBool,
  '*format': oneOf('QCryptoSecretFormat', ['raw', 'base64']),
  '*keyid': string,
  '*iv': string,
} as const

const tlsMembers = {
  '*verify-peer': bool,
  '*dir': string,
  '*endpoint': oneOf('QCryptoTLSCredsEndpoint', ['client', 'server']),
  '*priority': string,
} as const

const authzPolicy = oneOf('QAuthZListPolicy', ['deny', 'allow'])
const authzRule = struct('QAuthZListRule', {
  match: string,
  policy: authzPolicy,
  '*format': oneOf('QAuthZListFormat', ['exact', 'glob']),
})

const credentialMembers = { ...tlsMembers, '*loaded': readOnlyBool } as const

function credentials(name: TlsKind): (given: GivenTls, making: Making) => void {
  return (given, { id, objects }) => {
    objects.tlsCredentials.set(id, readTlsCredentials(name, given, objects))
  }
}

/** Whom an export lets in is asked by servers alone: it is enough that the properties are right. */
const nothing = (): void => {}

const limits = Object.fromEntries(limitNames.map((name) => [`*${name}`, int]))
const olderLimits = Object.fromEntries(limitNames.map((name) => [`*x-${name}`, int]))

export const kinds: { readonly [name: string]: Kind } = {
  'authz-list': kind({ '*policy': authzPolicy, '*rules': listOf(authzRule) }, nothing),
  'authz-simple': kind({ identity: string }, nothing),
  'main-loop': kind({ '*aio-max-batch': int, '*thread-pool-min': int, '*thread-pool-max': int }, checkMainLoop),
  'pr-manager-helper': kind({ path: string }, ({ path }, { signal }) => reachHelper(path, signal)),
  secret: kind({ ...secretMembers, '*data': string, '*file': string }, (values, { id, objects }) => {
    objects.secrets.set(id, readSecret(values, objects))
  }),
  secret_keyring: kind({ ...secretMembers, serial: int32 }, (values, { id, objects }) => {
    objects.secrets.set(id, readKeyringSecret(values, objects))
  }),
  'thread-context': kind({ '*cpu-affinity': listOf(uint16), '*node-affinity': listOf(uint16) }, checkThreadContext),
  'throttle-group': kind({ '*limits': struct('ThrottleLimits', limits), ...olderLimits }, (values, { id, objects }) => {
    objects.throttleGroups.set(id, new ThrottleGroup(readLimits(values)))
  }),
  'tls-cipher-suites': kind(tlsMembers, checkCipherSuites),
  'tls-creds-anon': kind(credentialMembers, credentials('tls-creds-anon')),
  'tls-creds-psk': kind({ ...credentialMembers, '*username': string }, credentials('tls-creds-psk')),
  'tls-creds-x509': kind(
    { ...credentialMembers, '*sanity-check': bool, '*passwordid': string },
    credentials('tls-creds-x509'),
  ),
}

/** What `help` in a definition asks for: the properties of a kind, or else the list of kinds. */
export function objectHelp(name: unknown): string {
  const shown = new Map(Object.entries(kinds).map(([known, { members }]) => [known, members]))
  shown.set('authz-list-file', authzListFile)
  const members = typeof name === 'string' ? shown.get(name) : undefined
  const lines =
    members === undefined
      ? ['List of user creatable objects:', ...[...shown.keys()].sort().map((known) => `  ${known}`)]
      : [`${name} options:`, ...describeMembers(members)]
  return `${lines.join('\n')}\n`
}
