/** Opens appliances for the verbs below `ova`. */
import { isOvfPackage, MoraineError, type OvfPackage } from '@moraine/engine'
import { openContainerIn } from '../containers.ts'
import { failureFrom } from '../failure.ts'
import { imageGate, openPlain, pathOf } from '../open.ts'
import type { Context } from '../verb.ts'
import { splitMember, unwrap } from '../wrappers.ts'

/** Opens an OVA, or an OVF descriptor with its files beside it, packed or not, lets `work` use it, and closes it.
 *  @throws Failure `Could not open 'NAME': …` */
export async function withPackage<Result>(
  context: Context,
  name: string,
  work: (opened: OvfPackage) => Promise<Result>,
): Promise<Result> {
  let opened: OvfPackage
  try {
    opened = await openPackage(context, name)
  } catch (error) {
    throw failureFrom(error, context.persona, `Could not open '${name}': `)
  }
  try {
    return await work(opened)
  } finally {
    await opened.close()
  }
}

async function openPackage(context: Context, name: string): Promise<OvfPackage> {
  const address = /^https?:/.test(name)
  const { path, member } = splitMember(address ? name : pathOf(name, context.persona), context.persona)
  const source = await unwrap(context, await openPlain(context, path), { member, writes: false })
  const gate = imageGate(context, { lock: 'none', sync: 'always' })
  const container = await openContainerIn(context, source, { gate, named: false })
  if (container !== undefined && isOvfPackage(container)) return container
  await (container ?? source).close()
  throw new MoraineError('not-this-format', 'it is no appliance', {
    path: name,
    rule: 'an OVA, or the descriptor (.ovf) of a package',
  })
}
