/** Encrypted images in tests: one password, our way to open them, and QEMU's and cryptsetup's. */
import { writeFileSync } from 'node:fs'
import {
  allFormats,
  type ByteSource,
  type ByteStore,
  createImage,
  type Disk,
  isWritable,
  MemoryStore,
  type OpenOptions,
  openDisk,
  type WritableDisk,
} from '@moraine/engine'
import { fileGate, nodeCodecs, nodeCrypto, openFile } from '@moraine/engine/node'
import { formatOf, optionsOf } from './disk.ts'
import { type RunResult, run, runOk, tool } from './process.ts'

/** The passwords of these tests. */
export const secrets = new Map(
  Object.entries({ s: 'correct horse', n: 'another', w: 'wrong' }).map(([id, text]) => [
    id,
    new TextEncoder().encode(text),
  ]),
)

/** What `--object` says of them. */
const objects = [...secrets].flatMap(([id, bytes]) => [
  '--object',
  `secret,id=${id},data=${new TextDecoder().decode(bytes)}`,
])

/** How an encrypted image is opened. */
export const opening: OpenOptions = {
  formats: allFormats,
  codecs: nodeCodecs,
  crypto: nodeCrypto,
  secrets,
  encryption: { keySecret: 's' },
}

/** Opens an image file for reading. */
export async function openEncrypted(path: string, format: string, more: Partial<OpenOptions> = {}): Promise<Disk> {
  return openDisk(await openFile(path), { ...opening, format, gate: fileGate(), ...more })
}

/** Opens an image for writing. */
export async function writeEncrypted(
  store: ByteSource | string,
  format: string,
  more: Partial<OpenOptions> = {},
): Promise<WritableDisk> {
  const source = typeof store === 'string' ? await openFile(store, { mode: 'write', sync: 'unsafe' }) : store
  const gate = fileGate({ sync: 'unsafe' })
  const disk = await openDisk(source, { ...opening, format, mode: 'write', gate, ...more })
  if (!isWritable(disk)) throw new Error('a disk opened for writing cannot be written')
  return disk
}

/** Creates an image in memory, or in a store. */
export async function createEncrypted(
  format: string,
  options: string,
  size: number,
  store: ByteStore = new MemoryStore({ name: `image.${format}` }),
): Promise<ByteStore> {
  const sibling = (): Promise<ByteStore> => Promise.reject(new Error('no second file'))
  const target = { store, sibling, crypto: nodeCrypto, secrets }
  await createImage(target, formatOf(format), { size: BigInt(size), options: optionsOf(format, options) })
  return store
}

/** All bytes of a disk or a store. */
export async function bytesOf(source: ByteSource): Promise<Uint8Array> {
  const bytes = new Uint8Array(source.size)
  await source.read(0, bytes)
  return bytes
}

/** Writes what a store holds into a file. */
export async function save(store: ByteSource, path: string): Promise<string> {
  writeFileSync(path, await bytesOf(store))
  return path
}

/** How QEMU is told of an image and its password. */
export function imageOptions(path: string, format: string, secret = 's'): string {
  return `driver=${format},${format === 'luks' ? '' : 'encrypt.'}key-secret=${secret},file.filename=${path}`
}

/** Runs the real qemu-img with the passwords, until it can measure the processor: on a busy machine it fails by chance. */
export async function tryQemu(verb: string, ...args: string[]): Promise<RunResult> {
  for (let turn = 0; ; turn++) {
    const result = await run(tool('qemu-img').path ?? '', [verb, ...objects, ...args])
    if (turn > 100 || !result.stderr.includes('Unable to get accurate CPU usage')) return result
  }
}

/** The same, which must end with 0. */
export async function qemu(verb: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await tryQemu(verb, ...args)
  if (code !== 0) throw new Error(`qemu-img ${verb} ${args.join(' ')}: ${stdout}${stderr}`)
  return stdout
}

/** Runs cryptsetup, with a password on its standard input. */
export function cryptsetup(args: readonly string[], password: string): Promise<string> {
  return runOk(tool('cryptsetup').path ?? '', ['-q', ...args], { input: password })
}
