/** What the operator does to all imported data on its way: unpack it, convert it. */
import {
  allFormats,
  type ByteSource,
  closedGate,
  findFormat,
  inspectSource,
  MoraineError,
  openDisk,
  openMember,
  planConversion,
  type StreamCodecs,
  unwrapSource,
  xzStream,
} from '@moraine/engine'
import { nodeCodecs, nodeStreamCodecs } from '@moraine/engine/node'
import type { Image } from '../catalog/image.ts'
import type { Config } from '../config.ts'
import { openAppliance } from '../inspect/appliance.ts'
import { judge } from '../inspect/judge.ts'
import { bytesOf } from './body.ts'

/** Data as it will be stored. */
export interface Processed {
  body: AsyncIterable<Uint8Array>
  /** Bytes that will come; undefined where nobody knows. */
  size: number | undefined
  diskFormat: string | null
  containerFormat: string | null
  close(): Promise<void>
}

type Plugins = Pick<Config, 'importConvert' | 'importDecompress' | 'requireFormatMatch' | 'imageSizeCap'>

const codecs: StreamCodecs = { ...nodeStreamCodecs, xz: xzStream(() => import('@napi-rs/lzma')) }

/** Whether the data is needed as a file, not only as a stream. */
export function needsFile({ importConvert, importDecompress }: Plugins): boolean {
  return importConvert !== '' || importDecompress
}

/** Does to the data what the settings say. `source` belongs to the result, also when this fails.
 *  @throws RefusedContent for data that nobody may upload; MoraineError for what cannot be unpacked or converted. */
export async function processData(
  source: ByteSource,
  image: Pick<Image, 'diskFormat' | 'containerFormat'>,
  plugins: Plugins,
  signal: AbortSignal,
): Promise<Processed> {
  let { containerFormat } = image
  let data = source
  if (plugins.importDecompress) {
    data = await unwrapSource(source, { formats: allFormats, codecs, limits: {}, signal })
    if (data !== source && containerFormat === 'compressed') containerFormat = 'bare'
  }
  if (plugins.importConvert !== '' && containerFormat === 'ova') {
    const inside = await onlyDisk(data, signal)
    if (inside !== undefined)
      return convert(inside.disk, { diskFormat: inside.format, containerFormat: 'bare' }, plugins, signal)
  }
  const plain: Processed = {
    body: bytesOf(data, signal),
    size: data.size,
    diskFormat: image.diskFormat,
    containerFormat,
    close: () => data.close(),
  }
  const target = plugins.importConvert
  const keeps = target === '' || containerFormat !== 'bare' || image.diskFormat === target || image.diskFormat === 'iso'
  return keeps ? plain : convert(data, { diskFormat: image.diskFormat ?? '', containerFormat: 'bare' }, plugins, signal)
}

/** The disk of an appliance that has one, as Glance's own plugin takes it out, and its format; undefined where there is none or several. The disk owns `data` then.
 *  @throws MoraineError for an appliance that is broken; RefusedContent for a disk in it that nobody may upload. */
async function onlyDisk(
  data: ByteSource,
  signal: AbortSignal,
): Promise<{ disk: ByteSource; format: string } | undefined> {
  const opened = await openAppliance(data, signal)
  if (opened === undefined) return undefined
  const disks: string[] = []
  for await (const { name, kind } of opened.members(signal)) if (kind === 'disk') disks.push(name)
  // The appliance only read the data: as it is, it is stored whole.
  if (disks.length !== 1) return undefined
  const disk = await openMember(opened, disks[0], signal)
  try {
    const { findings } = await inspectSource(disk)
    return { disk, format: findings.find(({ kind }) => kind === 'disk')?.format ?? 'raw' }
  } catch (error) {
    await disk.close()
    throw error
  }
}

async function convert(
  data: ByteSource,
  { diskFormat, containerFormat }: { diskFormat: string; containerFormat: string },
  { importConvert, requireFormatMatch }: Plugins,
  signal: AbortSignal,
): Promise<Processed> {
  try {
    const claim = { diskFormat, containerFormat, requireMatch: requireFormatMatch, requireBootKind: false }
    judge(await inspectSource(data), claim, true)
    const from = findFormat(allFormats, diskFormat)
    const format = findFormat(allFormats, importConvert)
    if (from === undefined || format?.stream === undefined) {
      throw new MoraineError('unsupported', `${diskFormat} cannot be converted to ${importConvert} here`)
    }
    const disk = await openDisk(data, { formats: allFormats, format: from.name, gate: closedGate, codecs: nodeCodecs })
    const plan = await planConversion(disk, { format })
    const stream = await plan.stream()
    return {
      body: stream.chunks(signal),
      size: stream.length,
      diskFormat: importConvert,
      containerFormat,
      close: () => disk.close(),
    }
  } catch (error) {
    await data.close().catch(() => {})
    throw error
  }
}

/** The setting `importInject`: `name=value,name=value`. */
export function injected(setting: string): Record<string, string> {
  const pairs = setting.split(',').flatMap((entry) => {
    const [, name = '', value = ''] = /^\s*([^=]+?)\s*=(.*)$/s.exec(entry) ?? []
    return name === '' || name.startsWith('os_glance_') ? [] : [[name, value.trim()]]
  })
  return Object.fromEntries(pairs) as Record<string, string>
}
