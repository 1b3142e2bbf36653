/** `image import`: the service fetches an image's data itself. */
import { Failure, usageFailure } from '../../failure.ts'
import { defineImageVerb, jsonOutput } from '../../image/image-verb.ts'
import { storeOptions, storeRequest } from '../../image/import-options.ts'
import type { Values } from '../../verb.ts'

const methods = ['web-download', 'glance-direct', 'glance-download', 'copy-image']

const options = {
  ...jsonOutput,
  method: {
    long: 'method',
    argument: 'METHOD',
    values: () => methods,
    help: 'web-download (from --uri; the default when that is given), glance-direct (what was staged before), glance-download (from another region) or copy-image (into more stores).',
    parse(text: string): string {
      if (methods.includes(text)) return text
      throw new Failure(`--method must be used with one of ${methods.join(', ')}, not '${text}'`)
    },
  },
  uri: { long: 'uri', argument: 'URI', help: 'Where the service finds the data, for web-download.' },
  remoteRegion: { long: 'remote-region', argument: 'REGION', help: 'The region to copy from, for glance-download.' },
  remoteImage: { long: 'remote-image', argument: 'ID', help: 'The image there, by id, for glance-download.' },
  ...storeOptions,
  wait: { long: 'wait', help: 'Wait until the import is over; the exit code tells how it ended.' },
} as const

export const verb = defineImageVerb({
  name: 'import',
  summary: 'Let the service fetch the data of an image itself',
  operands: 'IMAGE',
  about:
    "The image must have been created before ('moraine image create'), and be without data save for copy-image. The service works on after the answer; --wait follows it.",
  examples: [
    ['moraine image import debian-13 --uri https://example.org/debian-13.qcow2 --wait', 'from the web'],
    ['moraine image import debian-13 --method copy-image --all-stores', 'an image that is there, into every store'],
  ],
  options,
  count: [1, 1],
  async run({ session, context, json }, values, [name = '']) {
    const body = requestBody(values)
    const [{ done, findImageId, imagePath }, { imageTasks, waitForImport }] = await Promise.all([
      import('../../image/images.ts'),
      import('../../image/wait.ts'),
    ])
    const id = await findImageId(session, name)
    const before = new Set((await imageTasks(session, id)).map((task) => task.id))
    await done(session, 'POST', imagePath(id, '/import'), body)
    if (!values.wait) return
    const image = await waitForImport(session, id, before)
    if (json) (await import('../../image/print.ts')).printJson(context.out, image)
  },
})

function requestBody(values: Values<typeof options>): Record<string, unknown> {
  const { uri, remoteImage, remoteRegion } = values
  const method = values.method ?? (uri === undefined ? 'glance-direct' : 'web-download')
  if ((method === 'web-download') !== (uri !== undefined)) {
    throw usageFailure(uri === undefined ? 'web-download needs --uri' : `--uri does not belong to ${method}`)
  }
  const remote = remoteImage !== undefined || remoteRegion !== undefined
  if (method === 'glance-download' && (remoteImage === undefined || remoteRegion === undefined)) {
    throw usageFailure('glance-download needs --remote-region and --remote-image')
  }
  if (remote && method !== 'glance-download')
    throw usageFailure(`--remote-image and --remote-region do not belong to ${method}`)
  const details = {
    ...(uri !== undefined && { uri }),
    ...(remote && { glance_image_id: remoteImage, glance_region: remoteRegion }),
  }
  return { method: { name: method, ...details }, ...storeRequest(values) }
}
