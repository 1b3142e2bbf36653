/** What processes have used, by the kernel's count. Linux only. */
import { readdirSync, readFileSync } from 'node:fs'

/** Ticks in a second, in which Linux tells processor time to programs. */
const ticks = 100

interface Facts {
  parent: number
  seconds: number
}

function factsOf(pid: number): Facts | undefined {
  try {
    // The name stands in parentheses and may hold any character; fields are counted behind it.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? []
    return { parent: Number(fields[1]), seconds: (Number(fields[11]) + Number(fields[12])) / ticks }
  } catch {
    return undefined
  }
}

/** A process and all that stem from it. */
function treeOf(root: number): number[] {
  const parents = new Map<number, number>()
  for (const name of readdirSync('/proc')) {
    const facts = /^\d+$/.test(name) ? factsOf(Number(name)) : undefined
    if (facts !== undefined) parents.set(Number(name), facts.parent)
  }
  const tree = [root]
  for (let added = 0; added < tree.length; added++) {
    for (const [pid, parent] of parents) if (parent === tree[added]) tree.push(pid)
  }
  return tree
}

/** Seconds of processor time of processes and of all that stem from them, so far. */
export function processorSeconds(roots: readonly number[]): number {
  return roots.flatMap(treeOf).reduce((sum, pid) => sum + (factsOf(pid)?.seconds ?? 0), 0)
}

/** Bytes of memory that processes and all that stem from them hold; what several share is counted once. */
export function heldBytes(roots: readonly number[]): number {
  return roots.flatMap(treeOf).reduce((sum, pid) => {
    try {
      const found = /^Pss:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))
      return sum + Number(found?.[1] ?? 0) * 1024
    } catch {
      return sum
    }
  }, 0)
}

/** Most memory that a process has held. */
export function peakBytes(pid: number): number {
  const found = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
  return Number(found?.[1] ?? 0) * 1024
}
