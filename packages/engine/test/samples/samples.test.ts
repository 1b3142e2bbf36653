/** Real images by other vendors' tools: they open, as the format they are, with the size and the bytes that the manifest tells. */
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { allFormats, type Disk, findFormat, isMoraineError, probeFormats } from '@moraine/engine'
import { openFile } from '@moraine/engine/node'
import { describe, expect, it } from 'vitest'
import { checkFile, closing, diskSha, openImage } from '../support/disk.ts'
import { temporaryFolder } from '../support/folder.ts'
import { bytesSha } from '../support/qemu.ts'
import { isDrawn } from '../support/random.ts'
import { type Sample, samples, samplesFolder, unpackedSample } from '../support/samples.ts'

const folder = temporaryFolder()
/** Those of formats that the engine has. */
const known = samples().filter(({ format }) => formatName(format) !== undefined)
const title = samplesFolder === undefined ? 'samples [skipped: the folder MORAINE_SAMPLES is not there]' : 'samples'

function formatName(format: string): string | undefined {
  return findFormat(allFormats, format)?.name
}

/** Hashing takes two seconds a GiB: of what is larger, that nothing is in it. */
const hashedAtMost = 32 * 2 ** 30
/** What is larger than this is hashed where it is drawn. */
const hashedAlways = 2 * 2 ** 30

/** The file, unpacked, with the extents that it names beside it. */
function fileOf(sample: Sample): string {
  const extents = samples().filter((other) => other.file.startsWith(sample.file.replace(/\.vmdk$/, '-flat.vmdk')))
  if (!sample.file.endsWith('.vmdk') || extents.length === 0) return unpackedSample(sample, folder.fresh())
  const beside = folder.fresh()
  mkdirSync(beside)
  const place = (one: Sample): string => join(beside, basename(one.file, '.gz'))
  for (const extent of extents) unpackedSample(extent, place(extent))
  copyFileSync(unpackedSample(sample, place(sample)), place(sample))
  return place(sample)
}

async function dataBytes(disk: Disk): Promise<number> {
  let bytes = 0
  for await (const batch of disk.extents(0, disk.size)) {
    for (const { zero, length } of batch) if (!zero) bytes += length
  }
  return bytes
}

const named = (list: Sample[]): [string, Sample][] =>
  list.map((sample) => [`${sample.file} (${sample.producer}, ${sample.variant})`, sample])
const good = known.filter(({ kind }) => ['positive', 'truth', 'part', 'detect'].includes(kind))
const bad = known.filter(({ kind }) => kind === 'negative' || kind === 'broken')

describe.skipIf(samplesFolder === undefined)(title, () => {
  it.each(named(known))('%s is the file of the manifest', (_name, sample) => {
    const stored = readFileSync(join(samplesFolder ?? '', sample.file))
    const unpacked = readFileSync(fileOf(sample))
    // A packed file may be listed by what is stored or by what it unpacks to.
    expect([bytesSha(stored), bytesSha(unpacked)]).toContain(sample.fileSha)
  })

  // One of them is hashed over 16 GiB.
  it.each(named(good))('%s reads as qemu-img reads it', { timeout: 300_000 }, async (_name, sample) => {
    const file = fileOf(sample)
    const format = formatName(sample.format) ?? ''
    const source = await openFile(file)
    try {
      const [best] = await probeFormats(source, allFormats)
      expect(best?.format.name, 'probed').toBe(format)
    } finally {
      await source.close()
    }
    await closing(await openImage(file, format), async (disk) => {
      if (sample.virtualSize !== undefined) expect(disk.size).toBe(sample.virtualSize)
      if (disk.size > hashedAtMost) expect(await dataBytes(disk)).toBe(0)
      else if (sample.rawSha !== undefined && (disk.size <= hashedAlways || isDrawn(sample.file)))
        expect(await diskSha(disk)).toBe(sample.rawSha)
    })
    if (findFormat(allFormats, format)?.check === undefined) return
    const { result, lines } = await checkFile(file, format)
    expect([result.corruptions, result.checkErrors], lines.join('; ')).toEqual([0, 0])
  })

  it.each(named(bad))('%s gives one clear error', async (_name, sample) => {
    const opened = openImage(fileOf(sample), formatName(sample.format) ?? '').then((disk) => closing(disk, diskSha))
    const error = await opened.then(
      () => undefined,
      (reason: unknown) => reason,
    )
    expect(isMoraineError(error), `${error}`).toBe(true)
  })

  it.each(named(known.filter(({ kind }) => kind === 'chain')))('%s wants its parent', async (_name, sample) => {
    const opened = openImage(fileOf(sample), formatName(sample.format) ?? '')
    await expect(opened).rejects.toMatchObject({ kind: 'missing', message: expect.stringContaining('fat-parent.vhd') })
  })

  it('two formats of one volume hold the same bytes', async () => {
    const whole = samples().filter(({ file }) => /dfvfs\/ext2\.splitraw\.\d+$/.test(file))
    const truth = Buffer.concat(whole.map((sample) => readFileSync(fileOf(sample))))
    const image = known.find(({ file }) => file === 'dfvfs/ext2.qcow2')
    if (image === undefined) throw new Error('dfvfs/ext2.qcow2 is not among the samples')
    expect(await closing(await openImage(fileOf(image), 'qcow2'), (disk) => diskSha(disk))).toBe(bytesSha(truth))
  })
})
