/** `--object`: things that images are opened with. Each kind of object reads its own properties; words are qemu-img 7.2's. */
import { Failure } from './failure.ts'
import { isAbsent, readCipherSuites, readMainLoop, refuseAbsent } from './idle-objects.ts'
import { type Properties, refuseLeft, take } from './object-properties.ts'
import { readSecret } from './secrets.ts'
import { ThrottleGroup } from './throttle-group.ts'
import { readTlsCredentials, type TlsCredentials } from './tls-credentials.ts'

/** The objects of a call, by their ids. */
export interface Objects {
  readonly throttleGroups: Map<string, ThrottleGroup>
  /** What secrets hold; it is never shown. */
  readonly secrets: Map<string, Uint8Array>
  readonly tlsCredentials: Map<string, TlsCredentials>
  /** The kinds of those that change nothing here. */
  readonly idle: Map<string, string>
}

/** How each kind is made. */
const kinds: Readonly<Record<string, (id: string, properties: Properties, objects: Objects) => void>> = {
  secret: (id, properties, objects) => {
    objects.secrets.set(id, readSecret(properties, objects.secrets))
  },
  'tls-creds-x509': (id, properties, objects) => {
    objects.tlsCredentials.set(id, readTlsCredentials('tls-creds-x509', properties, objects.secrets))
  },
  'tls-creds-psk': (id, properties, objects) => {
    objects.tlsCredentials.set(id, readTlsCredentials('tls-creds-psk', properties, objects.secrets))
  },
  'tls-creds-anon': (id, properties, objects) => {
    objects.tlsCredentials.set(id, readTlsCredentials('tls-creds-anon', properties, objects.secrets))
  },
  'throttle-group': (id, properties, objects) => {
    objects.throttleGroups.set(id, new ThrottleGroup(properties))
  },
  'main-loop': (id, properties, { idle }) => {
    readMainLoop(properties)
    if ([...idle.values()].includes('main-loop')) throw new Failure('only one main-loop instance allowed')
    idle.set(id, 'main-loop')
  },
  'tls-cipher-suites': (id, properties, { idle }) => {
    readCipherSuites(properties)
    idle.set(id, 'tls-cipher-suites')
  },
}

/** Kinds that QEMU knows and that have no use here. */
const foreign = new Set(
  'authz-list authz-listfile authz-simple pr-manager-helper secret_keyring thread-context'.split(' '),
)

/** Makes the object that a definition such as `throttle-group,id=t0,x-bps-total=1000000` describes.
 *  @throws Failure */
export function defineObject(definition: string, objects: Objects): void {
  const properties = definition.startsWith('{') ? fromJson(definition) : fromText(definition)
  const kind = take(properties, 'qom-type')
  if (kind === undefined || kind === '') throw new Failure("Parameter 'qom-type' is missing")
  const make = Object.hasOwn(kinds, kind) ? kinds[kind] : undefined
  if (make === undefined && !isAbsent(kind)) {
    throw new Failure(
      foreign.has(kind)
        ? `objects of type '${kind}' are not supported by moraine`
        : `Parameter 'qom-type' does not accept value '${kind}'`,
    )
  }
  const id = take(properties, 'id')
  if (id === undefined) throw new Failure("Parameter 'id' is missing")
  if (!/^[a-z][\w.-]*$/i.test(id)) {
    throw new Failure("Parameter 'id' expects an identifier", {
      hint: "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.",
    })
  }
  if (Object.values(objects).some((known: Map<string, unknown>) => known.has(id))) {
    throw new Failure(`attempt to add duplicate property '${id}' to object (type 'container')`)
  }
  if (make === undefined) refuseAbsent(kind, properties)
  make(id, properties, objects)
  refuseLeft(properties)
}

function fromText(definition: string): Properties {
  const properties: Properties = new Map()
  const fields = definition.match(/(?:,,|[^,])+/g) ?? []
  for (const [at, field] of fields.entries()) {
    const equals = field.indexOf('=')
    const value = field.slice(equals + 1).replaceAll(',,', ',')
    if (equals >= 0) properties.set(field.slice(0, equals), value)
    else if (at === 0) properties.set('qom-type', value)
    else throw new Failure(`Expected '=' after parameter '${field}'`)
  }
  return properties
}

function fromJson(definition: string): Properties {
  const properties: Properties = new Map()
  const add = (value: unknown, name: string): void => {
    if (value === null || typeof value !== 'object') properties.set(name, String(value))
    else for (const [key, item] of Object.entries(value)) add(item, name === '' ? key : `${name}.${key}`)
  }
  try {
    add(JSON.parse(definition), '')
  } catch {
    throw new Failure('JSON parse error, the object is no JSON')
  }
  return properties
}
