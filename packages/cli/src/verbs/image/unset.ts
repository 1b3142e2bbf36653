/** `image unset`: takes properties and tags away. */
import { Failure, usageFailure } from '../../failure.ts'
import { defineImageVerb, jsonOutput } from '../../image/image-verb.ts'

export const verb = defineImageVerb({
  name: 'unset',
  summary: 'Take properties and tags from an image',
  operands: 'IMAGE',
  about: 'All changes are made at once, or none.',
  examples: [['moraine image unset debian-13 --property os_distro --tag blessed', 'a property and a tag']],
  options: {
    ...jsonOutput,
    property: { long: 'property', argument: 'KEY', help: 'A property. May be given several times.', collect: true },
    tag: { long: 'tag', argument: 'TAG', help: 'A tag. May be given several times.', collect: true },
  },
  count: [1, 1],
  async run({ session, context, json }, { property, tag }, [name = '']) {
    if (property.length === 0 && tag.length === 0) throw usageFailure('Nothing to unset')
    const { baseAttributes, findImage, patchImage, pointer } = await import('../../image/images.ts')
    const image = await findImage(session, name)
    const noProperty = property.find((key) => !Object.hasOwn(image, key) || baseAttributes.has(key))
    if (noProperty !== undefined) throw new Failure(`the image has no property '${noProperty}'`)
    const noTag = tag.find((one) => !image.tags.includes(one))
    if (noTag !== undefined) throw new Failure(`the image has no tag '${noTag}'`)
    const removals = property.map((key) => ({ op: 'remove', path: pointer(key) }) as const)
    const tags = image.tags.filter((one) => !tag.includes(one))
    const steps = tag.length === 0 ? removals : [...removals, { op: 'replace', path: '/tags', value: tags } as const]
    const changed = await patchImage(session, image.id, steps)
    if (json) (await import('../../image/print.ts')).printJson(context.out, changed)
  },
})
