/** `image accept`: take an image that another project shares. */
import { defineImageVerb } from '../../image/image-verb.ts'
import { projectOption } from '../../image/share-options.ts'

export const verb = defineImageVerb({
  name: 'accept',
  summary: 'Take an image that another project shares',
  operands: 'IMAGE',
  about: 'The image is then in the list of the project.',
  examples: [['moraine image accept debian-13', "for the caller's project"]],
  options: projectOption,
  count: [1, 1],
  async run(call, { project }, [name = '']) {
    const { answerShare } = await import('../../image/answer-share.ts')
    await answerShare(call, name, project, 'accepted')
  },
})
