/** Changes the machine of a descriptor: processors, memory, firmware, name, networks, and what it says of its software. What VirtualBox says of the same machine in its own section is changed with it. */
import { childOf, childrenOf, type XmlElement } from '../../../codec/xml/document.ts'
import { escapeXml } from '../../../codec/xml/escape.ts'
import { MoraineError } from '../../../core/index.ts'
import type { Envelope } from '../envelope.ts'
import { cpuFields, itemXml, memoryFields, nicFields } from '../write/descriptor.ts'
import type { NewNic } from '../write/machine-spec.ts'
import { nameOf, ovfAttribute, vmwareAttribute, vmwareNamespace } from '../xml.ts'
import { changeSoftware, type SoftwareChanges } from './software.ts'
import { TextEdits } from './text-edits.ts'

/** What shall be different. */
export interface MachineChanges extends SoftwareChanges {
  /** The id of the machine, where there are several. */
  machine?: string | undefined
  name?: string | undefined
  cpus?: number | undefined
  /** Bytes, whole MiB. */
  memory?: number | undefined
  firmware?: 'bios' | 'efi' | undefined
  /** Networks get other names. */
  networks?: readonly { from: string; to: string }[] | undefined
  addNics?: readonly NewNic[] | undefined
  /** Adapters to take away, from 1, as they are counted before the change. */
  removeNics?: readonly number[] | undefined
}

const rasd = 'http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData'
const MiB = 1024 * 1024

/** The text of the descriptor with the changes.
 *  @param path for messages
 *  @throws MoraineError `invalid`, `missing`, `unsupported`. */
export function changeMachine(envelope: Envelope, changes: MachineChanges, path: string): string {
  const { root, text } = envelope.document
  if (envelope.version === '0.9')
    throw new MoraineError('unsupported', 'OVF 0.9 is read and not written', { path, field: 'version' })
  const edits = new TextEdits(text)
  const system = chooseSystem(root, changes.machine, path)
  const hardware = system.children.find((section) => nameOf(section) === 'VirtualHardwareSection')
  if (hardware === undefined)
    throw new MoraineError('unsupported', 'the machine has no hardware that could be changed', {
      path,
      field: 'VirtualHardwareSection',
    })
  const change = new MachineChange(edits, root, system, hardware, path)
  if (changes.name !== undefined) change.name(changes.name)
  if (changes.cpus !== undefined) change.cpus(changes.cpus)
  if (changes.memory !== undefined) change.memory(changes.memory)
  for (const { from, to } of changes.networks ?? []) change.renameNetwork(from, to)
  change.removeNics(changes.removeNics ?? [])
  change.addNics(changes.addNics ?? [])
  // Settings stand behind all items.
  if (changes.firmware !== undefined) change.firmware(changes.firmware)
  changeSoftware({ edits, root, system, hardware }, changes)
  if (edits.isEmpty) throw new MoraineError('invalid', 'nothing would change', { path, field: 'changes' })
  return edits.apply()
}

function chooseSystem(root: XmlElement, id: string | undefined, path: string): XmlElement {
  const systems: XmlElement[] = []
  const gather = (element: XmlElement) => {
    for (const child of element.children) {
      if (nameOf(child) === 'VirtualSystem') systems.push(child)
      else if (nameOf(child) === 'VirtualSystemCollection') gather(child)
    }
  }
  gather(root)
  const ids = systems.map((system) => `'${ovfAttribute(system, 'id') ?? ''}'`).join(', ')
  const [only] = id === undefined ? systems : systems.filter((system) => ovfAttribute(system, 'id') === id)
  if (only !== undefined && (id !== undefined || systems.length === 1)) return only
  if (id !== undefined)
    throw new MoraineError('missing', `there is no machine '${id}'`, {
      path,
      field: 'machine',
      hint: `It has ${ids || 'none'}.`,
    })
  throw new MoraineError(
    'invalid',
    systems.length === 0 ? 'there is no machine' : `there are ${systems.length} machines, of which one must be named`,
    { path, field: 'machine', hint: systems.length === 0 ? undefined : `It has ${ids}.` },
  )
}

class MachineChange {
  readonly #edits: TextEdits
  readonly #root: XmlElement
  readonly #system: XmlElement
  readonly #hardware: XmlElement
  readonly #items: readonly XmlElement[]
  readonly #path: string
  #nextInstance: number

  constructor(edits: TextEdits, root: XmlElement, system: XmlElement, hardware: XmlElement, path: string) {
    this.#edits = edits
    this.#root = root
    this.#system = system
    this.#hardware = hardware
    this.#path = path
    this.#items = hardware.children.filter(({ local }) => /^(?:Item|EthernetPortItem|StorageItem)$/.test(local))
    const ids = this.#items.map((item) => Number(textOf(item, 'InstanceID') ?? textOf(item, 'InstanceId') ?? 0))
    this.#nextInstance = Math.max(0, ...ids.filter((id) => Number.isSafeInteger(id))) + 1
  }

  name(name: string): void {
    const own = childOf(this.#system, 'Name')
    const info = childOf(this.#system, 'Info')
    if (own !== undefined) this.#edits.setText(own, name)
    else if (info !== undefined) this.#edits.setChildText({ ...this.#system, children: [info] }, 'Name', name)
    const vssd = childOf(this.#hardware, 'System')
    if (vssd !== undefined && vssd.children.length > 0) this.#edits.setChildText(vssd, 'VirtualSystemIdentifier', name)
    const virtualBox = this.#virtualBox()
    if (virtualBox !== undefined) this.#edits.setAttribute(virtualBox, 'name', name)
  }

  cpus(cpus: number): void {
    for (const item of this.#plain(3)) {
      this.#edits.setChildText(item, 'VirtualQuantity', String(cpus))
      this.#rename(item, /^\d+(?= )/, String(cpus))
      const cores = childOf(item, 'CoresPerSocket')
      // So many must fit.
      if (cores !== undefined && cpus % Number(cores.text) !== 0) this.#edits.setText(cores, '1')
    }
    if (this.#plain(3).length === 0) this.#append((id) => cpuFields(cpus, id))
    this.#setVirtualBox('CPU', 'count', String(cpus))
  }

  memory(bytes: number): void {
    const mebibytes = bytes / MiB
    for (const item of this.#plain(4)) {
      this.#edits.setChildText(item, 'VirtualQuantity', String(mebibytes))
      this.#edits.setChildText(item, 'AllocationUnits', 'byte * 2^20')
      this.#rename(item, /^\d+ ?[KMGT]i?B(?= )/, `${mebibytes} MB`)
    }
    if (this.#plain(4).length === 0) this.#append((id) => memoryFields(bytes, id))
    this.#setVirtualBox('Memory', 'RAMSize', String(mebibytes))
  }

  firmware(firmware: 'bios' | 'efi'): void {
    const said = this.#hardware.children.filter(
      (child) => /^(?:Extra)?Config$/.test(child.local) && vmwareAttribute(child, 'key') === 'firmware',
    )
    for (const config of said) this.#edits.setAttribute(config, 'vmw:value', firmware)
    const hasVirtualBox = this.#setVirtualBox('Firmware', 'type', firmware === 'efi' ? 'EFI' : 'BIOS')
    if (said.length > 0 || hasVirtualBox) return
    const last = this.#hardware.children.at(-1)
    if (last === undefined) return
    const names = `xmlns:vmw="${vmwareNamespace}" xmlns:ovf="${this.#root.uri}"`
    this.#edits.insert(
      last.end,
      `${this.#edits.indentOf(last)}<vmw:Config ${names} ovf:required="false" vmw:key="firmware" vmw:value="${firmware}"/>`,
    )
  }

  renameNetwork(from: string, to: string): void {
    const networks = this.#networks().filter((network) => ovfAttribute(network, 'name') === from)
    if (networks.length === 0) {
      const known = this.#networks().map((network) => `'${ovfAttribute(network, 'name') ?? ''}'`)
      throw new MoraineError('missing', `there is no network '${from}'`, {
        path: this.#path,
        field: 'network',
        hint: `It has ${known.join(', ') || 'none'}.`,
      })
    }
    for (const network of networks) this.#edits.setAttribute(network, 'ovf:name', to)
    const visit = (element: XmlElement) => {
      for (const child of element.children) {
        if (child.local === 'Connection' && child.uri.includes('CIM_') && child.text.trim() === from)
          this.#edits.setText(child, to)
        else visit(child)
      }
    }
    visit(this.#root)
  }

  removeNics(numbers: readonly number[]): void {
    const nics = this.#nics()
    for (const number of new Set(numbers)) {
      const nic = nics[number - 1]
      if (nic === undefined) {
        throw new MoraineError('missing', `there is no network adapter ${number}`, {
          path: this.#path,
          field: 'nic',
          rule: nics.length === 0 ? 'it has none' : `1 to ${nics.length}`,
        })
      }
      this.#edits.remove(nic)
    }
  }

  addNics(added: readonly NewNic[]): void {
    const nics = this.#nics()
    const [like] = nics
    const usual = (like === undefined ? undefined : textOf(like, 'ResourceSubType')) ?? 'E1000'
    const known = new Set(this.#networks().map((network) => ovfAttribute(network, 'name')))
    for (const [index, { network, model = usual }] of added.entries()) {
      if (!known.has(network)) this.#addNetwork(network)
      known.add(network)
      this.#append((id) => nicFields({ network, model }, nics.length + index + 1, id))
    }
  }

  #addNetwork(name: string): void {
    const sections = this.#root.children.filter((section) => nameOf(section) === 'NetworkSection')
    const like = sections.flatMap((section) => childrenOf(section, 'Network')).at(-1)
    const [section] = sections
    const after = like ?? section?.children.at(-1)
    const network = (tag: string) => `<${tag} xmlns:ovf="${this.#root.uri}" ovf:name="${escapeXml(name)}"/>`
    if (after !== undefined) {
      const prefix = after.prefix === '' ? '' : `${after.prefix}:`
      this.#edits.insert(after.end, `${this.#edits.indentOf(after)}${network(`${prefix}Network`)}`)
      return
    }
    const before = this.#root.children.findLast((child) => /^(?:DiskSection|References)$/.test(nameOf(child)))
    if (before === undefined)
      throw new MoraineError('unsupported', 'the descriptor has no place for a network', {
        path: this.#path,
        field: 'NetworkSection',
      })
    const prefix = before.prefix === '' ? '' : `${before.prefix}:`
    const indent = this.#edits.indentOf(before)
    this.#edits.insert(
      before.end,
      `${indent}<${prefix}NetworkSection>${indent}  <${prefix}Info>Logical networks</${prefix}Info>${indent}  ${network(`${prefix}Network`)}${indent}</${prefix}NetworkSection>`,
    )
  }

  #networks(): XmlElement[] {
    return this.#root.children
      .filter((section) => nameOf(section) === 'NetworkSection')
      .flatMap((section) => childrenOf(section, 'Network'))
  }

  #nics(): XmlElement[] {
    return this.#items.filter((item) => textOf(item, 'ResourceType') === '10')
  }

  /** Items of a kind that are no bounds. */
  #plain(resourceType: number): XmlElement[] {
    return this.#items.filter(
      (item) =>
        textOf(item, 'ResourceType') === String(resourceType) &&
        !/^(?:min|max)$/.test(ovfAttribute(item, 'bound') ?? ''),
    )
  }

  #rename(item: XmlElement, pattern: RegExp, to: string): void {
    for (const local of ['ElementName', 'Caption']) {
      const child = childOf(item, local)
      if (child !== undefined && pattern.test(child.text.trim()))
        this.#edits.setText(child, child.text.trim().replace(pattern, to))
    }
  }

  #append(fields: (instance: number) => Parameters<typeof itemXml>[0]): void {
    const like = this.#items.at(-1) ?? this.#hardware.children.at(-1)
    if (like === undefined) throw new MoraineError('unsupported', 'the hardware section is empty', { path: this.#path })
    const isItem = /Item$/.test(like.local)
    const own = isItem ? like.children[0]?.prefix : undefined
    const item = like.prefix === '' ? '' : `${like.prefix}:`
    const indent = this.#edits.indentOf(like)
    const text = itemXml(fields(this.#nextInstance++), true, indent.slice(1), {
      item,
      rasd: own === undefined || own === '' ? 'rasd:' : `${own}:`,
      ovf: 'ovf:',
    })
    // Who has no items yet has bound no prefix for them.
    const bound = own === undefined || own === '' ? text.replace('Item>', `Item xmlns:rasd="${rasd}">`) : text
    this.#edits.insert(like.end, `\n${bound}`)
  }

  #virtualBox(): XmlElement | undefined {
    return this.#system.children.find(({ local, uri }) => local === 'Machine' && /virtualbox|innotek/i.test(uri))
  }

  /** Sets an attribute of VirtualBox's hardware; false where there is none of it. */
  #setVirtualBox(local: string, attribute: string, value: string): boolean {
    const machine = this.#virtualBox()
    const hardware = machine === undefined ? undefined : childOf(machine, 'Hardware')
    if (hardware === undefined) return false
    const element = childOf(hardware, local)
    const first = hardware.children[0]
    if (element !== undefined) this.#edits.setAttribute(element, attribute, value)
    else if (first !== undefined) {
      const name = first.prefix === '' ? local : `${first.prefix}:${local}`
      this.#edits.insert(first.start, `<${name} ${attribute}="${value}"/>${this.#edits.indentOf(first)}`)
    }
    return true
  }
}

function textOf(item: XmlElement, local: string): string | undefined {
  return childOf(item, local)?.text.trim()
}
