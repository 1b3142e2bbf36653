/** `--object throttle-group`: how fast requests and bytes pass. Lower bounds alone: a busy machine makes all of it slower. */
import { expect, it } from 'vitest'
import { ThrottleGroup } from '../src/objects/throttle-group.ts'

const never = new AbortController().signal

/** Milliseconds for so many requests, all asked for at once. */
async function timed(limits: Record<string, number>, call: 'read' | 'write', count: number, bytes: number) {
  const group = new ThrottleGroup(new Map(Object.entries(limits)))
  const begun = performance.now()
  await Promise.all(Array.from({ length: count }, () => group.pass(call, bytes, never)))
  return performance.now() - begun
}

it('requests wait for their turn, each direction by its own limit', async () => {
  // A tenth of a second's worth passes at once, and one more, as the bucket may be just full: 19 of 30 wait 10 ms each.
  expect(await timed({ 'iops-read': 100 }, 'read', 30, 512)).toBeGreaterThan(170)
  expect(await timed({ 'iops-total': 100 }, 'write', 30, 512)).toBeGreaterThan(170)
  expect(await timed({ 'iops-read': 1 }, 'write', 30, 512)).toBeLessThan(1000)
})

it('bytes count, and long requests count as several', async () => {
  expect(await timed({ 'bps-total': 100000 }, 'read', 4, 10_000)).toBeGreaterThan(170)
  expect(await timed({ 'iops-total': 100, 'iops-size': 1000 }, 'read', 4, 10_000)).toBeGreaterThan(170)
})

it('a burst passes at once, up to what it may have', async () => {
  const limits = { 'iops-total': 10, 'iops-total-max': 200 }
  expect(await timed(limits, 'read', 100, 512)).toBeLessThan(1000)
  // Of 220 the last 19 come at the rate of 10 a second; a few are enough to see that.
  expect(await timed(limits, 'read', 204, 512)).toBeGreaterThan(150)
  // For two seconds 100 a second pass, not all at once.
  const long = { 'iops-total': 10, 'iops-total-max': 100, 'iops-total-max-length': 2 }
  expect(await timed(long, 'read', 40, 512)).toBeGreaterThan(170)
})

it('who is stopped does not wait', async () => {
  const group = new ThrottleGroup(new Map([['iops-total', 1]]))
  const stop = new AbortController()
  const passed = Promise.all([1, 2, 3, 4].map(() => group.pass('read', 1, stop.signal)))
  stop.abort()
  const begun = performance.now()
  await passed
  expect(performance.now() - begun).toBeLessThan(900)
})
