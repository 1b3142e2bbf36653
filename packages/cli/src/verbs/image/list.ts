/** `image list`: the images that the caller may see. */

import { Failure } from '../../failure.ts'
import { readProperty } from '../../image/attribute-options.ts'
import { defineImageVerb, jsonOutput } from '../../image/image-verb.ts'
import type { Values } from '../../verb.ts'

const options = {
  ...jsonOutput,
  long: { short: 'l', long: 'long', help: 'Show more columns.' },
  quiet: { short: 'q', long: 'quiet', help: 'Print ids only.' },
  name: { long: 'name', argument: 'NAME', help: 'Only images of this name.' },
  status: { long: 'status', argument: 'STATUS', help: 'Only images in this state, as in active or queued.' },
  visibility: {
    long: 'visibility',
    argument: 'WHO',
    values: () => ['public', 'community', 'shared', 'private', 'all'],
    help: 'Only public, community, shared or private images; all for every one there is.',
  },
  tag: { long: 'tag', argument: 'TAG', help: 'Only images with this tag. May be given several times.', collect: true },
  property: {
    long: 'property',
    argument: 'KEY=VALUE',
    help: 'Only images with this property. May be given several times.',
    collect: true,
    parse: readProperty,
  },
  owner: { long: 'owner', argument: 'PROJECT', help: 'Only images of this project, by id.' },
  diskFormat: { long: 'disk-format', argument: 'FMT', help: 'Only images of this disk format.' },
  containerFormat: { long: 'container-format', argument: 'FMT', help: 'Only images of this container format.' },
  hidden: { long: 'hidden', help: 'The hidden images instead of the others.' },
  memberStatus: {
    long: 'member-status',
    argument: 'STATUS',
    values: () => ['accepted', 'pending', 'rejected', 'all'],
    help: 'Shared images that were accepted (the default), are pending or were rejected, or all.',
  },
  sort: {
    long: 'sort',
    argument: 'KEY[:DIR],...',
    help: 'Order by name, status, size, disk_format, container_format, id, created_at or updated_at; asc or desc.',
  },
  limit: {
    long: 'limit',
    argument: 'N',
    help: 'At most so many. Without it all are listed, page after page.',
    parse(text: string): number {
      if (/^[1-9]\d{0,8}$/.test(text)) return Number(text)
      throw new Failure(`--limit must be used with a whole number above 0, not '${text}'`)
    },
  },
} as const

export const verb = defineImageVerb({
  name: 'list',
  summary: 'List images',
  operands: '',
  about:
    "The caller's own images, public ones and those shared with the caller's project, newest first. The filters are the service's own; all of them must fit.",
  examples: [
    ['moraine image list --status active --sort name:asc', 'ordered by name'],
    ['moraine image list --property os_distro=debian --output=json', 'the documents, for programs'],
    ['moraine image list -q --name old | xargs moraine image delete', 'ids only'],
  ],
  options,
  count: [0, 0],
  async run({ session, context, json }, values) {
    const { listImages } = await import('../../image/images.ts')
    const { imageColumns, printJson, printTable } = await import('../../image/print.ts')
    const images = []
    for await (const image of listImages(session, filters(values), values.limit)) {
      // Ids can be shown as they come.
      if (values.quiet && !json) context.out.write(`${image.id}\n`)
      else images.push(image)
    }
    if (json) printJson(context.out, images)
    else if (!values.quiet) printTable(context.out, imageColumns(values.long), images)
  },
})

function filters(values: Values<typeof options>): [string, string][] {
  const single = {
    name: values.name,
    status: values.status,
    visibility: values.visibility,
    owner: values.owner,
    disk_format: values.diskFormat,
    container_format: values.containerFormat,
    os_hidden: values.hidden ? 'true' : undefined,
    member_status: values.memberStatus,
    sort: values.sort,
  }
  const given = Object.entries(single).flatMap(([name, value]): [string, string][] =>
    value === undefined ? [] : [[name, value]],
  )
  const properties = values.property.map(([key, value]): [string, string] => [key, value])
  return [...given, ...properties, ...values.tag.map((tag): [string, string] => ['tag', tag])]
}
