/** Arguments that are not text. The system has bytes, of which this runtime makes UTF-8; what is none becomes U+FFFD, and would name another file. */
import { readFileSync } from 'node:fs'
import { Failure } from './failure.ts'

const replacement = '\uFFFD'

/** Refuses arguments whose bytes were lost. `args` are the last ones of the process.
 *  @throws Failure with `exitCode` */
export function refuseLostArguments(args: readonly string[], exitCode = 1): void {
  if (!args.some((argument) => argument.includes(replacement))) return
  const given = argumentBytes()?.slice(-args.length)
  for (const [at, bytes] of given?.entries() ?? []) {
    if (isText(bytes)) continue
    throw new Failure(`argument ${at + 1} is not UTF-8: '${escaped(bytes)}'`, {
      exitCode,
      hint: 'Names of files are text here. Rename the file, or reach it by a link with another name.',
    })
  }
}

/** The process's arguments as they were given; undefined where the system does not tell. */
function argumentBytes(): Buffer[] | undefined {
  let whole: Buffer
  try {
    whole = readFileSync('/proc/self/cmdline')
  } catch {
    return undefined
  }
  const found: Buffer[] = []
  for (let start = 0; start < whole.length; ) {
    const end = whole.indexOf(0, start)
    found.push(whole.subarray(start, end))
    start = end + 1
  }
  return found
}

function isText(bytes: Uint8Array): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    return true
  } catch {
    return false
  }
}

/** As the shell's `$'…'` takes it. */
function escaped(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) =>
    byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`,
  ).join('')
}
