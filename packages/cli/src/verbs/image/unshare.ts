/** `image unshare`: takes an image from another project. */
import { defineImageVerb } from '../../image/image-verb.ts'

export const verb = defineImageVerb({
  name: 'unshare',
  summary: 'Take an image from other projects again',
  operands: 'IMAGE PROJECT...',
  about: "PROJECT is a project's id.",
  examples: [['moraine image unshare debian-13 0f1e2d3c4b5a69788796a5b4c3d2e1f0', 'from one project']],
  options: {},
  count: [2, Number.POSITIVE_INFINITY],
  async run({ session }, _values, [name = '', ...projects]) {
    const { done, findImageId, imagePath } = await import('../../image/images.ts')
    const id = await findImageId(session, name)
    for (const member of projects)
      await done(session, 'DELETE', imagePath(id, `/members/${encodeURIComponent(member)}`))
  },
})
