/** Data for codec tests: random, repetitive and real. */
import { createHash } from 'node:crypto'
import { closeSync, openSync, readFileSync, readSync } from 'node:fs'

/** Bytes that no codec shrinks, the same for the same seed. */
export function noise(length: number, seed = 'noise'): Uint8Array {
  return new Uint8Array(
    createHash('shake256', { outputLength: Math.max(length, 1) })
      .update(seed)
      .digest(),
  ).subarray(0, length)
}

/** A piece of this Node's executable: code, tables and strings. */
export function program(length: number, offset = 8 << 20): Uint8Array {
  const bytes = new Uint8Array(length)
  const file = openSync(process.execPath, 'r')
  try {
    if (readSync(file, bytes, 0, length, offset) !== length) throw new Error('the executable is shorter than expected')
  } finally {
    closeSync(file)
  }
  return bytes
}

/** JSON text of the workspace's lock file. */
export function text(length: number): Uint8Array {
  const file = new Uint8Array(readFileSync(new URL('../../../../package-lock.json', import.meta.url)))
  const bytes = new Uint8Array(length)
  for (let at = 0; at < length; at += file.length) bytes.set(file.subarray(0, length - at), at)
  return bytes
}

/** Runs of one byte of growing length with noise between: distance 1, zero runs, every overlap. */
export function runs(length: number): Uint8Array {
  const bytes = noise(length, 'runs')
  for (let at = 0, n = 1; at < length; at += n + (n % 13), n = (n * 3 + 1) % 4099)
    bytes.fill(n % 5 === 0 ? 0 : n, at, at + n)
  return bytes
}

/** Short periods: matches whose distance is smaller than their length. */
export function periods(length: number): Uint8Array {
  const bytes = noise(length, 'periods')
  for (let at = 64, period = 1; at < length; at += 300, period = (period % 40) + 1) {
    const end = Math.min(at + 250, length)
    for (let i = at; i < end; i++) bytes[i] = bytes[i - period] as number
  }
  return bytes
}

/** One of each kind, by name. */
export function everyKind(length: number): [name: string, bytes: Uint8Array][] {
  return [
    ['zeros', new Uint8Array(length)],
    ['noise', noise(length)],
    ['program', program(length)],
    ['text', text(length)],
    ['runs', runs(length)],
    ['periods', periods(length)],
  ]
}

/** `bytes` with `padding` bytes of noise behind them. */
export function padded(bytes: Uint8Array, padding: number): Uint8Array {
  const result = new Uint8Array(bytes.length + padding)
  result.set(bytes)
  result.set(noise(padding, 'padding'), bytes.length)
  return result
}
