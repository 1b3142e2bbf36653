/** `ami bundle`: an image becomes a bundle. */
import { existsSync } from 'node:fs'
import { basename, join } from 'node:path'
import { Failure, failureFrom, usageFailure } from '../../failure.ts'
import { readSize } from '../../numbers.ts'
import { type Context, defineVerb } from '../../verb.ts'
import { format, oneImage, progressMode, quiet, rehearsal, showProgress, trust, wantsJson } from '../common.ts'

const types = ['machine', 'kernel', 'ramdisk'] as const
const architectures: Readonly<Record<string, string>> = { x64: 'x86_64', arm64: 'arm64', ia32: 'i386' }

export const verb = defineVerb({
  name: 'ami bundle',
  summary: 'Make a bundle of an image',
  operands: 'IMAGE',
  syntax: '',
  about:
    'Writes NAME.manifest.xml and NAME.part.0, NAME.part.1 ... into a folder: the image as the guest sees it, whatever format it has, with its holes left out. The manifest is signed. ' +
    'The files get their names together when all is written; what is there already is not overwritten.',
  examples: [
    [
      'moraine ami bundle root.qcow2 --user 123456789012 --cert cert.pem --private-key pk.pem --ec2-cert cloud-cert.pem --to bundle',
      'for the cloud whose certificate is cloud-cert.pem',
    ],
    [
      'moraine ami bundle vmlinuz --type kernel --cert cert.pem --private-key pk.pem --ec2-cert cloud-cert.pem',
      'a kernel',
    ],
  ],
  options: {
    ...trust,
    ...rehearsal,
    format: { ...format, long: 'format' },
    cert: { short: 'c', long: 'cert', argument: 'FILE', help: "The user's certificate (PEM)." },
    privateKey: {
      short: 'k',
      long: 'private-key',
      argument: 'FILE',
      help: "The user's private key (PEM): it signs the manifest.",
    },
    ec2Cert: {
      long: 'ec2-cert',
      argument: 'FILE',
      help: "The cloud's certificate (PEM): the cloud can open the bundle.",
    },
    user: { short: 'u', long: 'user', argument: 'ACCOUNT', help: "The account's number." },
    name: {
      long: 'name',
      argument: 'NAME',
      help: "The image's name, with which the names of the files begin. The file's name when not given.",
    },
    to: { long: 'to', argument: 'FOLDER', help: 'Where to; it must be there. The current folder when not given.' },
    arch: {
      long: 'arch',
      argument: 'ARCH',
      values: () => ['i386', 'x86_64', 'arm64'],
      help: 'i386, x86_64 (the default on such a machine) or arm64.',
    },
    type: {
      long: 'type',
      argument: 'TYPE',
      values: () => types,
      help: 'machine (the default), kernel or ramdisk.',
      parse(text: string): (typeof types)[number] {
        const type = types.find((known) => known === text)
        if (type === undefined) throw new Failure(`--type must be used with one of ${types.join(', ')}, not '${text}'`)
        return type
      },
    },
    kernel: { long: 'kernel-id', argument: 'ID', help: 'The kernel that the image boots with.' },
    ramdisk: { long: 'ramdisk-id', argument: 'ID', help: 'The ramdisk that it boots with.' },
    mapping: {
      long: 'block-device',
      argument: 'VIRTUAL=DEVICE',
      help: 'As in ami=sda1 or ephemeral0=sda2. May be given several times.',
      collect: true,
      parse(text: string): { virtual: string; device: string } {
        const [, virtual, device] = /^([^=]+)=(.+)$/.exec(text) ?? []
        if (virtual === undefined || device === undefined)
          throw new Failure(`--block-device must be used with VIRTUAL=DEVICE, not '${text}'`)
        return { virtual, device }
      },
    },
    partSize: {
      long: 'part-size',
      argument: 'SIZE',
      help: 'Bytes of a part, as in 10M (the default).',
      parse: (text: string, warn: (message: string) => void) => Number(readSize('part size', text, warn)),
    },
    percent: showProgress,
    progress: progressMode,
    quiet,
  },
  async run(values, operands, context) {
    const image = oneImage(operands)
    const { cert, privateKey, ec2Cert } = values
    if (cert === undefined || privateKey === undefined || ec2Cert === undefined) {
      throw usageFailure('--cert, --private-key and --ec2-cert are needed')
    }
    const folder = values.to ?? '.'
    const [
      engine,
      node,
      { openImage },
      { readPem },
      { NewFiles },
      { showProgress: begin },
      { streamCodecs },
      { ownVersion },
    ] = await Promise.all([
      import('@moraine/engine'),
      import('@moraine/engine/node'),
      import('../../open.ts'),
      import('../../ami/manifest.ts'),
      import('../../ami/new-files.ts'),
      import('../../output/progress.ts'),
      import('../../wrappers.ts'),
      import('../../version.ts'),
    ])
    const pems = {
      cert: readPem(context, cert),
      privateKey: readPem(context, privateKey),
      ec2Cert: readPem(context, ec2Cert),
    }
    const disk = await openImage(context, image, { use: 'source', format: values.format })
    if (values.dryRun) {
      const { printPlan } = await import('../../dry-run.ts')
      const name = values.name ?? nameOf(image)
      const plan = {
        operation: 'ami bundle',
        target: join(folder, `${name}.manifest.xml`),
        'virtual-size': disk.size,
        writes: ['a manifest, signed', `${name}.part.0 and on, beside it`],
        lost: [],
      }
      await disk.close()
      if (existsSync(plan.target)) throw new Failure(`'${plan.target}' is there already`)
      printPlan(context, plan, wantsJson(values.output))
      return 0
    }
    const files = new NewFiles()
    const display = await begin(context, values, {
      operation: 'bundle',
    })
    try {
      const { manifest, manifestName } = await engine.bundleImage({
        disk,
        name: values.name ?? nameOf(image),
        type: values.type ?? 'machine',
        architecture: values.arch ?? architectures[process.arch] ?? process.arch,
        user: values.user ?? '',
        ec2Certificate: pems.ec2Cert,
        userCertificate: pems.cert,
        userKey: pems.privateKey,
        partBytes: values.partSize,
        bundler: { name: 'moraine', version: ownVersion(), release: '1' },
        blockDevices: values.mapping,
        kernelId: values.kernel,
        ramdiskId: values.ramdisk,
        crypto: node.nodeBundleCrypto,
        codecs: streamCodecs(),
        newFile: (filename) => files.create(join(folder, filename)),
        signal: context.signal,
        onProgress: display.onProgress,
      })
      display.finish()
      if (!values.quiet) sayDone(context, join(folder, manifestName), manifest.parts.length, manifest.bundledSize)
      return 0
    } catch (error) {
      throw failureFrom(error, context.persona, `Could not bundle '${image}': `)
    } finally {
      display.end()
      files.end()
      await disk.close()
    }
  },
})

function sayDone({ out }: Context, path: string, parts: number, bytes: number): void {
  out.write(`${path}: ${parts} part${parts === 1 ? '' : 's'}, ${bytes} bytes\n`)
}

function nameOf(image: string): string {
  return basename(image)
    .replace(/[^\x21-\x7e]|[:\\]/g, '_')
    .slice(0, 90)
}
