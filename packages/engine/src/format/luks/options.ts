/** Creation options of luks. Names, order and wording: `qemu-img create -f luks -o help` of 7.2. */
import type { OptionSpec, OptionValue, OptionValues } from '../options.ts'
import { luksCipherOptions } from './cipher-options.ts'

/** The table of options, in the order in which QEMU prints them. */
export function luksOptions(): readonly OptionSpec[] {
  return [
    { name: 'size', type: 'size', help: 'Virtual disk size' },
    { name: 'key-secret', type: 'string', help: 'ID of the secret that provides the keyslot passphrase' },
    ...luksCipherOptions(''),
    {
      name: 'preallocation',
      type: 'enum',
      values: ['off', 'metadata', 'falloc', 'full'],
      ofFile: true,
      help: 'Preallocation mode (allowed values: off, falloc, full)',
    },
  ]
}

/** The options of a creation, in the order of QEMU's "Formatting" line. */
export function resolveLuksOptions(size: bigint, options: OptionValues): OptionValues {
  const resolved: Record<string, OptionValue> = { size }
  for (const { name } of luksOptions()) {
    const value = options[name]
    if (name !== 'size' && value !== undefined) resolved[name] = value
  }
  return resolved
}
