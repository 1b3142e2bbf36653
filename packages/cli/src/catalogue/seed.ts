/** The seed beside a pulled disk: what `moraine seed` makes of the same user data, for cloud-init's NoCloud. */
import { existsSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { extname } from 'node:path'
import { newFormatNamed } from '../formats.ts'
import { readGivenFile } from '../given-file.ts'
import { mediumOf, readCreationOptions } from '../options.ts'
import { seedVolume, writeSeedImage } from '../seed/disk.ts'
import { type SeedFiles, seedFiles } from '../seed/files.ts'
import type { Context } from '../verb.ts'

/** Reads user data and checks that cloud-init would take it.
 *  @throws Failure */
export async function readSeed(userData: string): Promise<SeedFiles> {
  return await seedFiles({
    kind: 'nocloud',
    userData: { name: userData, bytes: await readGivenFile(userData) },
    sshKeys: [],
  })
}

/** `disk-seed.iso` for `disk.vmdk`. */
export function seedName(disk: string): string {
  return `${disk.slice(0, disk.length - extname(disk).length)}-seed.iso`
}

/** Makes the seed and then the disk; a seed that is new goes again when the disk cannot be made.
 *  @throws MoraineError, Failure */
export async function besideSeed(
  context: Context,
  files: SeedFiles,
  disk: string,
  makeDisk: () => Promise<void>,
): Promise<void> {
  const name = seedName(disk)
  const isNew = !existsSync(name)
  const format = newFormatNamed('raw', context.persona)
  const options = readCreationOptions(format, mediumOf(name, context.persona), [], context.warn)
  const time = Math.floor(Date.now() / 1000)
  await writeSeedImage(context, seedVolume(files, 'iso', time), { name, format, options })
  try {
    await makeDisk()
  } catch (error) {
    if (isNew) await rm(name, { force: true })
    throw error
  }
}
