/** `ova set`: another machine around the same disks. */
import { changeMachine, type MachineChanges } from '@moraine/engine'
import { nodeSigning } from '@moraine/engine/node'
import { Failure, failureFrom, usageFailure } from '../../failure.ts'
import { readInteger } from '../../numbers.ts'
import { pathOf } from '../../open.ts'
import { showProgress } from '../../output/progress.ts'
import { eulaOption, readCpus, readFirmware, readMemory, readNic, softwareOptions } from '../../ova/arguments.ts'
import { readSigner } from '../../ova/create.ts'
import { withPackage } from '../../ova/open.ts'
import { rewriteArchive, rewriteBeside } from '../../ova/rewrite.ts'
import { type Context, defineVerb } from '../../verb.ts'
import { showProgress as percent, progressMode as progress, quiet, rehearsal, trust, wantsJson } from '../common.ts'

export const verb = defineVerb({
  name: 'ova set',
  summary: 'Change an appliance: processors, memory, firmware, name, networks, product, licence, properties',
  operands: 'FILE [TARGET]',
  syntax: '',
  about:
    'Changes what is named and leaves all else of the descriptor as it was written. The manifest is brought up to date. Without TARGET, FILE itself is replaced, once the new one is whole; the files in an OVA are ' +
    'compared with the manifest while they are copied. An old signature goes, as it would be wrong; --sign makes a new one.',
  examples: [
    ['moraine ova set --cpus 4 --memory 8G box.ova', 'in place'],
    ['moraine ova set --network "VM Network=LAN" --firmware efi box.ova new.ova', 'as another file'],
    [
      'moraine ova set --version 2.2 --eula licence.txt --property hostname=shop2 shop.ova',
      'what it says of its software',
    ],
  ],
  options: {
    ...trust,
    ...rehearsal,
    machine: { long: 'machine', argument: 'ID', help: 'The machine, where there are several.' },
    name: { long: 'name', argument: 'NAME', help: 'Another name of the machine.' },
    cpus: { long: 'cpus', argument: 'N', help: 'So many processors.', parse: readCpus },
    memory: { long: 'memory', argument: 'SIZE', help: 'So much memory, whole MiB, as 4G.', parse: readMemory },
    firmware: {
      long: 'firmware',
      argument: 'KIND',
      values: () => ['bios', 'efi'],
      help: 'bios or efi.',
      parse: readFirmware,
    },
    network: {
      long: 'network',
      argument: 'OLD=NEW',
      collect: true,
      help: 'Give a network another name, with all that is connected to it.',
      parse(text: string): { from: string; to: string } {
        const at = text.indexOf('=')
        if (at > 0 && at < text.length - 1) return { from: text.slice(0, at), to: text.slice(at + 1) }
        throw new Failure(`Invalid argument '${text}' of --network: OLD=NEW is expected`)
      },
    },
    addNic: {
      long: 'add-nic',
      argument: 'NETWORK[,model=MODEL]',
      collect: true,
      help: 'Add a network adapter.',
      parse: readNic,
    },
    removeNic: {
      long: 'remove-nic',
      argument: 'N',
      collect: true,
      help: 'Take a network adapter away, counted from 1.',
      parse(text: string): number {
        const number = readInteger(text)
        if (number !== undefined && number >= 1) return number
        throw new Failure(`Invalid number of a network adapter '${text}'`)
      },
    },
    ...softwareOptions,
    eula: { ...eulaOption, help: 'The text of the licence, in place of those that are there.' },
    sign: { long: 'sign', argument: 'KEY,CERTIFICATE', help: 'Sign the new manifest: two files in PEM.' },
    passphrase: {
      long: 'passphrase-file',
      argument: 'FILE',
      help: 'The first line of FILE is the passphrase of the key.',
    },
    percent,
    progress,
    quiet,
  },
  async run(values, [name, target, ...more], context) {
    if (name === undefined || more.length > 0)
      throw usageFailure('Expecting the name of one appliance, and perhaps of a target')
    const changes: MachineChanges = {
      machine: values.machine,
      name: values.name,
      cpus: values.cpus,
      memory: values.memory,
      firmware: values.firmware,
      networks: values.network,
      addNics: values.addNic,
      removeNics: values.removeNic,
      product: { product: values.product, vendor: values.vendor, version: values.version },
      properties: values.property,
      eula: values.eula,
      annotation: values.annotation,
    }
    return await withPackage(context, name, async (opened) => {
      const display = await showProgress(context, values, { operation: 'ova set' })
      try {
        const options = {
          descriptor: await changeMachine(opened, changes),
          signing: nodeSigning,
          onProgress: display.onProgress,
          signer: values.sign === undefined ? undefined : readSigner(values.sign, values.passphrase),
        }
        if (values.dryRun) {
          const whole = opened.format === 'ova'
          const path = whole
            ? pathOf(target ?? plainFile(name), context.persona)
            : onlyHere(plainFile(name), target, context)
          const { planFile, printPlan } = await import('../../dry-run.ts')
          const writes = ['another descriptor, and a manifest that fits', ...(whole ? ['the same disks'] : [])]
          const isSigned =
            opened.files.listed.some((file) => /\.cert$/i.test(file.name)) && options.signer === undefined
          const lost = isSigned ? ['the signature, which is of the old manifest'] : []
          printPlan(context, planFile('ova set', path, { writes, lost }), wantsJson(values.output))
          return 0
        }
        const unsigned =
          opened.format === 'ova'
            ? await rewriteArchive(context, opened, pathOf(target ?? plainFile(name), context.persona), options)
            : await rewriteBeside(context, opened, onlyHere(plainFile(name), target, context), options)
        display.finish()
        if (unsigned && !values.quiet)
          context.err.write(`${context.persona.name}: note: the signature was of the old manifest and is gone\n`)
        return 0
      } catch (error) {
        throw failureFrom(error, context.persona, `Could not change '${name}': `)
      } finally {
        display.end()
      }
    })
  },
})

/** A file that can be replaced: neither packed, nor in another, nor elsewhere.
 *  @throws Failure */
function plainFile(name: string): string {
  if (/^https?:/.test(name) || !/\.(?:ova|ovf)$/i.test(name))
    throw new Failure(`'${name}' cannot be replaced where it is: name a target`)
  return name
}

function onlyHere(name: string, target: string | undefined, { persona }: Context): string {
  if (target !== undefined)
    throw new Failure('A package whose files lie beside one another is changed where it lies: no target can be named')
  return pathOf(name, persona)
}
