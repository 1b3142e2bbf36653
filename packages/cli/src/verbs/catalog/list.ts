/** `catalog list`: catalogues, or the images of one. */
import { catalogueOptions, listOptions } from '../../catalogue/options.ts'
import { usageFailure } from '../../failure.ts'
import { defineVerb } from '../../verb.ts'
import { wantsJson } from '../common.ts'

export const verb = defineVerb({
  name: 'catalog list',
  summary: 'List the catalogues, or the images of one',
  operands: '[DISTRIBUTION[:RELEASE]]',
  syntax: '',
  about:
    'Without a distribution: the catalogues that are known. With one: the newest build of each of its releases that are supported, for one processor, as a disk; the filters say otherwise.',
  examples: [
    ['moraine catalog list', 'the catalogues'],
    ['moraine catalog list fedora:43 --arch all', 'one release, for every processor'],
    ['moraine catalog list rocky --all --output=json', 'everything, for programs'],
  ],
  options: { ...catalogueOptions, ...listOptions },
  async run(values, operands, context) {
    const [reference, surplus] = operands
    if (surplus !== undefined) throw usageFailure(`Unexpected argument: ${surplus}`)
    const { printCatalogues, printImages } = await import('../../catalogue/list.ts')
    if (reference === undefined) {
      printCatalogues(context, wantsJson(values.output))
      return 0
    }
    const { readReference } = await import('../../catalogue/open.ts')
    const { distribution, release } = readReference(reference)
    return await printImages(context, distribution, release, values)
  },
})
