/** `image show`: one image. */
import { defineImageVerb, jsonOutput } from '../../image/image-verb.ts'

export const verb = defineImageVerb({
  name: 'show',
  summary: 'Show what is known of an image',
  operands: 'IMAGE',
  about:
    'IMAGE is an id or a name, here and in all commands. A name that several images have is an error which lists their ids.',
  examples: [['moraine image show --output=json debian-13', 'the document, for programs']],
  options: jsonOutput,
  count: [1, 1],
  async run({ session, context, json }, _values, [name = '']) {
    const { findImage } = await import('../../image/images.ts')
    const { printImage, printJson } = await import('../../image/print.ts')
    const image = await findImage(session, name)
    if (json) printJson(context.out, image)
    else printImage(context.out, image)
  },
})
