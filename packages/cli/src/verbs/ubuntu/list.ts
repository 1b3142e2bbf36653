/** `ubuntu list`: what there is. */
import { catalogueOptions, listOptions } from '../../catalogue/options.ts'
import { usageFailure } from '../../failure.ts'
import { defineVerb } from '../../verb.ts'

export const verb = defineVerb({
  name: 'ubuntu list',
  summary: "List Ubuntu's cloud images",
  operands: '[RELEASE]',
  syntax: '',
  about:
    'The newest build of each release that is supported, for one processor, as a disk; the filters say otherwise. A release is a codename (noble), a version (24.04), lts or latest.',
  examples: [
    ['moraine ubuntu list', 'what is supported'],
    ['moraine ubuntu list noble --all', 'every build of one release'],
    ['moraine ubuntu list lts --arch all --kind squashfs --output=json', 'for programs'],
  ],
  options: { ...catalogueOptions, ...listOptions },
  async run(values, operands, context) {
    const [release, surplus] = operands
    if (surplus !== undefined) throw usageFailure(`Unexpected argument: ${surplus}`)
    const { printImages } = await import('../../catalogue/list.ts')
    return await printImages(context, 'ubuntu', release, values)
  },
})
