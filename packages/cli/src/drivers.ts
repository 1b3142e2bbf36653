/** QEMU's drivers that are no image formats, where the name of one is expected: `-f file`, `-O host_device`, `nbd` as the format of a backing file.
 *  What they say, and in which order they stand in the help: measured with qemu-img 7.2 of Debian without further modules. */
import {
  allFormats,
  type ByteSource,
  type Disk,
  type DiskFormat,
  MoraineError,
  type OptionSpec,
  raw,
} from '@moraine/engine'

/** Options of a plain file. Wording and order: `qemu-img create -o help` of 7.2. */
export const fileOptions: readonly OptionSpec[] = [
  { name: 'size', type: 'size', help: 'Virtual disk size' },
  {
    name: 'nocow',
    type: 'boolean',
    help: 'Turn off copy-on-write (valid only on btrfs)',
  },
  {
    name: 'preallocation',
    type: 'enum',
    values: ['off', 'falloc', 'full'],
    help: 'Preallocation mode (allowed values: off, falloc, full)',
  },
  { name: 'extent_size_hint', type: 'size', help: 'Extent size hint for the image file, 0 to disable' },
]

/** Options of a device: those of QEMU's driver `host_device`. */
export const deviceOptions: readonly OptionSpec[] = [
  { name: 'size', type: 'size', help: 'Virtual disk size' },
  { name: 'preallocation', type: 'enum', values: ['off'], help: 'Preallocation mode (allowed values: off)' },
]

/** Drivers that come with modules which are not there: nobody knows them. */
const modules: ReadonlySet<string> = new Set('ftp ftps gluster http https iscsi iser nfs rbd ssh'.split(' '))

/** The others, and what they say to a plain file. Undefined: they take it as it is. */
const words: Readonly<Record<string, string | undefined>> = {
  blklogwrites: 'A block device must be specified for "log"',
  blkverify: 'A block device must be specified for "raw"',
  compress: 'Compression is not supported for underlying format: file',
  'copy-before-write': "Parameter 'target' is missing",
  'copy-on-read': 'Block node is read-only',
  file: undefined,
  host_cdrom: undefined,
  host_device: undefined,
  nbd: undefined,
  'null-aio': "The only allowed filename for this driver is 'null-aio://'",
  'null-co': "The only allowed filename for this driver is 'null-co://'",
  nvme: "'device' option is required",
  quorum: 'Number of provided children must be 1 or more',
  replication: 'Missing the option mode',
  'snapshot-access': undefined,
  throttle: 'Please specify a throttle group',
  vvfat: "File name string must start with 'fat:'",
}

/** Protocols to which an image can be written, with the options that they take. */
const targets: Readonly<Record<string, readonly OptionSpec[]>> = {
  file: fileOptions,
  host_cdrom: deviceOptions,
  host_device: deviceOptions,
  nbd: deviceOptions,
  nvme: deviceOptions,
}

const filters = ['blkdebug', 'preallocate']

/** Those that are no format and work here: as protocols, as filters, or over plain bytes. */
export const ownDrivers: readonly string[] =
  'blkdebug compress copy-on-read file host_cdrom host_device http https nbd null-aio null-co preallocate snapshot-access throttle'.split(
    ' ',
  )

/** Whether QEMU has a driver of this name that is no format here. */
export function isOtherDriver(name: string): boolean {
  return Object.hasOwn(words, name) || modules.has(name) || filters.includes(name)
}

/** What QEMU's driver says where it lacks what it needs; undefined where it needs nothing more than a file. */
export function refusalOf(driver: string): string | undefined {
  return Object.hasOwn(words, driver) ? words[driver] : undefined
}

/** Whether bytes lie as they are: raw, or a protocol in its place. */
export function isPlain(format: string): boolean {
  return format === 'raw' || Object.hasOwn(targets, format) || format === 'snapshot-access'
}

const made = new Map<string, DiskFormat>()

/** A driver in the place of a format. Undefined for those that are out of reach. */
export function driverFormat(name: string): DiskFormat | undefined {
  if (!Object.hasOwn(words, name) && !filters.includes(name)) return undefined
  const known = made.get(name) ?? inPlaceOfFormat(name)
  made.set(name, known)
  return known
}

/** All formats, and the drivers that may stand in the place of one: what images name as the format of what lies under them. */
export function formatsAndDrivers(): readonly DiskFormat[] {
  const drivers = [...Object.keys(words), ...filters].flatMap((name) => driverFormat(name) ?? [])
  return [...allFormats, ...drivers]
}

function inPlaceOfFormat(name: string): DiskFormat {
  const { measure: _measure, stream, create, resolveOptions, ...rest } = raw
  const options = targets[name]
  const can = { ...raw.can, create: options !== undefined, measure: false }
  const plain = { ...rest, name, extensions: [], can, options: options ?? [], probe: () => undefined }
  return {
    ...plain,
    open: async (source, context) => {
      const refusal = refusalOfSource(name, source)
      if (refusal !== undefined) {
        // The source belongs to the disk, also to one that does not come to be.
        throw new MoraineError('invalid', refusal, { path: source.name, field: 'driver', value: name })
      }
      return await calledAs(await raw.open(source, context), name)
    },
    ...(options !== undefined && { stream, create, resolveOptions }),
  }
}

async function calledAs(disk: Disk, name: string): Promise<Disk> {
  const { calledAs: withName } = await import('./blockdev/driver.ts')
  return withName(disk, name)
}

function refusalOfSource(driver: string, source: ByteSource): string | undefined {
  if (filters.includes(driver)) return `Unknown driver '${driver}'`
  if (driver === 'nbd' && !/^(nbds?[:+]|json:)/.test(source.name))
    return "File name string for NBD must start with 'nbd:'"
  if (driver.startsWith('host_') && Reflect.get(source, 'kind') !== 'device') return notDevice(driver, source.name)
  return refusalOf(driver)
}

/** What QEMU says where a device is wanted and something else is there. */
export function notDevice(driver: string, path: string): string {
  return `'${driver}' driver requires '${path}' to be either a character or block device`
}
