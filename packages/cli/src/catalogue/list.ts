/** Lists of catalogues, and of the images of one. */
import { type CloudImage, catalogues, listImages } from '@moraine/cloud-images'
import { printJson, printTable, sizeOrNothing } from '../image/print.ts'
import type { Context, Values } from '../verb.ts'
import { wantsJson } from '../verbs/common.ts'
import { type CatalogueValues, queryOf, withCatalogue } from './open.ts'
import type { listOptions } from './options.ts'

export type ListValues = CatalogueValues & Values<typeof listOptions>

/** Prints the images of a catalogue. */
export async function printImages(
  context: Context,
  distribution: string,
  release: string | undefined,
  values: ListValues,
): Promise<number> {
  const json = wantsJson(values.output)
  const images = await withCatalogue(context, distribution, values, (reading) =>
    listImages(reading, queryOf(values, release), values.all || values.date !== undefined ? 'all' : 'newest'),
  )
  // Who names a release knows what it is.
  const shown = values.all || release !== undefined ? images : images.filter(({ supported }) => supported)
  if (json) printJson(context.out, shown.map(documentOf))
  else printTable(context.out, columns, shown)
  return 0
}

const columns = [
  { head: 'RELEASE', value: ({ release }: CloudImage) => release },
  { head: 'VERSION', value: ({ title }: CloudImage) => title },
  { head: 'ARCH', value: ({ architecture }: CloudImage) => architecture },
  { head: 'KIND', value: ({ kind }: CloudImage) => kind },
  { head: 'SERIAL', value: ({ serial }: CloudImage) => serial },
  { head: 'SIZE', value: ({ size }: CloudImage) => sizeOrNothing(size), right: true },
  {
    head: 'SUPPORT',
    value: ({ supported, eol }: CloudImage) => `${supported ? '' : 'ended '}${eol ?? ''}` || undefined,
  },
] as const

function documentOf(image: CloudImage): object {
  const { distribution, stream, release, version, title, lts, supported, eol, aliases, architecture, kind } = image
  const { serial, label, name, path, size, algorithm, digest, product } = image
  return {
    ...{ distribution, stream, release, version, title, lts, supported, eol: eol ?? null, aliases, architecture, kind },
    ...{ serial, label, name, path, size: size ?? null, [algorithm]: digest, product },
  }
}

/** Prints which catalogues there are. */
export function printCatalogues({ out }: Context, json: boolean): void {
  const rows = catalogues.map(({ name, title, base, keyring, streams }) => ({
    ...{ name, title, url: base, streams: Object.keys(streams), keys: keyring !== undefined },
  }))
  if (json) {
    printJson(out, rows)
    return
  }
  printTable(
    out,
    [
      { head: 'NAME', value: ({ name }) => name },
      { head: 'TITLE', value: ({ title }) => title },
      { head: 'STREAMS', value: ({ streams }) => streams },
      { head: 'KEYS', value: ({ keys }) => (keys ? 'shipped' : 'to be given with --keyring') },
      { head: 'URL', value: ({ url }) => url },
    ],
    rows,
  )
}
