/** What a disk may hold after a power cut: it is written down at each step beside the journal of its store. */

/** One moment of a disk. */
export interface Moment {
  /** Journal time when it began. */
  from: number
  bytes: Uint8Array
  /** `flush` or `close` had returned: it must survive from then on. */
  durable: boolean
}

/** Every byte is what it was in one of the versions. */
export function expectOneOf(bytes: Uint8Array, versions: readonly Uint8Array[]): void {
  if (versions.some((version) => Buffer.compare(version, bytes) === 0)) return
  for (let i = 0; i < bytes.length; i++) {
    if (versions.some((version) => version[i] === bytes[i])) continue
    throw new Error(`byte ${i} is ${bytes[i]}, which it never was since the last flush`)
  }
}

/** What the disk may hold when the power fails at `time`: the last moment that was durable by then, and all that began since. */
export function possible<Kind extends Moment>(moments: readonly Kind[], time: number): Kind[] {
  const first = moments.findLastIndex(({ durable, from }) => durable && from <= time)
  const last = moments.findIndex(({ from }) => from >= time)
  // Moments that began at the same time have the same bytes on the disk: the last durable one may stand behind the first that began at `time`.
  return moments.slice(Math.max(0, first), last < 0 ? moments.length : Math.max(first, last) + 1)
}
