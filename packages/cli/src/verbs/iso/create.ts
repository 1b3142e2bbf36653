/** `iso create`: an ISO 9660 image of folders and files. */
import { statSync } from 'node:fs'
import { type IsoLevel, type NewBootImage, type NewVolumeTexts, planIsoVolume } from '@moraine/engine'
import { Failure, failureFrom, usageFailure } from '../../failure.ts'
import { readGivenFile } from '../../given-file.ts'
import { hostFailure } from '../../host-failure.ts'
import { collect, readSourceList, sourceDate } from '../../iso/collect.ts'
import { pathOf } from '../../open.ts'
import { showProgress } from '../../output/progress.ts'
import { type Context, defineVerb, type Values } from '../../verb.ts'
import { packStream, targetWrapping } from '../../wrappers.ts'
import { progressMode, quiet, rehearsal, showProgress as showProgressOption, wantsJson } from '../common.ts'

const options = {
  volumeId: { short: 'V', long: 'volume-id', argument: 'TEXT', help: 'Name of the volume, up to 32 characters.' },
  publisher: { long: 'publisher', argument: 'TEXT', help: 'Who publishes it.' },
  preparer: { long: 'preparer', argument: 'TEXT', help: 'Who made it.' },
  application: { long: 'application', argument: 'TEXT', help: 'What made it.' },
  systemId: { long: 'system-id', argument: 'TEXT', help: 'The system that it is for.' },
  volumeSetId: { long: 'volume-set', argument: 'TEXT', help: 'Name of the set of volumes.' },
  level: {
    long: 'iso-level',
    argument: 'N',
    help: 'Plain names of eight characters and three (1), or of 31 (2, and 3, the default).',
    parse(text: string): IsoLevel {
      if (text === '1' || text === '2' || text === '3') return Number(text) as IsoLevel
      throw new Failure('--iso-level must be used with 1, 2 or 3')
    },
  },
  noJoliet: { long: 'no-joliet', help: 'Leave out the names of Joliet, which Windows reads.' },
  noRockRidge: { long: 'no-rock-ridge', help: 'Leave out Rock Ridge: names, modes and links for Linux and others.' },
  bios: {
    short: 'b',
    long: 'boot',
    argument: 'PATH',
    help: 'Boot this file of the image with a BIOS, without emulation, as isolinux and GRUB want it.',
  },
  loadSectors: {
    long: 'boot-load-size',
    argument: 'N',
    help: 'Sectors of 512 bytes that the BIOS loads; 4 when not given.',
    parse(text: string): number {
      if (/^\d{1,5}$/.test(text) && Number(text) > 0 && Number(text) <= 0xffff) return Number(text)
      throw new Failure('--boot-load-size must be used with a number from 1 to 65535')
    },
  },
  infoTable: { long: 'boot-info-table', help: 'Write the boot information table into the file of --boot.' },
  efi: { short: 'e', long: 'efi-boot', argument: 'PATH', help: 'Boot this file of the image, a FAT image, with EFI.' },
  systemArea: {
    long: 'system-area',
    argument: 'FILE',
    help: 'Put the first 32 KiB of FILE before the volume: boot code and a partition table.',
  },
  hybrid: {
    long: 'hybrid',
    help: 'Write a partition table, too, whose one partition is the image of --efi-boot: a USB stick with it boots with EFI as a disc does.',
  },
  list: {
    short: 'T',
    long: 'files-from',
    argument: 'FILE',
    help: 'Take sources from FILE too, one on each line; - is standard input.',
  },
  owners: { long: 'keep-owners', help: 'Keep user and group ids; otherwise all belongs to root.' },
  padding: { long: 'pad', help: 'Add 300 KiB of zeros, which drives want behind what is burnt on a disc.' },
  percent: showProgressOption,
  progress: progressMode,
  quiet,
  ...rehearsal,
} as const

const paddingSectors = 150
const systemAreaBytes = 32 * 1024

export const verb = defineVerb({
  name: 'iso create',
  summary: 'Make an ISO 9660 image of folders and files',
  operands: 'TARGET SOURCE...',
  syntax: '',
  about:
    'Of a folder its content is taken, a file under its own name, and PATH=SOURCE under that path. The image has Joliet and Rock Ridge, files of any size, and deep folders; it is written front to back, so that - ' +
    '(standard output) and names that end in .gz, .xz or .zst do. The same files make the same image when SOURCE_DATE_EPOCH is set: no time is later than it then.',
  examples: [
    ['moraine iso create -V DATA data.iso folder', 'a folder'],
    [
      'moraine iso create -b isolinux/isolinux.bin --boot-info-table -e boot/efi.img live.iso tree',
      'bootable with BIOS and EFI',
    ],
    ['moraine iso create --hybrid -e boot/efi.img live.iso tree', 'for discs and USB sticks'],
    [
      'moraine iso create - boot/vmlinuz=vmlinuz-6.1 README | ssh host "cat > small.iso"',
      'single files, through a pipe',
    ],
  ],
  options,
  async run(values, [name, ...operands], context) {
    const sources = [...operands, ...(values.list === undefined ? [] : await readSourceList(values.list))]
    if (name === undefined || sources.length === 0) throw usageFailure('Expecting a target and what goes into it')
    const newest = sourceDate()
    const taking = { owners: values.owners, newest, warn: context.warn }
    const { entries, identities } = await attempt(context, async () => collect(sources, taking))
    refuseOwnSource(name, context, identities)
    const time = newest ?? Math.floor(Date.now() / 1000)
    const plan = await attempt(context, async () =>
      planIsoVolume(entries, {
        ...texts(values),
        time,
        level: values.level,
        joliet: !values.noJoliet,
        rockRidge: !values.noRockRidge,
        boot: bootImages(values),
        systemArea:
          values.systemArea === undefined
            ? undefined
            : (await readGivenFile(values.systemArea)).subarray(0, systemAreaBytes),
        hybrid: values.hybrid,
        padding: values.padding ? paddingSectors : 0,
      }),
    )
    if (!values.quiet) for (const note of plan.notes) context.err.write(`${context.persona.name}: note: ${note}\n`)
    const toPipe = context.persona.readName(name).kind === 'stdio'
    if (values.dryRun) {
      const { planFile, printPlan } = await import('../../dry-run.ts')
      const packed = targetWrapping(name, undefined, context.persona) !== undefined
      const writes = [`${entries.length} entries${packed ? `, ${plan.length} bytes before they are packed` : ''}`]
      const size = packed ? undefined : plan.length
      printPlan(context, planFile('iso create', toPipe ? '-' : name, { writes, size }), wantsJson(values.output))
      return 0
    }
    const display = await showProgress(context, values, {
      operation: 'create',
      outputTaken: toPipe,
    })
    try {
      const run = { signal: context.signal, onProgress: display.onProgress }
      const wrapping = targetWrapping(name, undefined, context.persona)
      const stream = packStream(plan, wrapping, display.onProgress)
      await attempt(context, async () => {
        if (toPipe) return await (await import('../../output/pipe.ts')).writeStream(stream, run)
        const { writeStreamToFile } = await import('../../output/stream-file.ts')
        await writeStreamToFile(context, stream, { name, cache: 'unsafe', sources: [] }, run)
      })
      display.finish()
    } finally {
      display.end()
    }
    return 0
  },
})

function texts(values: Values<typeof options>): NewVolumeTexts {
  const { volumeId, publisher, preparer, application, systemId, volumeSetId } = values
  return { volumeId: volumeId ?? 'ISOIMAGE', publisher, preparer, application, systemId, volumeSetId }
}

function bootImages({ bios, efi, loadSectors, infoTable, hybrid }: Values<typeof options>): NewBootImage[] {
  if (bios === undefined && (infoTable || loadSectors !== undefined)) {
    throw new Failure('--boot-info-table and --boot-load-size are about the file of --boot, which is not given')
  }
  if (hybrid && efi === undefined) throw new Failure('--hybrid is about the file of --efi-boot, which is not given')
  return [
    ...(bios === undefined ? [] : [{ path: bios, platform: 'bios', loadSectors, infoTable } as const]),
    ...(efi === undefined ? [] : [{ path: efi, platform: 'efi' } as const]),
  ]
}

/** An image that is there already would be emptied before it is read as one of the files. */
function refuseOwnSource(name: string, { persona }: Context, identities: ReadonlySet<string>): void {
  if (persona.readName(name).kind === 'stdio') return
  const there = statSync(pathOf(name, persona), { throwIfNoEntry: false })
  if (there === undefined || !identities.has(`${there.dev}:${there.ino}`)) return
  throw new Failure(`'${name}' is one of the files that would go into it`)
}

async function attempt<Result>(context: Context, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work()
  } catch (error) {
    throw failureFrom(hostFailure(error), context.persona)
  }
}
