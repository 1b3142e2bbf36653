/** `image create`: an image without data. */
import { attributeOptions, fixedOptions, newImageDocument } from '../../image/attribute-options.ts'
import { defineImageVerb, jsonOutput } from '../../image/image-verb.ts'

export const verb = defineImageVerb({
  name: 'create',
  summary: 'Create an image without data',
  operands: '[NAME]',
  about:
    "The image is 'queued' until its data comes: by 'moraine image import', or from another client. To create an image from a file, see 'moraine image push'.",
  examples: [['moraine image create debian-13 --disk-format qcow2', 'to be filled by an import']],
  options: { ...jsonOutput, ...attributeOptions, ...fixedOptions },
  count: [0, 1],
  async run({ session, context, json }, values, [name]) {
    const { createImage } = await import('../../image/images.ts')
    const { printImage, printJson } = await import('../../image/print.ts')
    const image = await createImage(session, newImageDocument(values, { name }))
    if (json) printJson(context.out, image)
    else printImage(context.out, image)
  },
})
