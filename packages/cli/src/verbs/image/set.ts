/** `image set`: changes what is said about an image. */
import { usageFailure } from '../../failure.ts'
import { attributeOptions, fixedOptions, givenAttributes } from '../../image/attribute-options.ts'
import { defineImageVerb, jsonOutput } from '../../image/image-verb.ts'

const { id: _id, ...formatOptions } = fixedOptions

export const verb = defineImageVerb({
  name: 'set',
  summary: 'Change the name, properties, tags, visibility and protection of an image',
  operands: 'IMAGE',
  about: 'All changes are made at once, or none. Properties that are there already are replaced; tags are added.',
  examples: [
    ['moraine image set debian-13 --property os_distro=debian --tag blessed', 'a property and a tag'],
    ['moraine image set debian-13 --visibility public --protected', 'for everybody, and to stay'],
  ],
  options: {
    ...jsonOutput,
    ...attributeOptions,
    ...formatOptions,
    unprotected: { long: 'unprotected', help: 'It can be deleted again.' },
    unhidden: { long: 'unhidden', help: 'It is listed again.' },
  },
  count: [1, 1],
  async run({ session, context, json }, values, [name = '']) {
    if (values.protected && values.unprotected) throw usageFailure('--protected contradicts --unprotected')
    if (values.hidden && values.unhidden) throw usageFailure('--hidden contradicts --unhidden')
    const { findImage, patchImage, pointer } = await import('../../image/images.ts')
    const changes: Record<string, unknown> = {
      ...givenAttributes(values),
      ...(values.unprotected && { protected: false }),
      ...(values.unhidden && { os_hidden: false }),
      ...(values.diskFormat !== undefined && { disk_format: values.diskFormat }),
      ...(values.containerFormat !== undefined && { container_format: values.containerFormat }),
    }
    if (Object.keys(changes).length === 0 && values.tag.length === 0) throw usageFailure('Nothing to set')
    const image = await findImage(session, name)
    if (values.tag.length > 0) changes.tags = [...new Set([...image.tags, ...values.tag])]
    const steps = Object.entries(changes).map(([key, value]) => {
      return { op: Object.hasOwn(image, key) ? 'replace' : 'add', path: pointer(key), value } as const
    })
    const changed = await patchImage(session, image.id, steps)
    if (json) (await import('../../image/print.ts')).printJson(context.out, changed)
  },
})
