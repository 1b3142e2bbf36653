/** Creation options of qcow. Names, order and wording: `qemu-img create -f qcow -o help` of 7.2. */
import { MoraineError } from '../../core/index.ts'
import type { OptionSpec, OptionValue, OptionValues } from '../options.ts'

/** The table of options. */
export const qcowOptions: readonly OptionSpec[] = [
  { name: 'size', type: 'size', help: 'Virtual disk size' },
  { name: 'backing_file', type: 'string', help: 'File name of a base image' },
  { name: 'backing_fmt', type: 'string', help: 'Format of the backing image' },
  {
    name: 'encryption',
    type: 'boolean',
    help: "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
  },
  {
    name: 'encrypt.format',
    type: 'string',
    help: "Encrypt the image, format choices: 'aes'",
  },
  {
    name: 'encrypt.key-secret',
    type: 'string',
    help: 'ID of the secret that provides the AES encryption key',
  },
]

/** The options of a creation, in the order of QEMU's "Formatting" line. */
export function resolveQcowOptions(
  size: bigint,
  { size: _again, ...options }: OptionValues,
  backing?: { name: string; format?: string | undefined },
): OptionValues {
  const resolved: Record<string, OptionValue> = { size, ...options }
  if (backing !== undefined) {
    resolved.backing_file = backing.name
    if (backing.format !== undefined) resolved.backing_fmt = backing.format
  }
  return resolved
}

/** Whether a new image is encrypted; the names of QEMU's options and their contradictions.
 *  @throws MoraineError `invalid`. */
export function asksForEncryption(options: OptionValues): boolean {
  const { encryption, 'encrypt.format': format } = options
  const refuse = (field: string, reason: string): never => {
    throw new MoraineError('invalid', reason, { format: 'qcow', field })
  }
  if (encryption === true && format !== undefined) {
    refuse('encryption', "'encrypt.format' and its alias 'encryption' can't be used at the same time")
  }
  if (encryption !== true && format === undefined && options['encrypt.key-secret'] !== undefined) {
    refuse('encrypt.format', "Parameter 'encrypt.format' is missing")
  }
  if (format !== undefined && format !== 'aes') {
    refuse(
      'encrypt.format',
      format === 'luks' ? 'Unsupported encryption format' : `Parameter 'format' does not accept value '${format}'`,
    )
  }
  return encryption === true || format !== undefined
}

/** Refuses encryption where an image is written front to back: nothing goes out in clear that was to be encrypted.
 *  @throws MoraineError `unsupported`. */
export function refuseEncryption(options: OptionValues): void {
  if (!asksForEncryption(options)) return
  const reason = 'encryption cannot be used for an image that is written front to back'
  throw new MoraineError('unsupported', reason, { format: 'qcow', field: 'encrypt.format' })
}

/** Refuses a size of nothing, in QEMU's words.
 *  @throws MoraineError `invalid`. */
export function checkSize(size: number, path: string): void {
  if (size > 0) return
  throw new MoraineError('invalid', 'Image size is too small, cannot be zero length', {
    path,
    format: 'qcow',
    field: 'size',
    value: size,
    rule: '1 at least',
  })
}
