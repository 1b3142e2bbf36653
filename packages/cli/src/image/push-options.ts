/** What can be said about a push. */
import { Failure } from '../failure.ts'
import { progressMode, quiet, rehearsal, showProgress, trust } from '../verbs/common.ts'
import { attributeOptions, fixedOptions } from './attribute-options.ts'
import { jsonOutput } from './image-verb.ts'
import { storeOptions } from './import-options.ts'

const methods = ['put', 'glance-direct', 'web-download', 'tus'] as const

/** The options of a push. */
export const pushOptions = {
  ...jsonOutput,
  ...trust,
  ...attributeOptions,
  ...fixedOptions,
  method: {
    long: 'method',
    argument: 'METHOD',
    values: () => methods,
    help: 'How the data goes: put (one request, the default), tus (resumable, where the service offers it), glance-direct (staged, then imported) or web-download (fetched by the service from --uri).',
    parse(text: string): (typeof methods)[number] {
      const method = methods.find((known) => known === text)
      if (method === undefined)
        throw new Failure(`--method must be used with one of ${methods.join(', ')}, not '${text}'`)
      return method
    },
  },
  uri: {
    long: 'uri',
    argument: 'URI',
    help: 'Where the service finds the data, for web-download; there is no FILE then.',
  },
  convertTo: {
    long: 'convert-to',
    argument: 'FMT',
    help: 'Convert to this format while it goes out, as in qcow2, raw or vmdk. Packed files (.gz, .xz, ...) are unpacked.',
  },
  compress: { short: 'c', long: 'compress', help: 'Compress what --convert-to makes.' },
  unsafe: { long: 'unsafe', help: 'Push the file though it is not safe.' },
  store: { long: 'store', argument: 'STORE', help: 'Into this store, for put.' },
  ...storeOptions,
  kernel: {
    long: 'kernel',
    argument: 'FILE',
    help: "A kernel, for an image of Amazon's kind: see above. The operand is the image's name then.",
  },
  ramdisk: { long: 'ramdisk', argument: 'FILE', help: 'The ramdisk that goes with --kernel.' },
  root: {
    long: 'root',
    argument: 'FILE',
    help: 'The disk that goes with --kernel: a raw file system, or what holds one in another format.',
  },
  resume: { long: 'resume', argument: 'IMAGE', help: 'Go on with the upload of this image, which was cut.' },
  keep: { long: 'keep', help: 'Keep the image without data when the push fails.' },
  dryRun: { ...rehearsal.dryRun, help: 'Only tell what would be made and sent.' },
  percent: showProgress,
  progress: progressMode,
  quiet: { ...quiet, long: 'quiet', help: 'Print the id alone.' },
} as const
