/** Options that several verbs share, declared once. */
import { Failure, usageFailure } from '../failure.ts'
import { type ProgressMode, progressModes } from '../output/progress.ts'
import type { OptionSpec } from '../verb.ts'

export const object = {
  long: 'object',
  argument: 'OBJDEF',
  collect: true,
  help:
    'Define an object: a secret, which holds a password (secret,id=ID with data=TEXT or file=FILE; also format=base64, and keyid=ID,iv=BASE64 for ' +
    'one that another secret encrypts; secret_keyring,id=ID,serial=NUMBER is a key of the kernel), a throttle group, or credentials for TLS over NBD (tls-creds-x509, tls-creds-psk or tls-creds-anon with id=ID and, but for the last, dir=DIR). help lists all kinds; KIND,help has the properties of one.',
} as const satisfies OptionSpec

/** How images are taken: the options of every verb that opens them. */
export const trust = {
  untrusted: {
    long: 'untrusted',
    extension: true,
    help: 'Take the images for those of strangers: open no other file that they name (backing file, data file, extent, parent), and bound what they may cost.',
  },
  allow: {
    long: 'allow',
    argument: 'FILE',
    collect: true,
    extension: true,
    help: 'With --untrusted: this file may be opened, named as in the image or as it is here. May be given several times.',
  },
} as const satisfies Record<string, OptionSpec>

export const imageOpts = {
  long: 'image-opts',
  help: "Take file names as QEMU's option strings, as in driver=qcow2,file.filename=disk.qcow2.",
} as const satisfies OptionSpec

export const format = {
  short: 'f',
  newer: ['format'],
  argument: 'FMT',
  help: 'Format of the image; found out when not given.',
} as const satisfies OptionSpec

export const forceShare = {
  short: 'U',
  long: 'force-share',
  help: 'Open the image even while somebody else writes to it, and take no lock.',
} as const satisfies OptionSpec

export const quiet = { short: 'q', newer: ['quiet'], help: 'Print nothing but errors.' } as const satisfies OptionSpec

export const showProgress = { short: 'p', newer: ['progress'], help: 'Show progress.' } as const satisfies OptionSpec

export const progressMode = {
  long: 'progress',
  argument: 'MODE',
  values: () => progressModes,
  extension: true,
  help: 'How to show progress: auto, bar, percent, json (JSON lines on standard error) or none.',
  parse(text: string): ProgressMode {
    const mode = progressModes.find((known) => known === text)
    if (mode === undefined) throw new Failure(`--progress must be used with one of ${progressModes.join(', ')}`)
    return mode
  },
} as const satisfies OptionSpec

export const outputFormat = {
  long: 'output',
  argument: 'OFMT',
  values: () => ['human', 'json'],
  help: 'Print for people (human, the default) or for programs (json).',
} as const satisfies OptionSpec

/** The same, checked as soon as it is met: whether it is for programs. */
export const outputChoice = {
  ...outputFormat,
  parse: (text: string) => wantsJson(text),
} as const satisfies OptionSpec

/** What verbs that write take. */
export const rehearsal = {
  dryRun: {
    long: 'dry-run',
    extension: true,
    help: 'Only tell what would be written, how large it gets where that can be known, and what would be lost.',
  },
  output: {
    ...outputFormat,
    extension: true,
    goesWith: ['dryRun'],
    help: 'With --dry-run: tell it for people (human, the default) or for programs (json).',
  },
} as const satisfies Record<string, OptionSpec>

export const sourceCache = {
  short: 'T',
  newer: ['cache'],
  argument: 'CACHE',
  help: 'Cache mode for reading: none, writeback, writethrough, directsync or unsafe.',
} as const satisfies OptionSpec

/** Reads `--output`, after all options were read, as QEMU does.
 *  @throws Failure */
export function wantsJson(output: string | undefined): boolean {
  if (output === undefined || output === 'human') return false
  if (output === 'json') return true
  throw new Failure('--output must be used with human or json as argument.')
}

/** The one operand of a verb that takes one.
 *  @throws Failure */
export function oneImage(operands: readonly string[]): string {
  const [name] = operands
  if (name === undefined || operands.length > 1) throw usageFailure('Expecting one image file name')
  return name
}
