/** QEMU's tools as oracles. */
import { createHash } from 'node:crypto'
import { createReadStream, rmSync } from 'node:fs'
import { type RunResult, type RunSettings, run, runOk, tool } from './process.ts'

function command(name: string): string {
  const { path } = tool(name)
  if (path === undefined) throw new Error(`${name} is not installed; guard the test with describeWith`)
  return path
}

/** Runs the real qemu-img, which must end with 0; its standard output. */
export function qemuImg(...args: string[]): Promise<string> {
  return runOk(command('qemu-img'), args)
}

/** Runs the real qemu-img, whatever its exit code. */
export function tryQemuImg(args: readonly string[], settings: RunSettings = {}): Promise<RunResult> {
  return run(command('qemu-img'), args, settings)
}

/** Runs qemu-io commands on an image of the given format; all must succeed. Lines as in `write -P 0x11 0 64k`. */
export async function qemuIo(file: string, format: string, ...lines: string[]): Promise<string> {
  const open = ['-f', format, file]
  const result = await run(command('qemu-io'), [...lines.flatMap((line) => ['-c', line]), ...open])
  const text = result.stdout + result.stderr
  // qemu-io ends with 0 after some failed commands; its words tell.
  if (result.code !== 0 || /failed|error|can't|Could not|Invalid/i.test(text)) {
    throw new Error(`qemu-io ${open.join(' ')}: ${lines.join('; ')}: exit ${result.code}\n${text}`)
  }
  return text
}

/** Runs qemu-io and kills it at the end of its commands, so that nothing is closed cleanly. */
export async function qemuIoKilled(file: string, format: string, ...lines: string[]): Promise<void> {
  const args = [...lines, 'flush', 'sigraise 9'].flatMap((line) => ['-c', line])
  const result = await run(command('qemu-io'), [...args, '-f', format, file])
  if (result.signal !== 'SIGKILL') throw new Error(`qemu-io was not killed:\n${result.stdout}${result.stderr}`)
}

/** sha256 of a whole file, in hex. */
export async function fileSha(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer)
  return hash.digest('hex')
}

/** sha256 of bytes, in hex. */
export function bytesSha(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** sha256 of the guest's bytes, as qemu-img reads them (`snapshot` by name reads an internal snapshot). */
export async function guestSha(file: string, format: string, snapshot?: string): Promise<string> {
  const raw = `${file}.guest-${Math.random().toString(36).slice(2)}`
  try {
    await qemuImg(
      'convert',
      '-U',
      '-f',
      format,
      '-O',
      'raw',
      ...(snapshot === undefined ? [] : ['-l', snapshot]),
      file,
      raw,
    )
    return await fileSha(raw)
  } finally {
    rmSync(raw, { force: true })
  }
}

/** One entry of `qemu-img map --output=json`. */
export interface QemuMapEntry {
  start: number
  length: number
  depth: number
  present: boolean
  zero: boolean
  data: boolean
  offset?: number
  filename?: string
}

/** `qemu-img map`. Keys that only newer releases print are left out. */
export async function qemuMap(file: string, format: string): Promise<QemuMapEntry[]> {
  const list = JSON.parse(await qemuImg('map', '-U', '-f', format, '--output=json', file)) as (QemuMapEntry & {
    compressed?: boolean
  })[]
  return list.map(({ compressed: _compressed, ...entry }) => entry)
}

/** `qemu-img info` of the image alone, without what only newer releases print. */
export async function qemuInfo(file: string, format: string): Promise<Record<string, unknown>> {
  const info = JSON.parse(await qemuImg('info', '-U', '-f', format, '--output=json', file)) as Record<string, unknown>
  delete info.children
  return info
}

/** `qemu-img check`. */
export interface QemuCheck {
  code: number
  'check-errors': number
  leaks?: number
  corruptions?: number
  'leaks-fixed'?: number
  'corruptions-fixed'?: number
  'image-end-offset'?: number
  'total-clusters'?: number
  'allocated-clusters'?: number
  'fragmented-clusters'?: number
  'compressed-clusters'?: number
}

/** `qemu-img check`, with its exit code; undefined when it could not open the image. */
export async function qemuCheck(
  file: string,
  format: string,
  repair?: 'leaks' | 'all',
  settings?: RunSettings,
): Promise<(QemuCheck & { stderr: string }) | undefined> {
  const how = repair === undefined ? ['-U'] : ['-r', repair]
  const result = await tryQemuImg(['check', '--output=json', '-f', format, ...how, file], settings)
  if (result.stdout.trim() === '') return undefined
  return { ...(JSON.parse(result.stdout) as QemuCheck), code: result.code, stderr: result.stderr }
}

/** Asserts in words that the image has neither corruption nor leaks. */
export async function expectClean(file: string, format: string): Promise<void> {
  const check = await qemuCheck(file, format)
  if (check === undefined) throw new Error(`qemu-img check could not open ${file}`)
  if (check.code !== 0)
    throw new Error(`qemu-img check ${file}: exit ${check.code}\n${JSON.stringify(check, undefined, 1)}`)
}
