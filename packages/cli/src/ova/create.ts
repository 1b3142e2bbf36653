/** Makes appliances of disks of any format. */
import { readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import {
  type ApplianceTarget,
  applianceTargets,
  type Disk,
  MoraineError,
  type NewAppliance,
  type NewApplianceDisk,
  type PackageSink,
  type Progress,
  planConversion,
  streamOva,
  vmdk,
  writeOva,
  writeOvf,
} from '@moraine/engine'
import { codeOf, imageLocks, type NewFile, newFile, nodeSigning, strerror } from '@moraine/engine/node'
import { Failure } from '../failure.ts'
import { longerDisk } from '../longer-disk.ts'
import type { Context } from '../verb.ts'

const MiB = 1024 * 1024

/** The one who imports, by a name or another name.
 *  @throws Failure with the list */
export function targetNamed(name: string): ApplianceTarget {
  const found = applianceTargets.find((target) => target.name === name || target.aliases.includes(name))
  if (found !== undefined) return found
  const known = applianceTargets.map((target) => `${target.name} (${[...target.aliases].join(', ')})`).join('; ')
  throw new Failure(`Unknown target '${name}': known are ${known}`)
}

/** What the files of an appliance are called, by the name of its file. */
export function baseName(path: string): string {
  const base = basename(path)
    .replace(/\.(?:ova|ovf)$/i, '')
    .replace(/[^\w.-]+/g, '_')
    .replace(/^[^\w]+/, '')
    .slice(0, 80)
  return base === '' ? 'appliance' : base
}

/** Key and certificate of `--sign KEY,CERTIFICATE`; the passphrase from the first line of a file.
 *  @throws Failure */
export function readSigner(text: string, passphraseFile: string | undefined): NonNullable<NewAppliance['signer']> {
  const comma = text.lastIndexOf(',')
  if (comma <= 0 || comma === text.length - 1)
    throw new Failure(`Invalid argument '${text}' of --sign: KEY,CERTIFICATE is expected, two files in PEM`)
  const read = (path: string) => {
    try {
      return readFileSync(path, 'utf8')
    } catch (cause) {
      throw new Failure(`Could not read '${path}': ${strerror(codeOf(cause))}`)
    }
  }
  const passphrase = passphraseFile === undefined ? undefined : read(passphraseFile).split(/\r?\n/)[0]
  return { key: read(text.slice(0, comma)), passphrase, certificate: read(text.slice(comma + 1)) }
}

/** Bytes that a new appliance's disks have in use, before any is packed; each counts as often as it is packed. */
export class ApplianceProgress {
  readonly #show: ((progress: Progress) => void) | undefined
  readonly #passes: number
  readonly #done: number[] = []
  #total = 0

  /** @param passes how often each disk is packed */
  constructor(show: ((progress: Progress) => void) | undefined, passes: number) {
    this.#show = show
    this.#passes = passes
  }

  /** One more disk; what its packing tells goes there. */
  disk(bytes: number): ((progress: Progress) => void) | undefined {
    const show = this.#show
    if (show === undefined) return undefined
    const index = this.#done.push(0) - 1
    this.#total += bytes * this.#passes
    let pass = 0
    let last = 0
    return ({ done, total }) => {
      if (done < last) pass++
      last = done
      const share = total === 0 ? 0 : done / total
      this.#done[index] = Math.round(Math.min(pass + share, this.#passes) * bytes)
      show({ done: this.#done.reduce((sum, each) => sum + each, 0), total: this.#total })
    }
  }
}

/** A disk as the new appliance takes it: whole MiB, as importers want, in a streamOptimized VMDK. `say` is told what else that means. */
export async function applianceDisk(
  source: Disk,
  progress: ApplianceProgress,
  say: (sentence: string) => void,
): Promise<NewApplianceDisk> {
  const capacity = Math.max(MiB, Math.ceil(source.size / MiB) * MiB)
  let populated = 0
  if (source.size > 0) {
    for await (const batch of source.extents(0, source.size)) {
      for (const { zero, length } of batch) if (!zero) populated += length
    }
  }
  const plan = await planConversion(await longerDisk(source, capacity, say), {
    format: vmdk,
    options: { subformat: 'streamOptimized', adapter_type: 'lsilogic' },
    compress: true,
  })
  return { capacity, populated, stream: await plan.stream({ onProgress: progress.disk(populated) }) }
}

/** Writes the appliance as what the name of the target says: a package beside one another (`.ovf`), or one archive.
 *  @throws MoraineError */
export async function writeAppliance(context: Context, path: string, appliance: NewAppliance): Promise<void> {
  const files: NewFile[] = []
  const giveUp = () => {
    for (const file of files) file.abandonNow()
  }
  process.once('exit', giveUp)
  const begin = async (name: string): Promise<NewFile> => {
    const file = await newFile(name, { lock: imageLocks.create })
    files.push(file)
    return file
  }
  const open: NewFile[] = []
  try {
    if (/\.ovf$/i.test(path)) {
      const sink: PackageSink = async (name) => {
        const file = await begin(name === `${appliance.base}.ovf` ? path : join(dirname(path), name))
        open.push(file)
        return {
          store: file.store,
          async done() {
            await file.store.flush()
            await file.store.close()
            open.splice(open.indexOf(file), 1)
          },
        }
      }
      await writeOvf(sink, appliance, { signal: context.signal })
    } else {
      const file = await begin(path)
      open.push(file)
      await writeOva(file.store, appliance, { signal: context.signal })
      await file.store.flush()
      await file.store.close()
      open.pop()
    }
    for (const file of files) await file.publish()
  } catch (error) {
    for (const file of open) await file.store.close().catch(() => {})
    for (const file of files) {
      await file.abandon()
      if (file.inPlace) context.warn(`'${file.path}' was there before and is incomplete now.`)
    }
    throw error
  } finally {
    process.removeListener('exit', giveUp)
  }
}

/** Writes the appliance to standard output.
 *  @throws Failure */
export async function pipeAppliance(context: Context, appliance: NewAppliance): Promise<void> {
  const { writeStream } = await import('../output/pipe.ts')
  await writeStream(await streamOva(appliance, { signal: context.signal }), { signal: context.signal })
}

/** Signs and hashes. */
export const signing = nodeSigning

/** Refuses a target that is one of the sources.
 *  @throws MoraineError `invalid` */
export function refuseSource(path: string, names: readonly string[]): void {
  if (names.includes(path))
    throw new MoraineError('invalid', 'the appliance would be written over one of its disks', { path, field: 'target' })
}
