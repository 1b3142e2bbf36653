/** `iso info`: the facts of an ISO 9660 image. */
import type { IsoBootImage, IsoFileSystem } from '@moraine/engine'
import { printFields, printJson } from '../../image/print.ts'
import { timeText } from '../../iso/describe.ts'
import { namesOption, withIso } from '../../iso/open.ts'
import { sizeText } from '../../output/size.ts'
import { defineVerb } from '../../verb.ts'
import { format, oneImage, outputFormat, trust, wantsJson } from '../common.ts'

export const verb = defineVerb({
  name: 'iso info',
  summary: 'Show the facts of an ISO 9660 image',
  operands: 'FILE',
  syntax: '',
  about:
    'Shows the identifiers and times of the volume, which names it has, what can be booted, and whether it is a disk, too. All directories are read, to count files and to compare them with the path tables.',
  examples: [['moraine iso info debian.iso', 'for people']],
  options: { ...trust, format: { ...format, long: 'format' }, names: namesOption, output: outputFormat },
  async run(values, operands, context) {
    const name = oneImage(operands)
    const json = wantsJson(values.output)
    await withIso(context, { name, format: values.format, names: values.names }, async (files) => {
      const facts = await readFacts(files)
      if (json) printJson(context.out, facts)
      else printFields(context.out, rows(facts))
    })
    return 0
  },
})

type Facts = Awaited<ReturnType<typeof readFacts>>

async function readFacts(files: IsoFileSystem) {
  const { descriptors, rockRidge, source } = files
  const { primary, supplementary, udf } = descriptors
  const counts = { files: 0, directories: 1, others: 0, bytes: 0 }
  for await (const { kind, size } of files.walk()) {
    if (kind === 'directory') counts.directories++
    else if (kind !== 'file') counts.others++
    else {
      counts.files++
      counts.bytes += size
    }
  }
  const pathTables = await files.checkPathTables()
  const catalog = await files.bootCatalog()
  const area = await files.systemArea()
  return {
    volume: primary.volumeId,
    'system-id': primary.systemId,
    'volume-set': primary.volumeSetId,
    publisher: primary.publisher,
    preparer: primary.preparer,
    application: primary.application,
    created: timeText(primary.created),
    modified: timeText(primary.modified),
    expires: timeText(primary.expires),
    'block-size': primary.blockSize,
    'volume-size': primary.spaceSize * primary.blockSize,
    'image-size': source.size,
    names: [
      ...(rockRidge ? ['rock-ridge'] : []),
      ...(supplementary.some(({ kind }) => kind === 'joliet') ? ['joliet'] : []),
      ...(supplementary.some(({ kind }) => kind === 'enhanced') ? ['enhanced'] : []),
      'plain',
    ],
    shown: files.names,
    udf,
    files: counts.files,
    directories: counts.directories,
    others: counts.others,
    'file-bytes': counts.bytes,
    boot:
      catalog === undefined
        ? undefined
        : { id: catalog.id, valid: catalog.valid, offset: catalog.offset, images: catalog.images },
    mbr: area.mbr,
    gpt: area.gpt,
    apple: area.apple,
    'path-tables': { directories: pathTables.directories, faults: pathTables.faults },
  }
}

function rows(facts: Facts): (readonly [string, unknown])[] {
  const bytes = (size: number): string => `${sizeText(size)} (${size} bytes)`
  const hybrid = [
    ...(facts.mbr === undefined ? [] : [`MBR (${facts.mbr.length} partitions)`]),
    ...(facts.gpt ? ['GPT'] : []),
    ...(facts.apple ? ['Apple partition map'] : []),
  ]
  const texts = [
    'system-id',
    'volume-set',
    'publisher',
    'preparer',
    'application',
    'created',
    'modified',
    'expires',
  ] as const
  const { faults, directories } = facts['path-tables']
  return [
    ['volume', facts.volume],
    ...texts.flatMap((key) => ((facts[key] ?? '') === '' ? [] : [[key.replace('-', ' '), facts[key]] as const])),
    ['block size', facts['block-size']],
    ['volume size', bytes(facts['volume-size'])],
    ['image size', bytes(facts['image-size'])],
    ['names', `${facts.names.join(', ')}; shown: ${facts.shown}`],
    ...(facts.udf === undefined ? [] : [['UDF', `${facts.udf}, not read`] as const]),
    ['files', `${facts.files}, ${bytes(facts['file-bytes'])}`],
    ['directories', facts.directories],
    ...(facts.others === 0 ? [] : [['links, devices', facts.others] as const]),
    ...(facts.boot?.images ?? []).map((image) => ['boot', bootText(image)] as const),
    ...(facts.boot?.valid === false ? [['boot', 'the catalogue has a wrong checksum or signature'] as const] : []),
    ...(hybrid.length === 0 ? [] : [['disk, too', hybrid.join(', ')] as const]),
    ['path tables', faults.length === 0 ? `sound, ${directories} directories` : faults.join('; ')],
  ]
}

function bootText({ platform, bootable, emulation, offset, length, bootInfoTable }: IsoBootImage): string {
  return [
    platform,
    ...(bootable ? [] : ['not bootable']),
    ...(emulation === 'none' ? [] : [`as ${emulation}`]),
    `${length} bytes at ${offset}`,
    ...(bootInfoTable === undefined ? [] : [`boot information table ${bootInfoTable}`]),
  ].join(', ')
}
