/** `inspect`: what files are, and whether they may be taken from a stranger. */
import {
  type Check,
  type Finding,
  type Inspection,
  inspectSource,
  isMoraineError,
  StreamInspector,
} from '@moraine/engine'
import { Failure, failureFrom, usageFailure } from '../failure.ts'
import { openPlain } from '../open.ts'
import { sizeText } from '../output/size.ts'
import { type Context, defineVerb } from '../verb.ts'
import { outputFormat, wantsJson } from './common.ts'

const exitCodes = { safe: 0, failed: 1, unsafe: 2 }
const words = { passed: 'safe', failed: 'not safe', unknown: 'not known to be safe' }

export const verb = defineVerb({
  name: 'inspect',
  summary: 'Show what files are, and whether it is safe to take them from a stranger',
  operands: 'FILE...',
  syntax: '',
  about:
    'Recognises disk images, volumes, archives and compressed files by their content, whatever their names, and checks what makes them dangerous: names of ' +
    'other files (backing file, data file, extents, parent), unknown features, headers and footers that contradict themselves or each other, tables beyond ' +
    'bounds, two formats in one file. No other file is opened, and at most 2 MiB of each are read; - reads standard input to its end. ' +
    'Exit codes: 0 every file is safe, 1 a file could not be read, 2 a file is not safe: a check failed, or could not be made (unknown).',
  examples: [
    ['moraine inspect upload.img', 'one file, for people'],
    ['moraine inspect --output=json *.vmdk', 'several, as a list for programs'],
    ['curl -s https://example.org/disk.qcow2 | moraine inspect -', 'as it comes'],
  ],
  options: { output: outputFormat },
  async run(values, operands, context) {
    if (operands.length === 0) throw usageFailure('Expecting at least one file name')
    const json = wantsJson(values.output)
    const inspected: ({ filename: string } & Inspection)[] = []
    let code = exitCodes.safe
    for (const filename of operands) {
      try {
        const inspection = await inspectFile(context, filename)
        inspected.push({ filename, ...inspection })
        if (inspection.verdict !== 'passed') code = code === exitCodes.failed ? code : exitCodes.unsafe
        if (!json) context.out.write(humanText(filename, inspection))
      } catch (error) {
        const failure = failureFrom(error, context.persona, `Could not inspect '${filename}': `)
        if (!(failure instanceof Failure) || isMoraineError(error, 'cancelled')) throw failure
        for (const message of failure.messages) context.report(message)
        code = exitCodes.failed
      }
    }
    if (json) context.out.write(`${JSON.stringify(inspected, undefined, 4)}\n`)
    return code
  },
})

async function inspectFile(context: Context, filename: string): Promise<Inspection> {
  const place = context.persona.readName(filename)
  if (place.kind === 'stdio') {
    const inspector = new StreamInspector()
    for await (const chunk of process.stdin) inspector.push(chunk as Buffer)
    return inspector.end()
  }
  const source = await openPlain(context, filename)
  let inspection: Inspection
  try {
    inspection = await inspectSource(source, { signal: context.signal })
  } finally {
    await source.close()
  }
  const appliance = inspection.findings.find(({ format }) => format === 'ova' || format === 'ovf')
  if (appliance !== undefined) await (await import('../ova/inspect.ts')).addMachines(context, filename, appliance)
  return inspection
}

function humanText(filename: string, inspection: Inspection): string {
  return `${[`${filename}: ${title(inspection)}`, ...detailLines(inspection)].join('\n')}\n`
}

function title({ format, virtualSize, verdict }: Inspection): string {
  const size = virtualSize === undefined ? '' : `, ${sizeText(virtualSize)} (${virtualSize} bytes)`
  return `${format}${size}: ${words[verdict]}`
}

function detailLines({ findings, checks }: Inspection): string[] {
  return [...findings.flatMap(findingLines), ...checks.map(checkLine)].map((line) => `  ${line}`)
}

function findingLines({ format, subformat, evidence, facts, checks, inner }: Finding): string[] {
  const named = Object.entries(facts).map(
    ([fact, value]) => `  ${fact}: ${typeof value === 'string' ? value : JSON.stringify(value)}`,
  )
  return [
    `${format}${subformat === undefined ? '' : ` (${subformat})`}, by ${evidence.join(', and ')}`,
    ...named,
    ...checks.map((check) => `  ${checkLine(check)}`),
    ...(inner === undefined ? [] : [`  inside: ${title(inner)}`, ...detailLines(inner).map((line) => `  ${line}`)]),
  ]
}

function checkLine({ name, verdict, sentence }: Check): string {
  return `${verdict === 'failed' ? 'FAILED' : verdict} ${name}: ${sentence}`
}
