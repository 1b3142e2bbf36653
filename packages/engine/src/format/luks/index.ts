/** LUKS containers: their facts are shown, their content is not. What they hold can be told only with a key. */
import type { ByteSource, Disk, DiskInfo } from '../../core/index.ts'
import { MoraineError } from '../../core/index.ts'
import { nothing } from '../capabilities.ts'
import type { DiskFormat, OpenContext } from '../format.ts'
import { MappedDisk, type MappedRun } from '../mapped-disk.ts'
import { type LuksFacts, luksVersion, readFirst, readSecond } from './layout.ts'

/** A container, which tells what it is and gives nothing away. */
class LuksDisk extends MappedDisk {
  readonly format: string
  readonly #facts: LuksFacts

  constructor(format: string, file: ByteSource, facts: LuksFacts) {
    super(file, undefined)
    this.format = format
    this.#facts = facts
  }

  get size(): number {
    const { payloadOffset, payloadLength } = this.#facts
    return payloadLength ?? Math.max(0, this.file.size - payloadOffset)
  }

  protected override resolve(): MappedRun {
    throw locked(this.format, this.name)
  }

  info(): DiskInfo {
    return {
      format: this.format,
      virtualSize: this.size,
      encrypted: true,
      snapshots: [],
      details: { type: this.format, data: this.#facts.details },
    }
  }
}

/** Reading a container asks for a key; QEMU's words. */
function locked(format: string, path: string): MoraineError {
  return new MoraineError('unsupported', "Parameter 'key-secret' is required for cipher", {
    path,
    format,
    field: 'key',
    rule: 'an image that is not encrypted',
    hint: 'It is a LUKS container. moraine shows its facts (info, inspect) and does not decrypt it: open it with cryptsetup, and read what that gives.',
  })
}

function container(name: string, version: number, read: (file: ByteSource) => Promise<LuksFacts>): DiskFormat {
  return {
    name,
    aliases: [],
    extensions: version === 1 ? ['luks'] : [],
    can: nothing,
    options: [],
    probe: ({ head }) =>
      luksVersion(head) === version
        ? { score: 100, evidence: `magic "LUKS\\xba\\xbe", version ${version}` }
        : undefined,
    async open(file: ByteSource, context: OpenContext): Promise<Disk> {
      const head = new Uint8Array(Math.min(8, file.size))
      await file.read(0, head)
      if (luksVersion(head) !== version) {
        const place = { path: file.name, format: name, field: 'magic', rule: `LUKS version ${version}` }
        throw new MoraineError('not-this-format', 'Volume is not in LUKS format', place)
      }
      const facts = await read(file)
      if (context.purpose !== 'info' || context.mode === 'write') throw locked(name, file.name)
      return new LuksDisk(name, file, facts)
    },
  }
}

/** LUKS of version 1, which QEMU knows as `luks`. */
export const luks: DiskFormat = container('luks', 1, readFirst)

/** LUKS of version 2. */
export const luks2: DiskFormat = container('luks2', 2, readSecond)
