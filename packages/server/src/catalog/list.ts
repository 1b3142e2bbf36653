/** Builds the query of one page of images: filters, a total order, and "after this image" by comparing keys instead of counting rows. */
import {
  type Expression,
  type ExpressionBuilder,
  type Kysely,
  type RawBuilder,
  type SelectQueryBuilder,
  type SqlBool,
  sql,
} from 'kysely'
import type { Filter, ListQuery, SortKey, Viewer } from './catalog.ts'
import type { ImageTable, Tables } from './tables.ts'

type Builder = ExpressionBuilder<Tables, 'images'>

const operators = { eq: '=', neq: '!=', gt: '>', gte: '>=', lt: '<', lte: '<=' } as const

/** One filter as a condition. */
function condition(builder: Builder, filter: Filter): Expression<SqlBool> {
  switch (filter.on) {
    case 'text':
      return builder(`images.${filter.column}`, 'in', [...filter.values])
    case 'number':
      return builder(`images.${filter.column}`, operators[filter.compare], filter.value)
    case 'flag':
      return builder(`images.${filter.column}`, '=', filter.value ? 1 : 0)
    case 'tag':
      return builder.exists(
        builder
          .selectFrom('image_tags')
          .select('image_tags.value')
          .whereRef('image_tags.image_id', '=', 'images.id')
          .where('image_tags.value', '=', filter.value),
      )
    case 'property':
      return builder.exists(
        builder
          .selectFrom('image_properties')
          .select('image_properties.value')
          .whereRef('image_properties.image_id', '=', 'images.id')
          .where('image_properties.name', '=', filter.name)
          .where('image_properties.value', '=', filter.value),
      )
    case 'uncommon': {
      const other = builder('images.visibility', '!=', 'community')
      return filter.owner === null ? other : builder.or([builder('images.owner', '=', filter.owner), other])
    }
    case 'nothing':
      return sql<SqlBool>`1 = 0`
  }
}

/** The kinds of images that a viewer sees. A list asks for each kind by itself, so that it begins in the middle of an index and passes by nobody else's images. */
export function visibleKinds({ projectId, memberStatus }: Viewer): ((builder: Builder) => Expression<SqlBool>)[] {
  const kinds = ['public', 'community'].map(
    (visibility) => (builder: Builder) => builder('images.visibility', '=', visibility),
  )
  if (projectId === null) return kinds
  const shared = (builder: Builder) => {
    const members = builder
      .selectFrom('image_members')
      .select('image_members.image_id')
      .where('image_members.member', '=', projectId)
    return builder.and([
      // Not plainly: an index of visibilities would lead through everybody's shared images, where those of the members are few.
      sql<SqlBool>`coalesce(${sql.ref('images.visibility')}, '') = 'shared'`,
      builder(
        'images.id',
        'in',
        memberStatus === 'all' ? members : members.where('image_members.status', '=', memberStatus),
      ),
    ])
  }
  return [...kinds, (builder) => builder('images.owner', '=', projectId), shared]
}

/** The sort keys of a query with `id` as the last, which makes the order total. */
export function totalOrder(sort: ListQuery['sort']): ListQuery['sort'] {
  const kept = sort.filter(({ key }, index) => sort.findIndex((other) => other.key === key) === index)
  if (kept.some(({ key }) => key === 'id')) return kept
  return [...kept, { key: 'id', descending: sort.at(-1)?.descending ?? true }]
}

/** A key as it is compared: what is not set comes before everything else. */
function sortExpression(key: SortKey): RawBuilder<string | number> {
  const column = sql.ref(`images.${key}`)
  switch (key) {
    case 'name':
    case 'container_format':
    case 'disk_format':
      return sql`coalesce(${column}, '')`
    case 'size':
      return sql`coalesce(${column}, -1)`
    default:
      return sql`${column}`
  }
}

function sortValue(row: ImageTable, key: SortKey): string | number {
  return row[key] ?? (key === 'size' ? -1 : '')
}

/** "Comes after `marker`": for keys a, b, c it is a > A, or a = A and b > B, or a = A and b = B and c > C. The bound on the first key alone is
 *  implied, and lets the database begin in the middle of an index. */
function afterMarker(builder: Builder, order: ListQuery['sort'], marker: ImageTable): Expression<SqlBool> {
  const beyond = ({ key, descending }: ListQuery['sort'][number], orEqual = false) => {
    const operator = sql.raw(`${descending ? '<' : '>'}${orEqual ? '=' : ''}`)
    return sql<SqlBool>`${sortExpression(key)} ${operator} ${sortValue(marker, key)}`
  }
  const cases = order.map((entry, index) =>
    builder.and([
      ...order.slice(0, index).map(({ key }) => sql<SqlBool>`${sortExpression(key)} = ${sortValue(marker, key)}`),
      beyond(entry),
    ]),
  )
  const [leading] = order
  return leading === undefined ? builder.or(cases) : builder.and([beyond(leading, true), builder.or(cases)])
}

type Kind = ReturnType<typeof visibleKinds>[number]
type PageQuery<Row> = SelectQueryBuilder<Tables, 'images', Row>

/** The ids of a page of images, one more than its limit. @param kinds Whose images are seen; undefined for all. @param after The image behind which it begins. */
export function selectPage(
  db: Kysely<Tables>,
  { filters, sort, limit }: ListQuery,
  kinds: readonly Kind[] | undefined,
  after: ImageTable | undefined,
): PageQuery<{ id: string }> {
  const order = totalOrder(sort)
  const keys = order.map(({ key }) => `images.${key}` as const)
  const page = (kind?: Kind) => {
    let query = db.selectFrom('images').where('deleted_at', 'is', null)
    if (kind !== undefined) query = query.where((builder) => kind(builder))
    for (const filter of filters) query = query.where((builder) => condition(builder, filter))
    if (after !== undefined) query = query.where((builder) => afterMarker(builder, order, after))
    return inOrder(query.select(keys), order).limit(limit + 1)
  }
  const [first, ...others] = kinds ?? []
  if (first === undefined) return page().clearSelect().select('images.id')
  // A part of a union can have an order of its own only as a table of its own. An image of several kinds is one row: its keys are the same.
  const part = (kind: Kind) => db.selectFrom(page(kind).as('part')).selectAll()
  const union = others.reduce((all, kind) => all.union(part(kind)), part(first))
  const joined = db.selectFrom(union.as('images')) as unknown as PageQuery<Record<never, never>>
  return inOrder(joined.select('images.id'), order).limit(limit + 1)
}

/** Puts a query of images into an order. */
export function inOrder<Query extends Pick<PageQuery<unknown>, 'orderBy'>>(
  query: Query,
  order: ListQuery['sort'],
): Query {
  return order.reduce(
    (sorted, { key, descending }) => sorted.orderBy(sortExpression(key), descending ? 'desc' : 'asc') as never,
    query,
  )
}
