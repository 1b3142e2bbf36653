/** `iso list`: the files of an ISO 9660 image. */
import { usageFailure } from '../../failure.ts'
import { entryJson, entryLine } from '../../iso/describe.ts'
import { namesOption, withIso } from '../../iso/open.ts'
import { Selection } from '../../iso/select.ts'
import { defineVerb } from '../../verb.ts'
import { format, outputFormat, trust, wantsJson } from '../common.ts'

export const verb = defineVerb({
  name: 'iso list',
  summary: 'List the files of an ISO 9660 image',
  operands: 'FILE [PATH]...',
  syntax: '',
  about:
    'Lists everything, or what the paths name: files, directories with all that is in them, and patterns (*, ?, [...], and ** for any number of directories). ' +
    'Only the directories of the image are read. Times are UTC.',
  examples: [
    ['moraine iso list debian.iso', 'everything'],
    ['moraine iso list --output=json debian.iso "**/*.efi"', 'some of it, for programs: with the places of the data'],
  ],
  options: { ...trust, format: { ...format, long: 'format' }, names: namesOption, output: outputFormat },
  async run(values, [name, ...paths], context) {
    if (name === undefined) throw usageFailure('Expecting the name of an image')
    const json = wantsJson(values.output)
    const selection = new Selection(paths)
    await withIso(context, { name, format: values.format, names: values.names }, async (files) => {
      let separator = '[\n'
      for await (const entry of files.walk()) {
        if (!selection.has(entry)) continue
        if (!json) context.out.write(entryLine(entry))
        else context.out.write(`${separator}    ${JSON.stringify(entryJson(entry))}`)
        separator = ',\n'
      }
      if (json) context.out.write(separator === '[\n' ? '[]\n' : '\n]\n')
    })
    selection.complain(name)
    return 0
  },
})
