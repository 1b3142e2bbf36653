/** The options that formats take when they are opened, by QEMU's names. Those that tune QEMU's own caches are checked and have no effect. */
import type { OpenOptions } from '@moraine/engine'
import type { NodeOptions } from './options.ts'

type Rule = 'switch' | 'size' | 'text'

interface FormatOptions {
  rules: Readonly<Record<string, Rule>>
  /** What makes the node what it is, for its name. */
  strong?: readonly string[]
}

const overlapChecks = ['none', 'constant', 'cached', 'all']

const tables: Readonly<Record<string, FormatOptions>> = {
  raw: { rules: {}, strong: ['offset', 'size'] },
  qcow2: {
    rules: {
      'lazy-refcounts': 'switch',
      'pass-discard-request': 'switch',
      'pass-discard-snapshot': 'switch',
      'pass-discard-other': 'switch',
      'cache-size': 'size',
      'l2-cache-size': 'size',
      'l2-cache-entry-size': 'size',
      'refcount-cache-size': 'size',
      'cache-clean-interval': 'size',
      ...Object.fromEntries(
        [
          'main-header',
          'active-l1',
          'active-l2',
          'refcount-table',
          'refcount-block',
          'snapshot-table',
          'inactive-l1',
          'inactive-l2',
          'bitmap-directory',
        ].map((part) => [`overlap-check.${part}`, 'switch' as const]),
      ),
    },
    strong: ['encrypt.key-secret'],
  },
  qcow: { rules: {}, strong: ['encrypt.key-secret'] },
  luks: { rules: {}, strong: ['key-secret'] },
  vhd: { rules: {}, strong: ['force_size_calc'] },
  parallels: { rules: { 'prealloc-size': 'size' } },
}

/** Options that make a format's node what it is. */
export function strongOptions(format: string): readonly string[] {
  return tables[format]?.strong ?? []
}

/** Takes what the format knows, checks it, and gives what opening needs of it.
 *  @throws MoraineError `invalid` */
export function takeFormatOptions(
  format: string,
  options: NodeOptions,
): Pick<OpenOptions, 'window' | 'encryption' | 'vhdSize'> {
  const size = format === 'raw' ? options.takeSize('size') : undefined
  const offset = format === 'raw' ? options.takeSize('offset') : undefined
  for (const [name, rule] of Object.entries(tables[format]?.rules ?? {})) {
    if (rule === 'switch') options.takeSwitch(name)
    else if (rule === 'size') options.takeSize(name)
    else options.takeText(name)
  }
  if (format === 'qcow2') takeOverlapCheck(options)
  if (format === 'parallels') options.takeWord('prealloc-mode', ['falloc', 'truncate'])
  if (format === 'vhd') return { vhdSize: takeSizeRule(options) }
  if (format === 'luks' || format === 'luks2') return { encryption: { keySecret: options.takeText('key-secret') } }
  if (format === 'qcow' || format === 'qcow2') {
    const encryption = { format: options.takeText('encrypt.format'), keySecret: options.takeText('encrypt.key-secret') }
    return { encryption }
  }
  return offset === undefined && size === undefined
    ? {}
    : { window: { offset: offset ?? 0, ...(size !== undefined && { size }) } }
}

function takeOverlapCheck(options: NodeOptions): void {
  for (const name of ['overlap-check', 'overlap-check.template']) {
    options.takeWord(
      name,
      overlapChecks,
      `Unsupported value '${options.peek(name)}' for qcow2 option 'overlap-check'. Allowed are any of the following: ${overlapChecks.join(', ')}`,
    )
  }
}

function takeSizeRule(options: NodeOptions): OpenOptions['vhdSize'] {
  const complaint = `Invalid size calculation mode: '${options.peek('force_size_calc')}'`
  const rule = options.takeWord('force_size_calc', ['current_size', 'chs'], complaint)
  return rule === undefined ? undefined : rule === 'chs' ? 'chs' : 'current_size'
}
