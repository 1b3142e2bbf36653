/** The partitions of a disk as members of a container: `p1`, `p2` … as Linux numbers them, or by their names in a GPT. A disk of any format that is passed can hold them. */

import { defaultCodecs } from '#platform'
import type { Container, ContainerFormat, ContainerMember } from '../../container/container.ts'
import { MoraineError } from '../../core/index.ts'
import type { DiskFormat, ProbeVerdict, ProbeWindow } from '../../format/format.ts'
import { openDisk } from '../../format/open-disk.ts'
import { sliceSource } from '../../source/index.ts'
import { readFrom } from '../reading.ts'
import { gptHeaderAt } from './gpt.ts'
import { readMbrTable } from './mbr.ts'
import { type Partition, readPartitionTable } from './table.ts'

/** Surer than nothing, and less sure than a volume that bears a table too. */
const scoreOfTable = 20
const scoreOfImage = 10

/** A kind of container: disks with a partition table, plain or in an image of one of `formats`. Backing files are not opened, so an overlay shows what it has itself. */
export function partitionedDisk(formats: readonly DiskFormat[]): ContainerFormat {
  const images = formats.filter(({ name }) => name !== 'raw')
  return {
    name: 'disk',
    aliases: [],
    extensions: [],
    holdsDisks: false,
    probe: (window) => probeTable(window) ?? probeImage(window, images),
    async open(source, { limits, warn, gate }) {
      const disk = await openDisk(source, { formats, gate, limits, warn, codecs: defaultCodecs })
      try {
        return new PartitionedDisk(disk, (await readFrom(disk, readPartitionTable()))?.partitions ?? [])
      } catch (error) {
        await disk.close()
        throw error
      }
    },
  }
}

function probeTable({ head }: ProbeWindow): ProbeVerdict | undefined {
  const hasTable = gptHeaderAt(head) !== undefined || readMbrTable(head) !== undefined
  return hasTable ? { score: scoreOfTable, evidence: 'a partition table' } : undefined
}

function probeImage(window: ProbeWindow, images: readonly DiskFormat[]): ProbeVerdict | undefined {
  const found = images.find((format) => (format.probe(window)?.score ?? 0) > 1)
  return found === undefined ? undefined : { score: scoreOfImage, evidence: `a disk image (${found.name})` }
}

class PartitionedDisk implements Container {
  readonly format = 'disk'
  readonly source: Container['source']
  readonly #partitions: readonly Partition[]

  constructor(source: Container['source'], partitions: readonly Partition[]) {
    this.source = source
    this.#partitions = partitions
  }

  async *members(): AsyncIterable<ContainerMember> {
    for (const { number, name, size, extended } of this.#partitions) {
      const aliases = [`partition${number}`, ...(name === undefined || name.includes('/') ? [] : [name])]
      yield { name: `p${number}`, aliases, kind: extended === true ? 'other' : 'disk', size }
    }
  }

  async open(member: ContainerMember) {
    const partition = this.#partitions.find(({ number }) => member.name === `p${number}`)
    if (partition === undefined || partition.extended === true) {
      throw new MoraineError('unsupported', `'${member.name}' is no partition with content`, { path: this.source.name })
    }
    const { number, offset, size } = partition
    if (!Number.isSafeInteger(offset + size) || size === 0 || offset + size > this.source.size) {
      throw new MoraineError('corrupt', `partition ${number} passes the end of the disk`, {
        path: this.source.name,
        field: 'end of the partition',
        value: offset + size,
        rule: `at most ${this.source.size}`,
      })
    }
    return sliceSource(this.source, offset, size)
  }

  close(): Promise<void> {
    return this.source.close()
  }
}
