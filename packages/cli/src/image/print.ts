/** Tables and lists for people. */
import { general, sizeText } from '../output/size.ts'
import type { TextOutput } from '../output/streams.ts'
import type { Mapping } from './clouds.ts'
import { plainText } from './error-text.ts'
import { baseAttributes, type ImageDocument } from './images.ts'

/** One column: its head and what stands in it. */
export interface Column<Row> {
  head: string
  value(row: Row): unknown
  right?: true
}

/** Writes rows under their heads, each column as wide as it must be. */
export function printTable<Row>(out: TextOutput, columns: readonly Column<Row>[], rows: readonly Row[]): void {
  const cells = rows.map((row) => columns.map((column) => cellText(column.value(row))))
  const all = [columns.map(({ head }) => head), ...cells]
  const widths = columns.map((_, index) => Math.max(...all.map((line) => line[index]?.length ?? 0)))
  for (const line of all) {
    const padded = line.map((cell, index) => {
      const width = widths[index] ?? 0
      return columns[index]?.right === true ? cell.padStart(width) : cell.padEnd(width)
    })
    out.write(`${padded.join('  ').trimEnd()}\n`)
  }
}

/** Writes names and values, one a line. */
export function printFields(out: TextOutput, fields: readonly (readonly [name: string, value: unknown])[]): void {
  const width = Math.max(...fields.map(([name]) => name.length)) + 1
  for (const [name, value] of fields) out.write(`${`${plainText(name)}:`.padEnd(width)} ${cellText(value)}\n`)
}

/** Writes a document for programs. */
export function printJson(out: TextOutput, value: unknown): void {
  out.write(`${JSON.stringify(value, undefined, 4)}\n`)
}

function cellText(value: unknown): string {
  if (value === null || value === undefined) return '-'
  if (Array.isArray(value)) return value.length === 0 ? '-' : plainText(value.join(', '))
  if (typeof value === 'object') return plainText(JSON.stringify(value))
  return plainText(String(value))
}

/** A size as people read it. */
export function sizeOrNothing(size: unknown): string | undefined {
  return typeof size === 'number' ? sizeText(size) : undefined
}

function sizeWithBytes(size: unknown): string | undefined {
  return typeof size === 'number' ? `${sizeText(size)} (${general(size, 17)} bytes)` : undefined
}

/** The columns of a list of images. */
export function imageColumns(long: boolean): Column<ImageDocument>[] {
  const columns: Column<ImageDocument>[] = [
    { head: 'ID', value: ({ id }) => id },
    { head: 'NAME', value: ({ name }) => name },
    { head: 'STATUS', value: ({ status }) => status },
    { head: 'SIZE', value: ({ size }) => sizeOrNothing(size), right: true },
    { head: 'FORMAT', value: ({ disk_format: format }) => format },
    { head: 'VISIBILITY', value: ({ visibility }) => visibility },
  ]
  if (!long) return columns
  return [
    ...columns,
    { head: 'CONTAINER', value: (image) => image.container_format },
    { head: 'PROTECTED', value: (image) => (image.protected === true ? 'yes' : 'no') },
    { head: 'OWNER', value: (image) => image.owner },
    { head: 'CREATED', value: (image) => image.created_at },
    { head: 'TAGS', value: ({ tags }) => tags },
  ]
}

/** Writes one image: what every image has, then its own properties. */
export function printImage(out: TextOutput, image: ImageDocument): void {
  const document: Mapping = { ...image }
  const known = [
    'id',
    'name',
    'status',
    'size',
    'virtual_size',
    'disk_format',
    'container_format',
    'visibility',
    'owner',
    'protected',
    'os_hidden',
  ]
  const further = [
    'min_disk',
    'min_ram',
    'created_at',
    'updated_at',
    'checksum',
    'os_hash_algo',
    'os_hash_value',
    'stores',
    'tags',
  ]
  const shown = [...known, ...further].filter((name) => document[name] !== undefined)
  const own = Object.keys(document)
    .filter((name) => !baseAttributes.has(name))
    .sort()
  printFields(out, [
    ...shown.map((name) => [name.replaceAll('_', ' '), fieldValue(name, document[name])] as const),
    ...own.map((name) => [name, document[name]] as const),
  ])
}

function fieldValue(name: string, value: unknown): unknown {
  if (name === 'size' || name === 'virtual_size') return sizeWithBytes(value)
  if (name === 'min_disk') return `${value} GB`
  if (name === 'min_ram') return `${value} MB`
  return typeof value === 'boolean' ? (value ? 'yes' : 'no') : value
}
