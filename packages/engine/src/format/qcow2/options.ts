/** Creation options of qcow2. Names, order and wording: `qemu-img create -f qcow2 -o help` of 7.2. */
import { MoraineError } from '../../core/index.ts'
import { luksCipherOptions, planLuks } from '../luks/cipher-options.ts'
import type { OptionSpec, OptionValue, OptionValues } from '../options.ts'

/** The table of options, in the order in which QEMU prints them; its help sorts them by name. */
export function qcow2Options(): readonly OptionSpec[] {
  table ??= allOptions()
  return table
}

// Made when it is asked for: what runs at the beginning is kept by bundlers, in pages that do not pass this format too.
let table: readonly OptionSpec[] | undefined

function allOptions(): OptionSpec[] {
  return [
    {
      name: 'encryption',
      type: 'boolean',
      help: "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
    },
    {
      name: 'encrypt.format',
      type: 'string',
      help: "Encrypt the image, format choices: 'aes', 'luks'",
    },
    {
      name: 'encrypt.key-secret',
      type: 'string',
      help: 'ID of secret providing qcow AES key or LUKS passphrase',
    },
    ...luksCipherOptions('encrypt.'),
    { name: 'cluster_size', type: 'size', help: 'qcow2 cluster size', default: 65536n },
    { name: 'extended_l2', type: 'boolean', help: 'Extended L2 tables', default: false },
    {
      name: 'preallocation',
      type: 'string',
      values: ['off', 'metadata', 'falloc', 'full'],
      help: 'Preallocation mode (allowed values: off, metadata, falloc, full)',
    },
    {
      name: 'compression_type',
      type: 'string',
      values: ['zlib', 'zstd'],
      help: 'Compression method used for image cluster compression',
      default: 'zlib',
    },
    { name: 'size', type: 'size', help: 'Virtual disk size' },
    { name: 'compat', type: 'string', help: 'Compatibility level (v2 [0.10] or v3 [1.1])' },
    { name: 'backing_file', type: 'string', help: 'File name of a base image' },
    { name: 'backing_fmt', type: 'string', help: 'Image format of the base image' },
    { name: 'data_file', type: 'string', help: 'File name of an external data file' },
    { name: 'data_file_raw', type: 'boolean', help: 'The external data file must stay valid as a raw image' },
    { name: 'lazy_refcounts', type: 'boolean', help: 'Postpone refcount updates', default: false },
    { name: 'refcount_bits', type: 'number', help: 'Width of a reference count entry in bits', default: 16 },
  ]
}

/** Options of an image that is there, in QEMU's order; its help sorts them by name. */
const amendable = [
  'backing_file',
  'backing_fmt',
  'compat',
  'data_file',
  'data_file_raw',
  'lazy_refcounts',
  'refcount_bits',
  'size',
]

/** The table of what can be amended, but for key slots. */
export function qcow2AmendOptions(): readonly OptionSpec[] {
  return qcow2Options().flatMap((option) => {
    const { default: _default, ...spec } = option
    return amendable.includes(option.name) ? [spec] : []
  })
}

/** The options of a creation, with defaults filled in and checked against each other. */
export interface Qcow2Plan {
  version: 2 | 3
  clusterBits: number
  refcountOrder: number
  compression: 'zlib' | 'zstd'
  extendedL2: boolean
  lazyRefcounts: boolean
  preallocation: 'off' | 'metadata' | 'falloc' | 'full'
  dataFile: string | undefined
  dataFileRaw: boolean
  /** What guest clusters are encrypted with. */
  encryption: 'aes' | 'luks' | undefined
}

/** Checks the options of a creation; the rules and their words are QEMU's.
 *  @throws MoraineError `invalid`, naming the option. */
export function planOptions(options: OptionValues, hasBacking: boolean): Qcow2Plan {
  const encryption = planEncryption(options)
  const compat = (options.compat as string | undefined) ?? 'v3'
  const version = compat === '0.10' || compat === 'v2' ? 2 : compat === '1.1' || compat === 'v3' ? 3 : undefined
  if (version === undefined) refuse('compat', compat, `Parameter 'version' does not accept value '${compat}'`)
  const clusterSize = Number((options.cluster_size as bigint | undefined) ?? 65536n)
  const clusterBits = Math.log2(clusterSize)
  if (!Number.isInteger(clusterBits) || clusterBits < 9 || clusterBits > 21) {
    refuse('cluster_size', clusterSize, 'Cluster size must be a power of two between 512 and 2048k')
  }
  const extendedL2 = options.extended_l2 === true
  const preallocation = oneOf('preallocation', options.preallocation ?? 'off', preallocations)
  if (extendedL2 && version < 3) {
    refuse(
      'extended_l2',
      'on',
      'Extended L2 entries are only supported with compatibility level 1.1 and above (use version=v3 or greater)',
    )
  }
  if (extendedL2 && clusterBits < 14) {
    refuse('extended_l2', 'on', 'Extended L2 entries are only supported with cluster sizes of at least 16384 bytes')
  }
  if (hasBacking && preallocation !== 'off' && !extendedL2) {
    refuse(
      'preallocation',
      preallocation,
      'Backing file and preallocation can only be used at the same time if extended_l2 is on',
    )
  }
  const lazyRefcounts = options.lazy_refcounts === true
  if (lazyRefcounts && version < 3) {
    refuse(
      'lazy_refcounts',
      'on',
      'Lazy refcounts only supported with compatibility level 1.1 and above (use version=v3 or greater)',
    )
  }
  const refcountBits = (options.refcount_bits as number | undefined) ?? 16
  const refcountOrder = Math.log2(refcountBits)
  if (!Number.isInteger(refcountOrder) || refcountBits < 1 || refcountBits > 64) {
    refuse('refcount_bits', refcountBits, 'Refcount width must be a power of two and may not exceed 64 bits')
  }
  if (version < 3 && refcountBits !== 16) {
    refuse(
      'refcount_bits',
      refcountBits,
      'Different refcount widths than 16 bits require compatibility level 1.1 or above (use version=v3 or greater)',
    )
  }
  const dataFile = options.data_file as string | undefined
  const dataFileRaw = options.data_file_raw === true
  if (dataFileRaw && dataFile === undefined) {
    refuse('data_file_raw', 'on', 'data-file-raw requires data-file')
  }
  if (dataFileRaw && hasBacking) {
    refuse('data_file_raw', 'on', 'Backing file and data-file-raw cannot be used at the same time')
  }
  if (dataFile !== undefined && version < 3) {
    refuse(
      'data_file',
      dataFile,
      'External data files are only supported with compatibility level 1.1 and above (use version=v3 or greater)',
    )
  }
  const compression = oneOf('compression_type', options.compression_type ?? 'zlib', compressions)
  if (compression !== 'zlib' && version < 3) {
    refuse(
      'compression_type',
      compression,
      'Non-zlib compression type is only supported with compatibility level 1.1 and above (use version=v3 or greater)',
    )
  }
  return {
    version,
    clusterBits,
    refcountOrder,
    compression,
    extendedL2,
    lazyRefcounts,
    preallocation,
    dataFile,
    dataFileRaw,
    encryption,
  }
}

/** The options as QEMU prints them on the "Formatting" line: defaults filled in, in its order, not yet checked (QEMU prints before it looks). */
export function resolveQcow2Options(
  size: bigint,
  options: OptionValues,
  backing?: { name: string; format?: string | undefined },
): OptionValues {
  const resolved: Record<string, OptionValue> = {}
  for (const { name } of qcow2Options()) {
    const value = options[name]
    if (name.startsWith('encrypt') && value !== undefined) resolved[name] = value
  }
  Object.assign(resolved, {
    cluster_size: options.cluster_size ?? 65536n,
    extended_l2: options.extended_l2 ?? false,
  })
  if (options.preallocation !== undefined) resolved.preallocation = options.preallocation
  resolved.compression_type = options.compression_type ?? 'zlib'
  resolved.size = size
  if (options.compat !== undefined) resolved.compat = options.compat
  if (backing !== undefined) {
    resolved.backing_file = backing.name
    if (backing.format !== undefined) resolved.backing_fmt = backing.format
  }
  if (options.data_file !== undefined) resolved.data_file = options.data_file
  if (options.data_file_raw !== undefined) resolved.data_file_raw = options.data_file_raw
  resolved.lazy_refcounts = options.lazy_refcounts ?? false
  resolved.refcount_bits = options.refcount_bits ?? 16
  return resolved
}

/** What a new image is encrypted with; the names of QEMU's options and their contradictions.
 *  @throws MoraineError `invalid`. */
function planEncryption(options: OptionValues): 'aes' | 'luks' | undefined {
  const { encryption, 'encrypt.format': format } = options
  if (encryption === true && format !== undefined) {
    refuse('encryption', 'on', "'encrypt.format' and its alias 'encryption' can't be used at the same time")
  }
  const method = encryption === true ? 'aes' : format
  if (method !== undefined && method !== 'aes' && method !== 'luks') {
    refuse('encrypt.format', String(method), `Parameter 'format' does not accept value '${method}'`)
  }
  const given = Object.keys(options).filter((name) => name.startsWith('encrypt.') && name !== 'encrypt.format')
  if (method === undefined) {
    if (given.length > 0) refuse('encrypt.format', '', "Parameter 'encrypt.format' is missing")
    return undefined
  }
  if (method === 'luks') {
    planLuks(options, 'encrypt.')
    return method
  }
  const surplus = given.find((name) => name !== 'encrypt.key-secret')
  if (surplus !== undefined) refuse(surplus, String(options[surplus]), `Parameter '${surplus}' is unexpected`)
  return method
}

const preallocations = ['off', 'metadata', 'falloc', 'full'] as const
const compressions = ['zlib', 'zstd'] as const

function oneOf<Value extends string>(name: string, value: OptionValue, values: readonly Value[]): Value {
  const found = values.find((entry) => entry === value)
  if (found !== undefined) return found
  return refuse(name, String(value), `Parameter '${name.replace('_', '-')}' does not accept value '${value}'`)
}

function refuse(name: string, value: string | number, reason: string): never {
  throw new MoraineError('invalid', reason, { format: 'qcow2', field: name, value })
}
