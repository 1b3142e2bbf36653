/** Appliances for people and programs: machines with their hardware. */
import { type Container, isOvfPackage, type Machine, type MachineDrive, type OvfPackage } from '@moraine/engine'
import { plainText } from '../image/error-text.ts'
import type { JsonValue } from '../output/json.ts'
import { sizeText } from '../output/size.ts'

/** Whether a container holds machines. */
export function isMachine(container: Container): container is OvfPackage {
  return isOvfPackage(container)
}

/** What stands in containers, for `info`; undefined where there is no machine among them. */
export function describeMachines(
  containers: readonly Container[],
): { text: string; json: Record<string, JsonValue> } | undefined {
  const opened = containers.find(isMachine)
  if (opened === undefined) return undefined
  return { text: `${packageLines(opened).join('\n')}\n`, json: { machines: opened.machines().map(machineJson) } }
}

/** The lines of a package for people. */
export function packageLines(opened: OvfPackage): string[] {
  const { envelope, format } = opened
  const machines = opened.machines()
  const many = machines.length > 1 ? `, ${machines.length} machines` : ''
  const lines = [`appliance: ${format}, OVF ${envelope.version}${many}`]
  for (const machine of machines) lines.push(...machineLines(machine))
  if (envelope.options.length > 0) {
    lines.push(
      `deployment options: ${envelope.options
        .map(({ id, label }) => (label === undefined ? id : `${id} (${label})`))
        .map(plainText)
        .join(', ')}`,
    )
  }
  const unknown = envelope.unknown.filter(({ required }) => required)
  for (const { name, line } of unknown) lines.push(`not understood, and required: ${plainText(name)} (line ${line})`)
  return lines
}

function machineLines(machine: Machine): string[] {
  const { os, cpus, coresPerSocket, memory, families, firmware, drives, nics, others, system } = machine
  const lines = [`machine: ${plainText(machine.name)}`]
  const say = (label: string, value: string | undefined) => {
    if (value !== undefined && value !== '') lines.push(`  ${label}: ${plainText(value)}`)
  }
  const [product] = system.products
  say(
    'product',
    [
      product?.product,
      product?.fullVersion ?? product?.version,
      product?.vendor === undefined ? undefined : `by ${product.vendor}`,
    ]
      .filter((part) => part !== undefined)
      .join(' '),
  )
  say(
    'system',
    os === undefined
      ? undefined
      : [os.description ?? os.vmwareType ?? `CIM ${os.id}`, os.version].filter((part) => part !== undefined).join(' '),
  )
  say('hardware', families.join(', '))
  say('firmware', firmware)
  say(
    'processors',
    cpus === undefined ? undefined : `${cpus}${coresPerSocket === undefined ? '' : `, ${coresPerSocket} in a socket`}`,
  )
  say('memory', memory === undefined ? undefined : sizeText(memory))
  for (const drive of drives) say(drive.alias ?? drive.kind, driveText(drive))
  for (const { network, model } of nics)
    say('network', `${network ?? 'none'}${model === undefined ? '' : `, ${model}`}`)
  say(
    'besides',
    Object.entries(others)
      .map(([name, count]) => (count === 1 ? name : `${count} × ${name}`))
      .join(', '),
  )
  const properties = system.products.reduce((sum, { properties: own }) => sum + own.length, 0)
  say('properties', properties === 0 ? undefined : String(properties))
  say('licences', system.eulas.length === 0 ? undefined : String(system.eulas.length))
  return lines
}

function driveText({ alias, kind, diskId, file, capacity, controller, slot }: MachineDrive): string {
  const place =
    controller === undefined
      ? undefined
      : `${controller.kind} ${controller.bus}${slot === undefined ? '' : `:${slot}`}${controller.subType === undefined ? '' : ` (${controller.subType})`}`
  const what = file ?? (kind === 'disk' ? `empty${diskId === undefined ? '' : `, ${diskId}`}` : undefined)
  const parts = [what, capacity === undefined ? undefined : sizeText(capacity), place]
  return parts.filter((part) => part !== undefined).join(', ') || (alias ?? 'empty')
}

/** One machine for programs. */
export function machineJson(machine: Machine): JsonValue {
  const { id, name, families, os, firmware, cpus, coresPerSocket, memory, controllers, drives, nics, others, system } =
    machine
  return {
    id,
    name,
    hardware: [...families],
    os:
      os === undefined
        ? undefined
        : { id: os.id, version: os.version, description: os.description, 'vmware-type': os.vmwareType },
    firmware,
    cpus,
    'cores-per-socket': coresPerSocket,
    memory,
    controllers: controllers.map(({ instanceId, kind, subType, bus }) => ({
      'instance-id': instanceId,
      kind,
      'sub-type': subType,
      bus,
    })),
    drives: drives.map((drive) => ({
      kind: drive.kind,
      alias: drive.alias,
      'disk-id': drive.diskId,
      file: drive.file,
      capacity: drive.capacity,
      controller: drive.controller === undefined ? undefined : `${drive.controller.kind}${drive.controller.bus}`,
      slot: drive.slot,
    })),
    nics: nics.map(({ network, model, address }) => ({ network, model, address })),
    others: { ...others },
    products: system.products.map((product) => ({
      product: product.product,
      vendor: product.vendor,
      version: product.version,
      'full-version': product.fullVersion,
      properties: product.properties.map((property) => ({
        id: property.id,
        type: property.type,
        value: property.password ? undefined : property.value,
        label: property.label,
        'user-configurable': property.userConfigurable,
      })),
    })),
    annotation: system.annotation,
    eulas: system.eulas.length,
  }
}
