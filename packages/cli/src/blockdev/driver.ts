/** What a driver of block nodes is: protocols give bytes, filters stand over a node, formats make a disk of one. */
import { type ByteSource, type Disk, type Gate, isDisk, MoraineError } from '@moraine/engine'
import { qemuOrder } from '../output/json.ts'
import type { Context } from '../verb.ts'
import type { NameParts, NodeOptions } from './options.ts'

/** How nodes are opened. */
export interface NodeRequest {
  context: Context
  mode: 'read' | 'write'
  /** What is written stays in memory, and files are only read. */
  rehearse?: boolean
  purpose: 'use' | 'info' | 'check'
  /** False: the disk under the image is not opened. */
  parents?: boolean | undefined
  /** In place of the backing file that the options of the image at the top describe: nothing, or an opened disk. */
  backing?: 'ignored' | Disk | undefined
  sync: 'always' | 'unsafe'
  /** `cache.direct=on`, or a cache mode that says it: where it was said at all. What stands below takes it over. */
  direct?: boolean | undefined
  /** Opens what images name. */
  gate: Gate
  /** The same without locks: what stands below a node with `force-share=on`. */
  unlocked: Gate
  /** Each file of the host that was opened and is to be locked. */
  files: ByteSource[]
  /** Those of a backing file that options describe: it is only read. */
  backingFiles: ByteSource[]
}

/** An opened node: bytes, or a disk where a format or a filter over one gave it. */
export type Node = ByteSource | Disk

/** A driver at the bottom of a graph. */
export interface Protocol {
  /** Options that make the node what it is, for its `json:` name; a dot at the end: all below. */
  readonly strong: readonly string[]
  /** The options of a file name with this protocol in front.
   *  @throws MoraineError `invalid` */
  readName?(name: string): NodeOptions
  /** The plain name that says the same as its strong options, where there is one. */
  plainName(strong: NameParts): string | undefined
  /** Takes the options that it knows and opens; without `name` the caller gives the source its name.
   *  @throws MoraineError */
  open(options: NodeOptions, request: NodeRequest): Promise<ByteSource>
}

/** Something with some of its members replaced; the others, and all that they touch, stay its own. */
export function withMembers<T extends object>(whole: T, members: Readonly<Record<PropertyKey, unknown>>): T {
  return new Proxy(whole, {
    get(target, key) {
      if (Object.hasOwn(members, key)) return members[key]
      const value: unknown = Reflect.get(target, key, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
    set: (target, key, value) => Reflect.set(target, key, value, target),
    has: (target, key) => (Object.hasOwn(members, key) ? members[key] !== undefined : key in target),
  })
}

/** A disk, saying that its format is another. */
export function calledAs(disk: Disk, format: string): Disk {
  return withMembers(disk, { format, info: () => ({ ...disk.info(), format }) })
}

/** The node under another name. */
export function renamed<T extends Node>(node: T, name: string): T {
  if (node.name === name) return node
  return withMembers(node, isDisk(node) ? { name, file: withMembers(node.file, { name }) } : { name })
}

/** What a node says to the option nobody took. */
export function refuseLeftOver(options: NodeOptions, driver: string, kind: 'protocol' | 'format'): void {
  // Of several, that which QEMU's table has first.
  const [left] = qemuOrder(options.names().map((name) => [name, true])).map(([name]) => name)
  if (left === undefined) return
  const words =
    kind === 'protocol'
      ? `Block protocol '${driver}' doesn't support the option '${left}'`
      : `Block format '${driver}' does not support the option '${left}'`
  throw new MoraineError('invalid', words, { field: left })
}
