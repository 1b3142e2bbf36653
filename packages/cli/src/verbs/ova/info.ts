/** `ova info`: what an appliance is. */
import { usageFailure } from '../../failure.ts'
import { toPrettyJson } from '../../output/json.ts'
import { sizeText } from '../../output/size.ts'
import { machineJson, packageLines } from '../../ova/describe.ts'
import { withPackage } from '../../ova/open.ts'
import { defineVerb } from '../../verb.ts'
import { outputFormat, trust, wantsJson } from '../common.ts'

export const verb = defineVerb({
  name: 'ova info',
  summary: 'Show what an appliance is: machines, hardware, disks, networks, files',
  operands: 'FILE',
  syntax: '',
  about:
    'Prints what the descriptor says, and the files of the package. The images in it are not read: moraine info FILE#disk1 shows one.',
  examples: [
    ['moraine ova info box.ova', 'for people'],
    ['moraine ova info --output=json box.ovf', 'for programs'],
  ],
  options: { ...trust, output: outputFormat },
  async run(values, [name, ...more], context) {
    if (name === undefined || more.length > 0) throw usageFailure('Expecting the name of one appliance')
    const json = wantsJson(values.output)
    return await withPackage(context, name, async (opened) => {
      const { envelope, format } = opened
      const members = []
      for await (const member of opened.members()) members.push(member)
      if (!json) {
        const lines = [
          ...packageLines(opened),
          ...envelope.networks.map(({ name: network }) => `network: ${network}`),
          ...members.map(
            ({ name: member, kind, size }) =>
              `file: ${member}${kind === 'other' ? ' (no plain file)' : ''}${size === undefined ? '' : `, ${sizeText(size)}`}`,
          ),
        ]
        context.out.write(`${lines.join('\n')}\n`)
        return 0
      }
      const facts = {
        filename: name,
        format,
        version: envelope.version,
        machines: opened.machines().map(machineJson),
        networks: envelope.networks.map(({ name: network, description }) => ({ name: network, description })),
        disks: envelope.disks.map(
          ({ id, fileRef, capacity, capacityUnits, format: uri, populatedSize, parentRef }) => ({
            id,
            file: envelope.files.find((file) => file.id === fileRef)?.href,
            capacity,
            'capacity-units': capacityUnits,
            format: uri,
            'populated-size': populatedSize,
            parent: parentRef,
          }),
        ),
        'deployment-options': envelope.options.map(({ id, label, isDefault }) => ({ id, label, default: isDefault })),
        unknown: envelope.unknown.map(({ name: section, namespace, required, line }) => ({
          name: section,
          namespace,
          required,
          line,
        })),
        members: members.map(({ name: member, kind, size, aliases }) => ({
          name: member,
          kind,
          size,
          aliases: aliases === undefined ? undefined : [...aliases],
        })),
      }
      context.out.write(`${toPrettyJson(facts)}\n`)
      return 0
    })
  },
})
