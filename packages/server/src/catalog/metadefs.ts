/** The metadata definitions: namespaces that say which properties and tags images and other things may have, and what the service asks of the catalog
 *  about them. Nothing here changes what an image may carry; it is what dashboards and people read. */
import type { JsonObject } from './json.ts'

export type NamespaceVisibility = 'public' | 'private'

/** One namespace. Times are seconds since 1970. */
export interface Namespace {
  readonly name: string
  displayName: string | null
  description: string | null
  visibility: NamespaceVisibility
  /** Neither it nor anything in it can be deleted. */
  protected: boolean
  owner: string | null
  readonly createdAt: number
  readonly updatedAt: number
}

/** What a caller says about a namespace. */
export type NamespaceFacts = Omit<Namespace, 'createdAt' | 'updatedAt'>

/** What a namespace is made of. `resource_types` are its associations: kinds of things that its properties are for. */
export const partKinds = ['objects', 'properties', 'tags', 'resource_types'] as const
export type PartKind = (typeof partKinds)[number]

/** A part as a caller gives it. The name is the only one of its kind in the namespace. */
export interface NewPart {
  kind: PartKind
  name: string
  /** All else that the API shows of it: an object's description, required names and properties; a property's schema; an association's prefix and
   *  target; nothing for a tag. */
  definition: JsonObject
}

export interface Part extends NewPart {
  readonly createdAt: number
  readonly updatedAt: number
}

/** A kind of things, known since a namespace was first associated with it. */
export interface ResourceType {
  name: string
  createdAt: number
  updatedAt: number
}

/** Keys that namespaces can be sorted by. */
export const namespaceSortKeys = [
  'namespace',
  'display_name',
  'description',
  'visibility',
  'protected',
  'owner',
  'created_at',
  'updated_at',
  'id',
] as const
export type NamespaceSortKey = (typeof namespaceSortKeys)[number]

/** Keys that tags can be sorted by. */
export const tagSortKeys = ['name', 'created_at', 'updated_at', 'id'] as const
export type TagSortKey = (typeof tagSortKeys)[number]

/** One page of a list. Age is always the next key, and the order of creation the last, so that the order is total. */
export interface PageQuery<Key extends string> {
  sort: Key
  descending: boolean
  /** Undefined: no bound. */
  limit: number | undefined
  /** The name after which the page begins. */
  marker: string | undefined
}

export interface NamespaceQuery extends PageQuery<NamespaceSortKey> {
  /** Sees public namespaces and its own; undefined sees all. */
  viewer: { projectId: string | null } | undefined
  visibility: string | undefined
  /** Only namespaces that are associated with one of these. */
  resourceTypes: readonly string[] | undefined
}

export interface NamespacePage {
  namespaces: { namespace: Namespace; associations: Part[] }[]
  /** Whether more namespaces follow. */
  more: boolean
}

/** Where the definitions are kept. Each call is one transaction; undefined as an answer means that there is no such namespace.
 *  What `allowed` throws reaches the caller, and everything stays as it was. */
export interface Metadefs {
  /** @throws CatalogError `missing` for a marker that is no namespace. */
  list(query: NamespaceQuery): Promise<NamespacePage>
  get(namespace: string): Promise<Namespace | undefined>
  /** Makes a namespace with all its parts, or nothing. @throws CatalogError `taken`. */
  create(facts: NamespaceFacts, parts: readonly NewPart[]): Promise<Namespace>
  /** Puts new facts in the place of the old; the parts stay. @throws CatalogError `taken`. */
  replace(namespace: string, facts: NamespaceFacts): Promise<Namespace | undefined>
  /** Deletes a namespace and its parts. */
  remove(namespace: string, allowed: (namespace: Namespace) => void): Promise<Namespace | undefined>
  /** The parts of some kinds, in the order in which they were added, objects by name. */
  parts(namespace: string, kinds: readonly PartKind[]): Promise<Part[] | undefined>
  /** Tags, as a page. @throws CatalogError `missing` for a marker that is no tag. */
  tags(namespace: string, query: PageQuery<TagSortKey>): Promise<Part[] | undefined>
  /** One part; `part` is undefined when the namespace has none of that name. */
  part(namespace: string, kind: PartKind, name: string): Promise<{ part: Part | undefined } | undefined>
  /** Adds parts, all or none. @param anew Takes away the parts of the same kinds that are there first. @throws CatalogError `taken`. */
  addParts(namespace: string, parts: readonly NewPart[], anew: boolean): Promise<Part[] | undefined>
  /** Puts a part in the place of another; the name may change. @throws CatalogError `taken`. */
  replacePart(namespace: string, name: string, part: NewPart): Promise<{ part: Part | undefined } | undefined>
  removePart(
    namespace: string,
    kind: PartKind,
    name: string,
    allowed: (namespace: Namespace) => void,
  ): Promise<{ part: Part | undefined } | undefined>
  /** Takes all parts of a kind away. */
  clearParts(namespace: string, kind: PartKind, allowed: (namespace: Namespace) => void): Promise<Namespace | undefined>
  /** All resource types, the oldest first. */
  resourceTypes(): Promise<ResourceType[]>
}
