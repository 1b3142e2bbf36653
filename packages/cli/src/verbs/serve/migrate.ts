/** `serve migrate`: takes over what a Glance keeps. */
import type { Step } from '@moraine/server/upkeep'
import { Failure, usageFailure } from '../../failure.ts'
import { sizeText } from '../../output/size.ts'
import { givenSettings, sharedSettingOptions } from '../../service-settings.ts'
import { defineVerb } from '../../verb.ts'
import { outputChoice } from '../common.ts'

const dataModes = ['link', 'copy', 'none'] as const

export const verb = defineVerb({
  name: 'serve migrate',
  summary: 'Take over the images of a Glance',
  operands: '',
  syntax: '',
  about:
    'Reads the database of Glance (SQLite, MySQL or MariaDB, PostgreSQL) and the files of its stores, and changes nothing there. Images keep their ids, owners, times, members and digests; ids of deleted images are ' +
    'never given again. What was taken before stays as it is, so it can be broken off, begun again, and run once more for what is new. Exit code 0: all was taken; 1: it could not go on; 2: the data of some images could not be taken.',
  examples: [
    ['moraine serve migrate --from /etc/glance/glance-api.conf --dry-run', 'only tells what it would do'],
    ['moraine serve migrate --from /etc/glance/glance-api.conf', 'data is linked where it can be, else copied'],
    [
      'moraine serve migrate --from mysql://glance:PASSWORD@db/glance --files /var/lib/glance/images --image-data copy',
      '',
    ],
  ],
  options: {
    ...sharedSettingOptions,
    from: {
      long: 'from',
      argument: 'SOURCE',
      parse: (text: string) => text,
      help: 'glance-api.conf, a database of SQLite, or the address of a database as in Glance.',
    },
    files: {
      long: 'files',
      argument: 'FOLDER',
      parse: (text: string) => text,
      help: 'A folder with image data of Glance, when it is not where the database says.',
    },
    mode: {
      long: 'image-data',
      argument: 'MODE',
      values: () => dataModes,
      help: 'link (default): the same file under a second name where that can be, else a copy. copy: a copy whose digest is compared. none: images without their data.',
      parse(text: string): (typeof dataModes)[number] {
        const mode = dataModes.find((known) => known === text)
        if (mode === undefined) throw new Failure(`--image-data must be used with one of ${dataModes.join(', ')}`)
        return mode
      },
    },
    dryRun: { long: 'dry-run', help: 'Only tell what would be done.' },
    output: outputChoice,
  },
  async run(values, operands, context) {
    const [surplus] = operands
    if (surplus !== undefined) throw usageFailure(`Unexpected argument: ${surplus}`)
    if (values.from === undefined) throw usageFailure('--from: which Glance?')
    const { migrate } = await import('@moraine/server/upkeep')
    const steps: Step[] = []
    const options = {
      from: values.from,
      files: values.files === undefined ? [] : [values.files],
      data: values.mode ?? 'link',
      dryRun: values.dryRun === true,
      signal: context.signal,
    }
    for await (const step of migrate(givenSettings(values), options)) {
      steps.push(step)
      if (!values.output && isWorthALine(step)) context.out.write(`${sentence(step)}\n`)
    }
    if (values.output) context.out.write(`${JSON.stringify({ dryRun: options.dryRun, steps }, null, 2)}\n`)
    else context.out.write(summary(steps, options.dryRun))
    const isWhole =
      options.data === 'none' ||
      !steps.some(({ kind, data, notes }) => kind === 'image' && data === 'none' && notes.length > 0)
    return isWhole ? 0 : 2
  },
})

const isWorthALine = ({ action, kind, notes }: Step) => notes.length > 0 || (kind === 'image' && action !== 'kept')

const names: Readonly<Record<Step['kind'], string>> = {
  image: 'image',
  'deleted-image': 'deleted image',
  namespace: 'namespace',
  tasks: 'tasks:',
}

function sentence({ kind, id, action, data, bytes, notes }: Step): string {
  const how =
    data === undefined || data === 'none'
      ? ''
      : `, data ${data === 'web' ? 'left on the web' : data} (${sizeText(BigInt(bytes ?? 0))})`
  return `${names[kind]} ${id}: ${[action + how, ...notes].join('; ')}`
}

function summary(steps: readonly Step[], dryRun: boolean): string {
  const count = (kind: Step['kind'], ...actions: Step['action'][]) =>
    steps.filter((step) => step.kind === kind && actions.includes(step.action)).length
  const bytes = (how: Step['data']) =>
    steps.reduce((sum, { data, bytes: more }) => sum + (data === how ? (more ?? 0) : 0), 0)
  const taken = `${count('image', 'taken', 'completed')} images, ${count('deleted-image', 'taken')} ids of deleted images and ${count('namespace', 'taken')} namespaces`
  const kept = `${count('image', 'kept')} images, ${count('deleted-image', 'kept')} ids and ${count('namespace', 'kept')} namespaces`
  const data = `data: ${sizeText(BigInt(bytes('linked')))} linked, ${sizeText(BigInt(bytes('copied')))} copied`
  return `${dryRun ? 'Would take' : 'Taken'}: ${taken}; there before: ${kept}; ${data}\n${dryRun ? 'Nothing was changed.\n' : ''}`
}
