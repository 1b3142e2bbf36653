/** `seed`: a disk that tells cloud-init about a new machine. */
import { extname } from 'node:path'
import { allFormats, type StreamPlan } from '@moraine/engine'
import { Failure, failureFrom, usageFailure } from '../failure.ts'
import { newFormatNamed } from '../formats.ts'
import { readGivenFile } from '../given-file.ts'
import { sourceDate } from '../iso/collect.ts'
import { filePlacement, mediumOf, optionPairs, readCreationOptions } from '../options.ts'
import type { SeedFiles } from '../seed/files.ts'
import {
  type GivenFile,
  type SeedFileSystem,
  type SeedKind,
  type SeedRequest,
  seedFileSystems,
  seedKinds,
} from '../seed/kinds.ts'
import { type Context, defineVerb, type Values } from '../verb.ts'
import { quiet, rehearsal, wantsJson } from './common.ts'

const options = {
  userData: {
    short: 'u',
    long: 'user-data',
    argument: 'FILE',
    help: 'What the machine shall do: a #cloud-config, a script, or anything else that cloud-init takes.',
  },
  metaData: {
    short: 'm',
    long: 'meta-data',
    argument: 'FILE',
    help: 'What the machine is: a mapping of YAML or JSON. There always is one; options add to it.',
  },
  networkConfig: {
    short: 'n',
    long: 'network-config',
    argument: 'FILE',
    help: 'Its network: version 1 or 2 (netplan) for nocloud, network data of OpenStack for config-drive.',
  },
  vendorData: { long: 'vendor-data', argument: 'FILE', help: 'As --user-data, which comes before it.' },
  sshKeys: {
    short: 'k',
    long: 'ssh-key',
    argument: 'FILE',
    collect: true,
    help: 'Public keys that may log in as the default user. May be given several times.',
  },
  password: {
    long: 'password',
    argument: 'TEXT',
    help: "The default user's password, kept as a hash (SHA-512 crypt) alone; a hash of crypt(3) is taken as it is. Others on this machine may see a command line: --password-file is safer.",
  },
  passwordFile: {
    long: 'password-file',
    argument: 'FILE',
    help: 'The password is the first line of FILE; - is standard input.',
  },
  hostname: { short: 'H', long: 'hostname', argument: 'NAME', help: 'The name of the machine.' },
  instanceId: {
    short: 'i',
    long: 'instance-id',
    argument: 'ID',
    help: 'Tells cloud-init whether this is the machine that it knows; made of the content when not given, so that a changed seed counts as a new machine.',
  },
  kind: {
    long: 'type',
    argument: 'TYPE',
    help: 'nocloud (the default), or config-drive, as OpenStack makes it.',
    parse(text: string): SeedKind {
      const kind = seedKinds.find((known) => known === text)
      if (kind === undefined) throw new Failure(`--type must be used with one of ${seedKinds.join(', ')}`)
      return kind
    },
  },
  fileSystem: {
    long: 'format',
    argument: 'FS',
    help: 'The file system: iso (the default) or fat.',
    parse(text: string): SeedFileSystem {
      const known = seedFileSystems.find((one) => one === text)
      if (known === undefined) throw new Failure(`--format must be used with one of ${seedFileSystems.join(', ')}`)
      return known
    },
  },
  outputFormat: {
    short: 'O',
    argument: 'FMT',
    help: 'Format of the image; by the end of its name when not given, and raw where that says nothing.',
  },
  imageOptions: { short: 'o', argument: 'OPTIONS', collect: true, help: 'Options of that format, as in convert.' },
  quiet,
  ...rehearsal,
} as const

export const verb = defineVerb({
  name: 'seed',
  summary: 'Make the disk that tells cloud-init about a new machine',
  operands: 'TARGET',
  syntax: '',
  about:
    'Attach the disk to a virtual machine that runs an image of a cloud: on its first start cloud-init finds it by its label and does what it says. What cloud-init would not take is refused: user-data that ' +
    "begins as nothing it knows, YAML with faults, private keys, passwords that are already set. With '-' as the target the file system is written to standard output. With SOURCE_DATE_EPOCH the same files make the same seed (of a password, " +
    'give the hash).',
  examples: [
    ['moraine seed seed.iso --hostname web --ssh-key ~/.ssh/id_ed25519.pub', 'a name and a key'],
    ['moraine seed seed.qcow2 --user-data user-data.yaml --network-config net.yaml', 'from files, as qcow2'],
    ['moraine seed config.iso --type config-drive --user-data user-data.yaml', 'as OpenStack makes it'],
    ['openssl passwd -6 | moraine seed seed.img --format fat --password-file -', 'on FAT, with a hash from elsewhere'],
  ],
  options,
  async run(values, [name, ...more], context) {
    if (name === undefined || more.length > 0) throw usageFailure('Expecting one target')
    const request = await readRequest(values)
    const { seedFiles } = await import('../seed/files.ts')
    const { seedVolume, writeSeedImage } = await import('../seed/disk.ts')
    const files = await seedFiles(request)
    try {
      const time = sourceDate() ?? Math.floor(Date.now() / 1000)
      const volume = seedVolume(files, values.fileSystem ?? 'iso', time)
      if (values.dryRun) return await rehearse(context, name, values, files, volume)
      if (context.persona.readName(name).kind === 'stdio') {
        if (values.outputFormat !== undefined && values.outputFormat !== 'raw')
          throw new Failure('standard output takes raw only')
        const { writeStream } = await import('../output/pipe.ts')
        await writeStream(volume, { signal: context.signal })
        return 0
      }
      await writeSeedImage(context, volume, { name, ...target(values, name, context) })
    } catch (error) {
      throw failureFrom(error, context.persona)
    }
    if (!values.quiet)
      context.out.write(
        `${files.label} seed for instance ${files.instanceId}: ${[...files.files.keys()].sort().join(', ')}\n`,
      )
    return 0
  },
})

/** Tells what would be written. */
async function rehearse(
  context: Context,
  name: string,
  values: Values<typeof options>,
  files: SeedFiles,
  volume: StreamPlan,
): Promise<number> {
  const { volumeDisk } = await import('../seed/disk.ts')
  const { planNewImage, printPlan } = await import('../dry-run.ts')
  const { format, options } = target(values, name, context)
  const source = await volumeDisk(volume)
  const plan = await planNewImage(context, 'seed', {
    target: name,
    format,
    size: source.size,
    options: filePlacement(options).options,
    source,
    lost: [],
  })
  const writes = [
    ...plan.writes,
    `${files.label} for instance ${files.instanceId}: ${[...files.files.keys()].sort().join(', ')}`,
  ]
  printPlan(context, { ...plan, writes }, wantsJson(values.output))
  return 0
}

function target(values: Values<typeof options>, name: string, context: Context) {
  const extension = extname(name).slice(1).toLowerCase()
  const byName = allFormats.find(({ extensions, can }) => can.create && extensions.includes(extension))
  const format = newFormatNamed(values.outputFormat ?? byName?.name ?? 'raw', context.persona)
  return {
    format,
    options: readCreationOptions(
      format,
      mediumOf(name, context.persona),
      optionPairs(values.imageOptions),
      context.warn,
    ),
  }
}

async function readRequest(values: Values<typeof options>): Promise<SeedRequest> {
  const { readPublicKeys } = await import('../seed/texts.ts')
  const [userData, metaData, networkConfig, vendorData] = await Promise.all(
    [values.userData, values.metaData, values.networkConfig, values.vendorData].map(given),
  )
  const keys: string[] = []
  for (const name of values.sshKeys) {
    const file = await given(name)
    if (file !== undefined) keys.push(...readPublicKeys(file))
  }
  return {
    kind: values.kind ?? 'nocloud',
    userData,
    metaData,
    networkConfig,
    vendorData,
    sshKeys: [...new Set(keys)],
    passwordHash: await readPassword(values),
    hostname: values.hostname,
    instanceId: values.instanceId,
  }
}

async function given(name: string | undefined): Promise<GivenFile | undefined> {
  return name === undefined ? undefined : { name, bytes: await readGivenFile(name) }
}

async function readPassword({ password, passwordFile }: Values<typeof options>): Promise<string | undefined> {
  if (password !== undefined && passwordFile !== undefined)
    throw new Failure('--password and --password-file are one too many')
  const bytes = passwordFile === undefined ? undefined : await readGivenFile(passwordFile, { stdin: true })
  const text = bytes === undefined ? password : new TextDecoder().decode(bytes).split(/\r?\n/)[0]
  if (text === undefined) return undefined
  const { hashPassword } = await import('../seed/password.ts')
  return await hashPassword(text)
}
