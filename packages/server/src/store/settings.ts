/** The `stores` setting: which stores there are. `fast=folder:/srv/fast, default, weight=10, description=Flash; web=http` */
import { MoraineError } from '@moraine/engine'
import { singleStore } from '../catalog/image.ts'

const types = ['folder', 'http'] as const

/** One store as the setting describes it. */
export interface StoreSetting {
  id: string
  type: (typeof types)[number]
  /** A folder's path; empty: the one in the data folder. */
  place: string
  description: string
  /** Data is read from the store with the largest. */
  weight: number
  isDefault: boolean
  readOnly: boolean
}

const plain = (id: string, type: StoreSetting['type'], place = ''): StoreSetting => ({
  ...{ id, type, place, description: '', weight: 0, isDefault: false },
  readOnly: type === 'http',
})

/** The stores of the setting; undefined when it is empty: one folder then, in the data folder. @throws MoraineError `invalid`. */
export function readStores(setting: string): StoreSetting[] | undefined {
  if (setting.trim() === '') return undefined
  const stores = setting
    .split(';')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '')
    .map(readStore)
  const repeated = stores.find(({ id }, at) => stores.findIndex((other) => other.id === id) !== at)
  if (repeated !== undefined) throw unusable(`'${repeated.id}' is there twice`)
  const writable = stores.filter(({ readOnly }) => !readOnly)
  const [first] = writable
  if (first === undefined) throw unusable('none of them can be written to')
  const [chosen, second] = stores.filter(({ isDefault }) => isDefault)
  if (second !== undefined) throw unusable(`'${chosen?.id}' and '${second.id}' cannot both be the default`)
  if (chosen?.readOnly) throw unusable(`'${chosen.id}' is read-only, and cannot be the default`)
  if (chosen === undefined) first.isDefault = true
  return stores
}

/** The one store of a service whose setting is empty. */
export function onlyStore(): StoreSetting {
  return { ...plain(singleStore, 'folder'), isDefault: true }
}

function readStore(entry: string): StoreSetting {
  const [head = '', ...facts] = entry.split(',').map((part) => part.trim())
  const [, id = '', type = '', place = ''] = /^([^=]*)=([^:]*)(?::(.*))?$/.exec(head) ?? []
  if (!/^[A-Za-z0-9][\w.-]*$/.test(id) || id.startsWith('os_glance_')) {
    throw unusable(`'${head}' does not begin with a name and its type, as in 'fast=folder:/srv/fast'`)
  }
  const known = types.find((name) => name === type)
  if (known === undefined) throw unusable(`'${id}': the type '${type}' is not one of ${types.join(', ')}`)
  if (known === 'folder' && place === '' && id !== singleStore) throw unusable(`'${id}': which folder?`)
  const store = plain(id, known, place)
  for (const fact of facts) {
    const [name = '', value] = /^([^=]*)(?:=(.*))?$/s.exec(fact)?.slice(1) ?? []
    if (name === 'default' && value === undefined) store.isDefault = true
    else if (name === 'read-only' && value === undefined) store.readOnly = true
    else if (name === 'weight' && /^-?\d{1,9}$/.test(value ?? '')) store.weight = Number(value)
    else if (name === 'description' && value !== undefined) store.description = value
    else throw unusable(`'${id}': '${fact}' is none of default, read-only, weight=NUMBER, description=TEXT`)
  }
  return store
}

function unusable(reason: string): MoraineError {
  return new MoraineError('invalid', `stores: ${reason}`, { field: 'stores' })
}
