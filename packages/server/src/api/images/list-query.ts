/** Reads the query string of `GET /v2/images`: filters, order, page. */
import {
  type Comparison,
  type Filter,
  type ListQuery,
  type NumberColumn,
  type SortKey,
  sortKeys,
  type TextColumn,
} from '../../catalog/catalog.ts'
import { type MemberStatus, memberStatuses } from '../../catalog/members.ts'
import type { Config } from '../../config.ts'
import type { Caller } from '../../identity/caller.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'

const visibilities = ['community', 'public', 'private', 'shared', 'all']
/** Parameters that are no filters; the last of several counts. Nobody sees deleted images, whatever `deleted` says. */
const controls = new Set(['deleted', 'limit', 'marker', 'member_status', 'sort', 'sort_key', 'sort_dir', 'tag'])
const listColumns: readonly string[] = ['name', 'id', 'status', 'container_format', 'disk_format']
const plainColumns: readonly string[] = ['owner', 'checksum', 'os_hash_algo', 'os_hash_value']
const numberColumns: readonly string[] = ['size', 'virtual_size', 'min_ram', 'min_disk']

/** @throws HttpError 400. */
export function readListQuery(
  parameters: URLSearchParams,
  { config, policy }: Pick<Service, 'config' | 'policy'>,
  caller: Caller,
): ListQuery {
  const last = (name: string) => parameters.getAll(name).at(-1)
  const memberStatus = readMemberStatus(last('member_status') ?? 'accepted')
  const { projectId } = caller
  return {
    viewer: policy.isAdmin(caller) ? undefined : { projectId, memberStatus },
    filters: readFilters(parameters, projectId),
    sort: readSort(parameters),
    limit: readLimit(last('limit'), config),
    marker: last('marker'),
  }
}

function readMemberStatus(written: string): MemberStatus | 'all' {
  const known = [...memberStatuses, 'all' as const].find((status) => status === written)
  if (known === undefined) throw new HttpError(400, `Invalid status: ${written}`)
  return known
}

/** @throws HttpError 400. */
export function readLimit(written: string | undefined, config: Config): number {
  return written === undefined ? config.listLimit : Math.min(readCount(written), config.listLimitMax)
}

/** @throws HttpError 400. */
export function readCount(written: string): number {
  if (!/^\s*[+-]?\d+\s*$/.test(written)) throw new HttpError(400, 'limit param must be an integer')
  const limit = Number(written)
  if (limit < 0) throw new HttpError(400, 'limit param must be positive')
  return limit
}

function readFilters(parameters: URLSearchParams, projectId: string | null): Filter[] {
  const given = new Map([...parameters].filter(([name]) => !controls.has(name)))
  const filters: Filter[] = parameters.getAll('tag').map((value) => ({ on: 'tag', value: value.trim() }))
  filters.push(...readVisibility(given.get('visibility'), projectId))
  filters.push({ on: 'flag', column: 'os_hidden', value: readFlag('os_hidden', given.get('os_hidden') ?? 'false') })
  for (const name of ['visibility', 'os_hidden']) given.delete(name)
  for (const [name, value] of given) filters.push(readFilter(name, value))
  return filters
}

/** Without a visibility, images of the community stay out, but for one's own: there are too many of them in a cloud. */
function readVisibility(value: string | undefined, projectId: string | null): Filter[] {
  if (value === undefined || value === '') return [{ on: 'uncommon', owner: projectId }]
  if (!visibilities.includes(value)) throw new HttpError(400, `Invalid visibility value: ${value}`)
  return value === 'all' ? [] : [{ on: 'text', column: 'visibility', values: [value] }]
}

function readFlag(name: string, value: string): boolean {
  const lower = value.toLowerCase()
  if (lower === 'true' || lower === 'false') return lower === 'true'
  throw new HttpError(400, `Invalid value '${value}' for '${name}' filter. Valid values are 'true' or 'false'.`)
}

function readFilter(name: string, value: string): Filter {
  if (name === 'changes-since') {
    throw new HttpError(400, 'The "changes-since" filter is no longer available on v2.')
  }
  if (name === 'protected') return { on: 'flag', column: 'protected', value: readFlag(name, value) }
  if (name === 'created_at' || name === 'updated_at') return readTime(name, value)
  if (listColumns.includes(name)) return readText(name as TextColumn, value)
  if (plainColumns.includes(name)) return { on: 'text', column: name as TextColumn, values: [value] }
  const range = /^(.+)_(min|max)$/.exec(name)
  const column = range?.[1] ?? name
  if (!numberColumns.includes(column)) return { on: 'property', name, value }
  const number = /^\s*[+-]?\d+\s*$/.test(value) ? Number(value) : undefined
  if (range === null) {
    return number === undefined
      ? { on: 'nothing' }
      : { on: 'number', column: column as NumberColumn, compare: 'eq', value: number }
  }
  if (number === undefined) throw new HttpError(400, 'Unable to filter on a range with a non-numeric value.')
  return { on: 'number', column: column as NumberColumn, compare: range[2] === 'min' ? 'gte' : 'lte', value: number }
}

function readText(column: TextColumn, expression: string): Filter {
  const at = expression.indexOf(':')
  const operator = at < 0 ? 'eq' : expression.slice(0, at)
  const value = expression.slice(at + 1)
  if (operator === 'eq') return { on: 'text', column, values: [value] }
  if (operator === 'in') return { on: 'text', column, values: splitList(value) }
  throw new HttpError(400, `Unable to filter by unknown operator '${operator}'.`)
}

/** Splits at commas, but for those between double quotes. A quote begins and ends a value; `\"` is a quote in it. */
function splitList(value: string): string[] {
  const wrong = (what: string) => new HttpError(400, `Invalid filter value ${value}. ${what}`)
  let isOpen = false
  for (const { index } of value.matchAll(/(?<!\\)"/g)) {
    if (isOpen && index + 1 < value.length && value[index + 1] !== ',') {
      throw wrong('There is no comma after closing quotation mark.')
    }
    if (!isOpen && index > 0 && value[index - 1] !== ',') {
      throw wrong('There is no comma before opening quotation mark.')
    }
    isOpen = !isOpen
  }
  if (isOpen) throw wrong('The quote is not closed.')
  return [...value.matchAll(/"((?:[^"\\]|\\.)*)",?|([^,]+),?|,/g)].map(([, quoted, bare]) => quoted ?? bare ?? '')
}

const comparisons: readonly string[] = ['eq', 'neq', 'gt', 'gte', 'lt', 'lte'] satisfies Comparison[]

function readTime(column: 'created_at' | 'updated_at', expression: string): Filter {
  const at = expression.indexOf(':')
  const isBare = at < 0 || parseTime(expression) !== undefined
  const operator = isBare ? 'eq' : expression.slice(0, at)
  const value = parseTime(isBare ? expression : expression.slice(at + 1))
  if (value === undefined) {
    throw new HttpError(400, `Bad "${column}" query filter format. Use ISO 8601 DateTime notation.`)
  }
  if (!comparisons.includes(operator)) throw new HttpError(400, 'Unable to filter on a unknown operator.')
  return { on: 'number', column, compare: operator as Comparison, value }
}

/** ISO 8601 as seconds since 1970, in UTC when no zone is named. */
function parseTime(text: string): number | undefined {
  const pattern = /^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)(Z|[+-]\d{2}(?::?\d{2})?)?)?$/i
  const match = pattern.exec(text.trim())
  if (match === null) return undefined
  const [, date = '', time = '00:00:00', zone = 'Z'] = match
  const offset = /^([+-]\d{2}):?(\d{2})?$/.exec(zone)
  const written = `${date}T${time.replace(',', '.')}${offset === null ? 'Z' : `${offset[1]}:${offset[2] ?? '00'}`}`
  const milliseconds = Date.parse(written)
  return Number.isNaN(milliseconds) ? undefined : milliseconds / 1000
}

/** Either `sort=name:asc,size`, or `sort_key` and `sort_dir` in pairs. Age and id are always added, so that pages do not overlap. */
function readSort(parameters: URLSearchParams): ListQuery['sort'] {
  const written = parameters.getAll('sort').at(-1)
  const keys = parameters.getAll('sort_key')
  const directions = parameters.getAll('sort_dir')
  if (written !== undefined && keys.length + directions.length > 0) {
    throw new HttpError(400, 'Old and new sorting syntax cannot be combined')
  }
  const sort: ListQuery['sort'][number][] = []
  if (written !== undefined) {
    for (const part of written.trim().split(',')) {
      const [key = '', direction = ''] = part.split(/:(.*)/s)
      sort.push({ key: sortKey(key), descending: isDescending(direction === '' ? 'desc' : direction) })
    }
  } else {
    if (directions.length > 1 && directions.length !== Math.max(keys.length, 1)) {
      throw new HttpError(400, 'Number of sort dirs does not match the number of sort keys')
    }
    for (const [index, key] of (keys.length === 0 ? ['created_at'] : keys).entries()) {
      const direction = directions[directions.length > 1 ? index : 0]
      sort.push({ key: sortKey(key), descending: isDescending(direction ?? 'desc') })
    }
  }
  const descending = sort.length === 1 || directions.length === 1 ? (sort[0]?.descending ?? true) : true
  return [...sort, { key: 'created_at', descending }, { key: 'id', descending }]
}

function sortKey(written: string): SortKey {
  const key = sortKeys.find((known) => known === written.trim())
  if (key !== undefined) return key
  throw new HttpError(
    400,
    `Invalid sort key: ${written.trim()}. It must be one of the following: ${sortKeys.join(', ')}.`,
  )
}

function isDescending(written: string): boolean {
  const direction = written.trim()
  if (direction === 'asc' || direction === 'desc') return direction === 'desc'
  throw new HttpError(400, `Invalid sort direction: ${direction}`)
}
