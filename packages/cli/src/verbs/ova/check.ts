/** `ova check`: whether an appliance keeps the rules, and is what its manifest says. */
import { checkPackage, type Inspection, inspectSource, type PackageFinding } from '@moraine/engine'
import { nodeSigning } from '@moraine/engine/node'
import { usageFailure } from '../../failure.ts'
import { plainText } from '../../image/error-text.ts'
import { toPrettyJson } from '../../output/json.ts'
import { withPackage } from '../../ova/open.ts'
import { defineVerb } from '../../verb.ts'
import { outputFormat, quiet, trust, wantsJson } from '../common.ts'

const exitCodes = { sound: 0, errors: 2, warnings: 3 }

export const verb = defineVerb({
  name: 'ova check',
  summary: 'Check an appliance: rules, references, digests, signature, images',
  operands: 'FILE',
  syntax: '',
  about:
    'Checks a package against DSP0243: the descriptor comes first and the manifest where it may, references are resolved and ids unique, capacities are numbers, files are there and as large as is said, ' +
    'every digest and the signature are right, and the images are safe to open (as moraine inspect says). Each byte is read once. Every finding has the name of its rule. ' +
    'Who signed is told, not judged: no authority is asked. Exit codes: 0 nothing worse than a note, 1 it could not be read, 2 errors, 3 warnings only.',
  examples: [
    ['moraine ova check box.ova', 'for people'],
    ['moraine ova check --output=json box.ova', 'for programs'],
  ],
  options: { ...trust, output: outputFormat, quiet },
  async run(values, [name, ...more], context) {
    if (name === undefined || more.length > 0) throw usageFailure('Expecting the name of one appliance')
    const json = wantsJson(values.output)
    return await withPackage(context, name, async (opened) => {
      const { findings, leftOut, errors, warnings } = await checkPackage(opened, {
        signing: nodeSigning,
        signal: context.signal,
        async inspect(source) {
          return look(await inspectSource(source, { signal: context.signal }))
        },
      })
      if (json)
        context.out.write(
          `${toPrettyJson({ filename: name, errors, warnings, findings: findings.map((finding) => ({ ...finding })), 'left-out': leftOut })}\n`,
        )
      else if (!values.quiet) {
        for (const finding of findings) context.out.write(`${findingLine(finding)}\n`)
        if (leftOut > 0) context.out.write(`… and ${leftOut} more\n`)
        context.out.write(`${summary(errors, warnings)}\n`)
      }
      if (errors > 0) return exitCodes.errors
      return warnings > 0 ? exitCodes.warnings : exitCodes.sound
    })
  },
})

function findingLine({ rule, severity, message, line }: PackageFinding): string {
  return plainText(`${severity} ${rule}: ${message}${line === undefined ? '' : ` (line ${line})`}`)
}

function summary(errors: number, warnings: number): string {
  const count = (number: number, word: string) => `${number} ${word}${number === 1 ? '' : 's'}`
  if (errors + warnings === 0) return 'No errors were found.'
  return `${count(errors, 'error')} and ${count(warnings, 'warning')} were found.`
}

function look({ format, virtualSize, findings, checks, verdict }: Inspection) {
  const failed = [...findings.flatMap((finding) => finding.checks), ...checks].filter(
    (check) => check.verdict === 'failed',
  )
  return {
    format,
    virtualSize,
    problems: verdict === 'failed' ? failed.map(({ name, sentence }) => `${name}: ${sentence}`) : [],
  }
}
