/** Damaged appliances and archives: bytes bent, cut, doubled and moved. Whatever comes, it is an answer or a clear error, in bounded time, and every length is kept. */
import {
  allContainers,
  applianceTargets,
  type ByteSource,
  checkPackage,
  isMoraineError,
  isOvfPackage,
  MemoryStore,
  type NewAppliance,
  openContainer,
  streamOva,
  xmlParser,
} from '@moraine/engine'
import { nodeSigning } from '@moraine/engine/node'
import { expect, it } from 'vitest'
import { budget, Random, seed, timeFor } from '../support/random.ts'

const chance = seed('damaged appliances')
const xml = xmlParser(() => import('saxes'))
const slowest = 10_000

async function appliance(): Promise<Uint8Array> {
  const [target] = applianceTargets
  if (target === undefined) throw new Error('no target')
  const content = new Uint8Array(5000).fill(7)
  const made: NewAppliance = {
    machine: { name: 'box', target, cpus: 2, memory: 1 << 30, firmware: 'efi', os: 'linux', cd: true },
    base: 'box',
    disks: [1, 2].map((number) => ({
      capacity: 1 << 20,
      stream: {
        length: content.length,
        async *chunks() {
          yield content.fill(number)
        },
      },
    })),
    digest: 'sha256',
    signing: nodeSigning,
  }
  const pieces: Uint8Array[] = []
  for await (const chunk of (await streamOva(made)).chunks()) pieces.push(chunk.slice())
  return Buffer.concat(pieces)
}

/** One to eight changes; many of them where structures are. */
function bend(bytes: Uint8Array, random: Random): Uint8Array {
  let bent = Buffer.from(bytes)
  for (let count = random.int(1, 8); count > 0; count--) {
    const at = random.bool(0.7) ? random.int(0, Math.min(bent.length, 6000) - 1) : random.int(0, bent.length - 1)
    const length = random.int(1, 600)
    const way = random.int(0, 6)
    if (way === 0) bent[at] = random.int(0, 255)
    else if (way === 1) bent.set(random.bytes(Math.min(length, bent.length - at)), at)
    else if (way === 2) bent = bent.subarray(0, Math.max(1, at)) as typeof bent
    else if (way === 3)
      bent.fill(random.pick([0, 0x20, 0x37, 0x3c, 0x80, 0xff]), at, Math.min(bent.length, at + random.int(1, 12)))
    else if (way === 4) bent = Buffer.concat([bent.subarray(0, at), bent.subarray(at + length)])
    else if (way === 5) bent = Buffer.concat([bent.subarray(0, at), bent.subarray(at, at + length), bent.subarray(at)])
    else {
      // A header whose checksum is right again, with another field.
      const block = at - (at % 512)
      if (block + 512 > bent.length) continue
      const field = random.pick([0, 100, 124, 125, 135, 156, 257, 345, 386, 482, 483])
      bent[block + field] = random.pick([0, 0x30, 0x31, 0x32, 0x35, 0x37, 0x53, 0x78, 0x4c, 0x80, 0xff])
      bent.fill(0x20, block + 148, block + 156)
      const sum = bent.subarray(block, block + 512).reduce((total, byte) => total + byte, 0)
      bent.write(`${sum.toString(8).padStart(6, '0')}\0 `, block + 148)
    }
    if (bent.length === 0) return Buffer.alloc(1)
  }
  return bent
}

async function readAll(source: ByteSource): Promise<void> {
  let end = 0
  for await (const batch of source.extents(0, source.size)) {
    for (const { offset, length } of batch) {
      expect(offset).toBe(end)
      expect(length).toBeGreaterThan(0)
      end += length
    }
  }
  expect(end).toBe(source.size)
  await source.read(0, new Uint8Array(Math.min(source.size, 1 << 20)))
}

async function use(bytes: Uint8Array, name: string): Promise<string> {
  const container = await openContainer(MemoryStore.from(bytes, name), allContainers, { xml })
  if (container === undefined) return 'nothing'
  try {
    for await (const member of container.members()) {
      try {
        const source = await container.open(member)
        await readAll(source)
        await source.close()
      } catch (error) {
        if (!isMoraineError(error)) throw error
      }
    }
    if (!isOvfPackage(container)) return 'archive'
    try {
      container.machines()
    } catch (error) {
      if (!isMoraineError(error)) throw error
    }
    await checkPackage(container, { signing: nodeSigning })
    return 'package'
  } finally {
    await container.close()
  }
}

it('a damaged appliance is an answer or a clear error', { timeout: timeFor(4000) }, async () => {
  const whole = await appliance()
  expect(await use(whole, 'a.ova')).toBe('package')
  const answers = new Map<string, number>()
  const end = Date.now() + budget(4000)
  for (let round = 0; Date.now() < end; round++) {
    const random = new Random(chance + round)
    const bytes = bend(whole, random)
    const begun = Date.now()
    let answer: string
    try {
      answer = await use(bytes, random.pick(['a.ova', 'a.tar', 'a.ovf']))
    } catch (error) {
      if (!isMoraineError(error)) throw new Error(`round ${round} of seed ${chance}`, { cause: error })
      expect(['corrupt', 'invalid', 'limit', 'unsupported', 'denied', 'missing', 'io']).toContain(error.kind)
      answer = error.kind
    }
    expect(Date.now() - begun, `round ${round} of seed ${chance}`).toBeLessThan(slowest)
    answers.set(answer, (answers.get(answer) ?? 0) + 1)
  }
  // The loop reaches all parts.
  for (const wanted of ['package', 'corrupt', 'invalid']) expect([...answers.keys()]).toContain(wanted)
})
