/** What a descriptor says, as facts of an inspection. */
import { type DetailValue, type Finding, isMoraineError } from '@moraine/engine'
import { Failure } from '../failure.ts'
import { sizeText } from '../output/size.ts'
import type { Context } from '../verb.ts'
import { withPackage } from './open.ts'

/** Adds the machines of an appliance to what was found of it. Of one that cannot be read, the checks of the inspection have said why. */
export async function addMachines(context: Context, name: string, finding: Finding): Promise<void> {
  try {
    finding.facts.machines = await withPackage(context, name, async (opened) =>
      opened.machines().map((machine): DetailValue => {
        const facts: [string, DetailValue | undefined][] = [
          ['name', machine.name],
          ['system', machine.os?.description],
          ['firmware', machine.firmware],
          ['cpus', machine.cpus],
          ['memory', machine.memory],
          [
            'disks',
            machine.drives.flatMap(({ kind, file, capacity }) =>
              kind === 'disk' ? [`${file ?? 'empty'}${capacity === undefined ? '' : `, ${sizeText(capacity)}`}`] : [],
            ),
          ],
          ['networks', machine.nics.map(({ network }) => network ?? 'none')],
        ]
        return Object.fromEntries(facts.filter((fact): fact is [string, DetailValue] => fact[1] !== undefined))
      }),
    )
  } catch (error) {
    context.signal.throwIfAborted()
    if (!(error instanceof Failure || isMoraineError(error))) throw error
  }
}
