/** What can be said about an image: the options of `create`, `push` and `set`. */
import { Failure } from '../failure.ts'
import type { OptionSpec, Values } from '../verb.ts'

function readNumber(option: string): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN
    if (Number.isSafeInteger(value)) return value
    throw new Failure(`--${option} must be used with a whole number, not '${text}'`)
  }
}

const visibilities = ['public', 'community', 'shared', 'private']

/** Options of attributes that can be said at any time. */
export const attributeOptions = {
  name: { long: 'name', argument: 'NAME', help: 'Its name; several images may have the same.' },
  minDisk: {
    long: 'min-disk',
    argument: 'GB',
    help: 'Smallest disk that it boots on, in GB.',
    parse: readNumber('min-disk'),
  },
  minRam: {
    long: 'min-ram',
    argument: 'MB',
    help: 'Least memory that it boots with, in MB.',
    parse: readNumber('min-ram'),
  },
  property: {
    long: 'property',
    argument: 'KEY=VALUE',
    help: 'A property of its own, as in os_distro=debian. May be given several times.',
    collect: true,
    parse: readProperty,
  },
  tag: { long: 'tag', argument: 'TAG', help: 'A tag. May be given several times.', collect: true },
  visibility: {
    long: 'visibility',
    argument: 'WHO',
    values: () => visibilities,
    help: 'Who sees it: public, community, shared or private.',
    parse(text: string): string {
      if (visibilities.includes(text)) return text
      throw new Failure(`--visibility must be used with one of ${visibilities.join(', ')}, not '${text}'`)
    },
  },
  protected: { long: 'protected', help: 'It cannot be deleted.' },
  hidden: { long: 'hidden', help: 'It is left out of lists.' },
} as const satisfies Record<string, OptionSpec>

/** Options of attributes that are fixed once there is data. */
export const fixedOptions = {
  id: { long: 'id', argument: 'UUID', help: 'Its id; the service makes one up when not given.' },
  diskFormat: {
    long: 'disk-format',
    argument: 'FMT',
    help: 'The format of its data: raw, qcow2, vmdk, vhd, vhdx, vdi, iso, ...',
  },
  containerFormat: {
    long: 'container-format',
    argument: 'FMT',
    help: 'What is around its data: bare (the default), ovf, ova, docker, compressed, ...',
  },
} as const satisfies Record<string, OptionSpec>

/** One `--property`.
 *  @throws Failure */
export function readProperty(text: string): readonly [key: string, value: string] {
  const at = text.indexOf('=')
  if (at < 1) throw new Failure(`--property must be used with KEY=VALUE, not '${text}'`)
  return [text.slice(0, at), text.slice(at + 1)]
}

/** Attributes as the API names them; what was not given is not there. */
export function givenAttributes(values: Values<typeof attributeOptions>): Record<string, unknown> {
  const found: Record<string, unknown> = {
    name: values.name,
    min_disk: values.minDisk,
    min_ram: values.minRam,
    visibility: values.visibility,
    protected: values.protected ? true : undefined,
    os_hidden: values.hidden ? true : undefined,
    ...Object.fromEntries(values.property),
  }
  return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined))
}

/** The document that creates an image. */
export function newImageDocument(
  values: Values<typeof attributeOptions & typeof fixedOptions>,
  found: { name?: string | undefined; diskFormat?: string | undefined } = {},
): Record<string, unknown> {
  const document: Record<string, unknown> = {
    name: found.name,
    ...givenAttributes(values),
    id: values.id,
    disk_format: values.diskFormat ?? found.diskFormat,
    container_format: values.containerFormat ?? 'bare',
    tags: values.tag.length > 0 ? values.tag : undefined,
  }
  return Object.fromEntries(Object.entries(document).filter(([, value]) => value !== undefined))
}
