/** `ova create`: an appliance of disks of any format. */
import { type ControllerName, controllers, type Disk, guestSystems, type NewAppliance } from '@moraine/engine'
import { Failure, failureFrom, usageFailure } from '../../failure.ts'
import { openImage, pathOf } from '../../open.ts'
import { showProgress } from '../../output/progress.ts'
import { eulaOption, readCpus, readFirmware, readMemory, readNic, softwareOptions } from '../../ova/arguments.ts'
import {
  ApplianceProgress,
  applianceDisk,
  baseName,
  pipeAppliance,
  readSigner,
  refuseSource,
  signing,
  targetNamed,
  writeAppliance,
} from '../../ova/create.ts'
import { type Context, defineVerb } from '../../verb.ts'
import {
  format,
  showProgress as percent,
  progressMode as progress,
  quiet,
  rehearsal,
  trust,
  wantsJson,
} from '../common.ts'

const MiB = 1024 * 1024

export const verb = defineVerb({
  name: 'ova create',
  summary: 'Make an appliance of one or more disks',
  operands: 'TARGET',
  syntax: '',
  about:
    'Makes TARGET.ova, or TARGET.ovf with its files beside it, of disks of any format: each becomes a streamOptimized VMDK on the way, of whole MiB. The manifest has the digest of every file. ' +
    'With - as the target the archive goes to standard output, front to back; disks are then packed twice, as their length stands before them. ' +
    'The machine is laid out as whoever imports it wants it (--for): vmware, virtualbox, or generic, which has devices that everybody has.',
  examples: [
    [
      'moraine ova create --disk disk.qcow2 --cpus 2 --memory 4G --os ubuntu --for vmware box.ova',
      'for vSphere, with paravirtual devices',
    ],
    [
      'moraine ova create --disk root.vhdx --disk data.raw --nic LAN --firmware efi --sign key.pem,cert.pem box.ova',
      'two disks, signed',
    ],
    [
      'moraine ova create -p --disk disk.vmdk --product Shop --version 2.1 --eula licence.txt --property hostname=shop --property admin:password shop.ova',
      'with a licence, and values to be asked for when it is deployed',
    ],
    ['moraine ova create --disk disk.vdi --for virtualbox - | ssh host "cat > box.ova"', 'through a pipe'],
  ],
  options: {
    ...trust,
    ...rehearsal,
    disk: {
      long: 'disk',
      argument: 'FILE',
      collect: true,
      help: 'A disk, in the order of their slots; may be given several times.',
    },
    format: { ...format, long: 'format', help: 'Format of the disks; found out when not given.' },
    name: { long: 'name', argument: 'NAME', help: 'Name of the machine. That of the target when not given.' },
    for: {
      long: 'for',
      argument: 'TARGET',
      help: 'Who shall import it: vmware, virtualbox or generic (the default).',
      parse: targetNamed,
    },
    cpus: { long: 'cpus', argument: 'N', help: 'Processors; 1 when not given.', parse: readCpus },
    memory: {
      long: 'memory',
      argument: 'SIZE',
      help: 'Memory, whole MiB, as 4G; 1G when not given.',
      parse: readMemory,
    },
    nic: {
      long: 'nic',
      argument: 'NETWORK[,model=MODEL]',
      collect: true,
      help: 'A network adapter; may be given several times. One on the usual network of the target when not given, and with "none" no adapter at all.',
      parse: readNic,
    },
    firmware: {
      long: 'firmware',
      argument: 'KIND',
      values: () => ['bios', 'efi'],
      help: 'bios (the default) or efi.',
      parse: readFirmware,
    },
    secureBoot: { long: 'secure-boot', help: 'With efi: boot only what is signed.' },
    os: {
      long: 'os',
      argument: 'NAME',
      values: () => Object.keys(guestSystems),
      help: `The system of the guest: ${Object.keys(guestSystems).join(', ')}. linux when not given.`,
      parse(text: string): string {
        if (Object.hasOwn(guestSystems, text)) return text
        throw new Failure(`Unknown system '${text}': known are ${Object.keys(guestSystems).join(', ')}`)
      },
    },
    controller: {
      long: 'controller',
      argument: 'NAME',
      values: () => Object.keys(controllers),
      help: `What the disks hang on: ${Object.keys(controllers).join(', ')}. The usual one of the target when not given.`,
      parse(text: string): ControllerName {
        if (Object.hasOwn(controllers, text)) return text as ControllerName
        throw new Failure(`Unknown controller '${text}': known are ${Object.keys(controllers).join(', ')}`)
      },
    },
    hardware: {
      long: 'hardware',
      argument: 'FAMILY',
      help: 'The hardware family, as vmx-19. That of the target when not given.',
    },
    cd: { long: 'cd', help: 'Add an empty CD drive.' },
    ...softwareOptions,
    eula: {
      ...eulaOption,
      collect: true,
      help: 'The text of a licence, which whoever deploys the machine has to agree to; may be given several times.',
    },
    digest: {
      long: 'digest',
      argument: 'NAME',
      values: () => ['sha256', 'sha512', 'sha1'],
      help: 'What the manifest has: sha256 (the default), sha512, or sha1 for importers of before 2014.',
      parse(text: string): 'sha1' | 'sha256' | 'sha512' {
        if (text === 'sha1' || text === 'sha256' || text === 'sha512') return text
        throw new Failure('--digest must be used with sha256, sha512 or sha1')
      },
    },
    sign: { long: 'sign', argument: 'KEY,CERTIFICATE', help: 'Sign the manifest: two files in PEM.' },
    passphrase: {
      long: 'passphrase-file',
      argument: 'FILE',
      help: 'The first line of FILE is the passphrase of the key.',
    },
    percent,
    progress,
    quiet,
  },
  async run(values, [target, ...more], context) {
    if (target === undefined || more.length > 0) throw usageFailure('Expecting the name of one target')
    if (values.disk.length === 0) throw usageFailure('At least one --disk is needed')
    const path = context.persona.readName(target).kind === 'stdio' ? undefined : pathOf(target, context.persona)
    const base = baseName(path ?? values.name ?? 'appliance')
    const applianceTarget = values.for ?? targetNamed('generic')
    if (values.secureBoot && values.firmware !== 'efi') throw new Failure('--secure-boot needs --firmware efi')
    if (path !== undefined) refuseSource(path, values.disk)
    const opened: Disk[] = []
    const display = await showProgress(context, values, {
      operation: 'ova create',
      outputTaken: path === undefined,
    })
    try {
      const packing = new ApplianceProgress(display.onProgress, path === undefined ? 2 : 1)
      for (const name of values.disk)
        opened.push(await openImage(context, name, { use: 'source', format: values.format }))
      const signer = values.sign === undefined ? undefined : readSigner(values.sign, values.passphrase)
      if (values.dryRun) {
        const { planFile, printPlan } = await import('../../dry-run.ts')
        const writes = opened.map(
          (disk, at) => `disk ${at + 1}: '${values.disk[at]}', ${disk.size} bytes, as a streamOptimized VMDK`,
        )
        if (path !== undefined && /\.ovf$/i.test(path))
          writes.push('the disks and the manifest, each as a file beside it')
        printPlan(context, planFile('ova create', path ?? '-', { writes }), wantsJson(values.output))
        return 0
      }
      const { err, persona } = context
      const noteOf = (disk: Disk) => (sentence: string) => {
        if (!values.quiet) err.write(`${persona.name}: ${disk.name}: ${sentence}\n`)
      }
      const nics = values.nic.filter(({ network }) => network !== 'none')
      const appliance: NewAppliance = {
        machine: {
          name: values.name ?? base,
          target: applianceTarget,
          cpus: values.cpus ?? 1,
          memory: values.memory ?? 1024 * MiB,
          firmware: values.firmware ?? 'bios',
          secureBoot: values.secureBoot,
          os: values.os ?? 'linux',
          nics: values.nic.length === 0 ? undefined : nics,
          controller: values.controller,
          family: values.hardware,
          annotation: values.annotation,
          product: { product: values.product, vendor: values.vendor, version: values.version },
          properties: values.property,
          eulas: values.eula,
          cd: values.cd,
        },
        base,
        disks: await Promise.all(opened.map((disk) => applianceDisk(disk, packing, noteOf(disk)))),
        digest: values.digest ?? 'sha256',
        signing,
        signer,
      }
      if (path === undefined) await pipeAppliance(context, appliance)
      else await writeAppliance(context, path, appliance)
      display.finish()
    } catch (error) {
      throw failureFrom(error, context.persona, `Could not make '${target}': `)
    } finally {
      display.end()
      for (const disk of opened) await disk.close()
    }
    if (!values.quiet) sayMore(context, applianceTarget.saysFirmware, values.firmware)
    return 0
  },
})

function sayMore({ err, persona }: Context, saysFirmware: boolean, firmware: string | undefined): void {
  if (saysFirmware || firmware !== 'efi') return
  err.write(
    `${persona.name}: note: OVF has no place where VirtualBox would look for the firmware: after the import, VBoxManage modifyvm NAME --firmware efi64\n`,
  )
}
