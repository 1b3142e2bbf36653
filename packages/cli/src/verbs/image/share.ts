/** `image share`: lets another project have an image. */
import { defineImageVerb } from '../../image/image-verb.ts'

export const verb = defineImageVerb({
  name: 'share',
  summary: 'Let other projects use an image',
  operands: 'IMAGE PROJECT...',
  about:
    "PROJECT is a project's id. The image must be of visibility 'shared'. It is in that project's list once somebody there accepts it ('moraine image accept').",
  examples: [['moraine image share debian-13 0f1e2d3c4b5a69788796a5b4c3d2e1f0', 'with one project']],
  options: {},
  count: [2, Number.POSITIVE_INFINITY],
  async run({ session }, _values, [name = '', ...projects]) {
    const { done, findImageId, imagePath } = await import('../../image/images.ts')
    const id = await findImageId(session, name)
    for (const member of projects) await done(session, 'POST', imagePath(id, '/members'), { member })
  },
})
