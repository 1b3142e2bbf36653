/** Creation options of qcow. Names, order and wording: `qemu-img create -f qcow -o help` of 7.2. */
import { MoraineError } from '../../core/index.ts'
import type { OptionSpec, OptionValue, OptionValues } from '../options.ts'

const encryption = 'encryption of new images'

/** The table of options. */
export const qcowOptions: readonly OptionSpec[] = [
  { name: 'size', type: 'size', help: 'Virtual disk size' },
  { name: 'backing_file', type: 'string', help: 'File name of a base image' },
  { name: 'backing_fmt', type: 'string', help: 'Format of the backing image' },
  {
    name: 'encryption',
    type: 'boolean',
    help: "Encrypt the image with format 'aes'. (Deprecated in favor of encrypt.format=aes)",
    refused: encryption,
  },
  {
    name: 'encrypt.format',
    type: 'string',
    help: "Encrypt the image, format choices: 'aes'",
    refused: encryption,
  },
  {
    name: 'encrypt.key-secret',
    type: 'string',
    help: 'ID of the secret that provides the AES encryption key',
    refused: encryption,
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
