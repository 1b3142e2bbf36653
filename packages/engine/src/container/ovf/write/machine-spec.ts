/** What a new appliance shall be, and its devices laid out: controllers, slots, ids. */
import { MoraineError } from '../../../core/index.ts'
import { type GuestSystem, guestSystems } from './operating-systems.ts'
import { checkProperties, type NewProduct, type NewProperty } from './product.ts'
import { type ApplianceTarget, type ControllerName, controllers, type TargetController } from './targets.ts'

/** A network adapter that is asked for; the target's usual model without one. */
export interface NewNic {
  network: string
  model?: string | undefined
}

/** A machine that is asked for. */
export interface NewMachine {
  name: string
  target: ApplianceTarget
  cpus: number
  /** Bytes, a whole number of MiB. */
  memory: number
  firmware: 'bios' | 'efi'
  secureBoot?: boolean | undefined
  /** A name of `guestSystems`. */
  os: string
  /** Default: the target's own network, once. */
  nics?: readonly NewNic[] | undefined
  controller?: ControllerName | undefined
  /** The hardware family, as `vmx-19`. Default: the target's. */
  family?: string | undefined
  /** A note about it. */
  annotation?: string | undefined
  /** What software is in it. */
  product?: NewProduct | undefined
  /** Values that whoever deploys it may set. */
  properties?: readonly NewProperty[] | undefined
  /** Texts of licences that whoever deploys it has to agree to. */
  eulas?: readonly string[] | undefined
  /** An empty CD drive, for a seed. */
  cd?: boolean | undefined
}

/** A disk in a slot. */
export interface PlacedDisk {
  /** From 1. */
  number: number
  /** Counted among the controllers of the machine's disks, from 0. */
  controller: number
  slot: number
}

/** A machine with its devices in place. */
export interface LaidOutMachine {
  machine: NewMachine
  system: GuestSystem
  family: string
  controller: TargetController
  controllers: number
  disks: readonly PlacedDisk[]
  nics: readonly { network: string; model: string }[]
  networks: readonly string[]
}

const MiB = 1024 * 1024
const mostCpus = 1024
const mostMemory = 64 * 1024 ** 4

function refuse(field: string, value: string | number, rule: string): MoraineError {
  return new MoraineError('invalid', 'the machine cannot be so', { field, value, rule })
}

/** Lays out a machine with so many disks.
 *  @throws MoraineError `invalid` for what no machine can have. */
export function layOutMachine(machine: NewMachine, disks: number): LaidOutMachine {
  const { cpus, memory, target, name } = machine
  if (!Number.isSafeInteger(cpus) || cpus < 1 || cpus > mostCpus) throw refuse('cpus', cpus, `1 to ${mostCpus}`)
  if (!Number.isSafeInteger(memory) || memory < MiB || memory > mostMemory || memory % MiB !== 0) {
    throw refuse('memory', memory, `a whole number of MiB, at most ${mostMemory / 1024 ** 4} TiB`)
  }
  if (name.trim() === '' || name.length > 200) throw refuse('name', name.slice(0, 220), '1 to 200 characters')
  checkProperties(machine.properties ?? [])
  if (disks < 1) throw refuse('disks', disks, 'at least 1')
  const system = Object.hasOwn(guestSystems, machine.os) ? guestSystems[machine.os] : undefined
  if (system === undefined) throw refuse('os', machine.os, `one of ${Object.keys(guestSystems).join(', ')}`)
  const family = machine.family ?? target.family
  if (!/^[A-Za-z][\w.-]{0,40}$/.test(family)) throw refuse('hardware', family, 'a family as vmx-13')
  const controller: TargetController =
    controllers[machine.controller ?? (system.windows === true ? target.controllerForWindows : target.controller)]
  const count = Math.ceil(disks / controller.slots.length)
  if (count > controller.most)
    throw refuse('disks', disks, `at most ${controller.most * controller.slots.length} on ${controller.subType}`)
  const model = system.windows === true ? target.nicForWindows : target.nic
  const nics = (machine.nics ?? [{ network: target.network }]).map((nic) => ({
    network: nic.network,
    model: nic.model ?? model,
  }))
  return {
    machine,
    system,
    family,
    controller,
    controllers: count,
    disks: Array.from({ length: disks }, (_, index) => ({
      number: index + 1,
      controller: Math.floor(index / controller.slots.length),
      slot: controller.slots[index % controller.slots.length] ?? 0,
    })),
    nics,
    networks: [...new Set(nics.map(({ network }) => network))],
  }
}
