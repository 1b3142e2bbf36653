/** The engine in this process: images on files opened, created, hashed, listed. */
import { createHash } from 'node:crypto'
import {
  allFormats,
  type CheckResult,
  checkImage,
  createImage,
  type Disk,
  type DiskFormat,
  findFormat,
  isWritable,
  type MapEntry,
  MoraineError,
  mapDisk,
  type OpenOptions,
  type OptionValues,
  openDisk,
  readOptions,
  splitOptions,
  type WritableDisk,
} from '@moraine/engine'
import { fileGate, nodeCodecs, openFile } from '@moraine/engine/node'

type Purpose = OpenOptions['purpose']

/** A format by name. */
export function formatOf(name: string): DiskFormat {
  const format = findFormat(allFormats, name)
  if (format === undefined) throw new Error(`there is no format ${name}`)
  return format
}

/** Opens an image file, and what it names. */
export async function openImage(path: string, format: string, purpose?: Purpose): Promise<Disk> {
  return openDisk(await openFile(path), { formats: allFormats, format, gate: fileGate(), codecs: nodeCodecs, purpose })
}

/** Opens an image file for writing. Nothing is synced: these tests do not outlive a power cut. */
export async function openWritable(path: string, format: string, purpose?: Purpose): Promise<WritableDisk> {
  const source = await openFile(path, { mode: 'write', sync: 'unsafe' })
  const gate = fileGate({ sync: 'unsafe' })
  const disk = await openDisk(source, { formats: allFormats, format, mode: 'write', gate, codecs: nodeCodecs, purpose })
  if (!isWritable(disk)) throw new Error(`${path} was opened for writing and cannot be written`)
  return disk
}

/** Opens an image, works with it, closes it. */
export async function withImage<T>(path: string, format: string, work: (disk: Disk) => Promise<T>): Promise<T> {
  return closing(await openImage(path, format), work)
}

/** Opens an image for writing, works with it, closes it. */
export async function withWritable<T>(
  path: string,
  format: string,
  work: (disk: WritableDisk) => Promise<T>,
): Promise<T> {
  return closing(await openWritable(path, format), work)
}

/** Works with a disk, and closes it however that ends. */
export async function closing<D extends Disk, T>(disk: D, work: (disk: D) => Promise<T>): Promise<T> {
  let result: T
  try {
    result = await work(disk)
  } catch (error) {
    await disk.close().catch(() => {})
    throw error
  }
  await disk.close()
  return result
}

/** Options written as for `-o`, validated by the format. */
export function optionsOf(format: string, text: string): OptionValues {
  return readOptions(formatOf(format).options, splitOptions(text))
}

/** Creates an image file with options written as for `-o`; a backing file by name and format. */
export async function createFile(
  path: string,
  format: string,
  size: number | bigint,
  options = '',
  backing?: { name: string; format: string },
): Promise<void> {
  const store = await openFile(path, { mode: 'write', create: true, sync: 'unsafe' })
  const gate = fileGate()
  const opened: Disk[] = []
  try {
    const disk =
      backing === undefined
        ? undefined
        : await openImage(gate.resolve({ from: path, name: backing.name }), backing.format)
    if (disk !== undefined) opened.push(disk)
    await createImage(
      {
        store,
        // Beside the image whatever its role: the working folder of the tests is not theirs to write in.
        sibling: (name) =>
          openFile(gate.resolve({ from: path, name }), { mode: 'write', create: true, sync: 'unsafe' }),
      },
      formatOf(format),
      {
        size: BigInt(size),
        options: optionsOf(format, options),
        ...(backing === undefined ? {} : { backing: { ...backing, disk } }),
      },
    )
  } finally {
    for (const disk of opened) await disk.close()
    await store.close()
  }
}

/** sha256 of the guest's bytes, in hex. */
export async function diskSha(disk: Disk, chunk = 1 << 20): Promise<string> {
  const hash = createHash('sha256')
  const bytes = new Uint8Array(chunk)
  for (let at = 0; at < disk.size; at += chunk) {
    const part = bytes.subarray(0, Math.min(chunk, disk.size - at))
    // What was there before must not show through.
    part.fill(0xee)
    await disk.read(at, part)
    hash.update(part)
  }
  return hash.digest('hex')
}

/** All of `mapDisk`. */
export async function mapOf(disk: Disk): Promise<MapEntry[]> {
  const list: MapEntry[] = []
  for await (const batch of mapDisk(disk)) list.push(...batch)
  return list
}

/** `check` of an image file, with what it reported. */
export async function checkFile(
  path: string,
  format: string,
  repair: 'none' | 'leaks' | 'all' = 'none',
): Promise<{ result: CheckResult; lines: string[] }> {
  const lines: string[] = []
  const opening = repair === 'none' ? openImage(path, format, 'check') : openWritable(path, format, 'check')
  const result = await closing(await opening, (disk) =>
    checkImage(formatOf(format), disk, { repair, report: (line) => lines.push(line) }),
  )
  return { result, lines }
}

/** The kind of the `MoraineError` that a promise ends with; anything else is passed on. */
export async function kindOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise
  } catch (error) {
    if (error instanceof MoraineError) return error.kind
    throw error
  }
  return 'no error'
}
