/** `ova extract`: the files of an appliance. */
import { failureFrom, usageFailure } from '../../failure.ts'
import { plainText } from '../../image/error-text.ts'
import { extractFiles } from '../../ova/extract.ts'
import { withPackage } from '../../ova/open.ts'
import { defineVerb } from '../../verb.ts'
import { quiet, rehearsal, trust, wantsJson } from '../common.ts'

export const verb = defineVerb({
  name: 'ova extract',
  summary: 'Take the files out of an appliance, comparing them with the manifest',
  operands: 'FILE [MEMBER]...',
  syntax: '',
  about:
    'Takes out everything, or the members named, also by their short names. Files come as they are stored: moraine convert FILE#disk1 makes an image of another format without this step. ' +
    'Each is compared with the digest of the manifest while it is written, and is not there when it differs. A package that is not whole is told of, and the exit code is 1. Nothing is written outside the target folder.',
  examples: [
    ['moraine ova extract box.ova --to box', 'everything'],
    ['moraine ova extract box.ova disk1', 'one disk, into the current folder'],
  ],
  options: {
    ...trust,
    ...rehearsal,
    to: {
      short: 'C',
      long: 'to',
      argument: 'FOLDER',
      help: 'Where to; made if need be. The current folder when not given.',
    },
    force: { long: 'force', help: 'Replace files that are there already.' },
    quiet,
  },
  async run(values, [name, ...names], context) {
    if (name === undefined) throw usageFailure('Expecting the name of an appliance')
    return await withPackage(context, name, async (opened) => {
      try {
        const request = { folder: values.to ?? '.', names, force: values.force }
        if (values.dryRun) {
          const { planExtraction } = await import('../../ova/extract.ts')
          const { printPlan } = await import('../../dry-run.ts')
          printPlan(context, await planExtraction(opened, request), wantsJson(values.output))
          return 0
        }
        const done = await extractFiles(context, opened, request)
        if (!values.quiet && done.names.length > 0) {
          context.out.write(`${done.names.map((each) => `extracted: ${plainText(each)}`).join('\n')}\n`)
        }
        for (const each of done.wrong) context.err.write(`${context.persona.name}: ${plainText(each)}\n`)
        return done.wrong.length === 0 ? 0 : 1
      } catch (error) {
        throw failureFrom(error, context.persona, `Could not extract '${name}': `)
      }
    })
  },
})
