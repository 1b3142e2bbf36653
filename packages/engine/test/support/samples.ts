/** Real images by other vendors' tools, kept outside the project: `MORAINE_SAMPLES`, or the folder `shared/samples` beside it. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { projectRoot, tool } from './process.ts'

/** Where the samples are, when they are there. */
export const samplesFolder: string | undefined = [
  process.env.MORAINE_SAMPLES ?? resolve(projectRoot, '../shared/samples'),
].find((path) => existsSync(join(path, 'MANIFEST.tsv')))

/** One row of `MANIFEST.tsv`. */
export interface Sample {
  /** Path within the folder. */
  file: string
  /** `positive`, `negative`, `truth`, `part`, `chain`, `detect`, `broken`. */
  kind: string
  /** Our name of the format. */
  format: string
  variant: string
  producer: string
  fileBytes: number
  fileSha: string
  /** What qemu-img takes it for; starts with `error` when it refuses it. */
  qemuFormat: string
  virtualSize: number | undefined
  /** sha256 of the guest's bytes as qemu-img reads them. */
  rawSha: string | undefined
  expectation: string
}

/** Every sample of the manifest; none where the folder is not there. */
export function samples(): Sample[] {
  if (samplesFolder === undefined) return []
  const [head = '', ...lines] = readFileSync(join(samplesFolder, 'MANIFEST.tsv'), 'utf8').trimEnd().split('\n')
  const names = head.split('\t')
  return lines.map((line) => {
    const cells = line.split('\t')
    const cell = (name: string): string => {
      const value = cells[names.indexOf(name)]
      if (value === undefined) throw new Error(`MANIFEST.tsv has no ${name}: ${line}`)
      return value
    }
    const optional = (name: string): string | undefined => (/^(-|)$/.test(cell(name)) ? undefined : cell(name))
    const size = optional('virtual_size')
    return {
      file: cell('file'),
      kind: cell('kind'),
      format: cell('format'),
      variant: cell('variant'),
      producer: cell('producer_tool'),
      fileBytes: Number(cell('file_bytes')),
      fileSha: cell('file_sha256'),
      qemuFormat: cell('qemu_img_7.2_format'),
      virtualSize: size === undefined || !/^\d+$/.test(size) ? undefined : Number(size),
      rawSha: optional('raw_sha256_qemu_img'),
      expectation: cell('expectation'),
    }
  })
}

/** The sample's own path; one that is compressed for storage is unpacked to `target` first. */
export function unpackedSample(sample: Sample, target: string): string {
  if (samplesFolder === undefined) throw new Error('the samples are not there')
  const path = join(samplesFolder, sample.file)
  if (path.endsWith('.gz')) writeFileSync(target, gunzipSync(readFileSync(path)))
  else if (path.endsWith('.bz2')) writeFileSync(target, execFileSync(bzip2(), ['-dc', path], { maxBuffer: 1 << 30 }))
  else return path
  return target
}

function bzip2(): string {
  const { path } = tool('bzip2')
  if (path === undefined) throw new Error('bzip2 is not installed')
  return path
}
