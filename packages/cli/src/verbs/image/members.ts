/** `image members`: who an image is shared with. */
import { defineImageVerb, jsonOutput } from '../../image/image-verb.ts'

export const verb = defineImageVerb({
  name: 'members',
  summary: 'List the projects that an image is shared with',
  operands: 'IMAGE',
  about: 'Shows each project, and whether it accepted the image.',
  examples: [['moraine image members debian-13', 'as a table']],
  options: jsonOutput,
  count: [1, 1],
  async run({ session, context, json }, _values, [name = '']) {
    const { findImageId, getList, imagePath } = await import('../../image/images.ts')
    const { printJson, printTable } = await import('../../image/print.ts')
    const members = await getList(session, imagePath(await findImageId(session, name), '/members'), 'members')
    if (json) return printJson(context.out, members)
    const columns = [
      { head: 'PROJECT', value: (member: (typeof members)[number]) => member.member_id },
      { head: 'STATUS', value: (member: (typeof members)[number]) => member.status },
      { head: 'SINCE', value: (member: (typeof members)[number]) => member.created_at },
    ]
    printTable(context.out, columns, members)
  },
})
