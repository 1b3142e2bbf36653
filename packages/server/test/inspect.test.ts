/** Inspection of anything at all: it says what it finds, never throws, and reads a bounded part. */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { MemoryStore } from '../../engine/src/source/memory.ts'
import { budget, seed, timeFor } from '../../engine/test/support/random.ts'
import { inspectSource, inspectStart } from '../src/inspect/inspect.ts'

/** Beginnings that lead into every reader, with their offset. */
const beginnings: [number, string][] = [
  [0, 'QFI\xfb\0\0\0\x03'],
  [0, 'QFI\xfb\0\0\0\x02'],
  [0, 'QED\0'],
  [0, 'conectix'],
  [0, 'vhdxfile'],
  [0, 'KDMV\x01\0\0\0'],
  [0, 'COWD'],
  [0, '# Disk DescriptorFile\nversion=1\ncreateType="x"\n'],
  [64, '\x7f\x10\xda\xbe'],
  [0, 'LUKS\xba\xbe'],
  [32769, 'CD001'],
  [510, '\x55\xaa'],
  [192 * 1024, 'regi\0\0\0\0\x02\0\0\0'],
  [0, ''],
]

it(
  'survives random bytes behind every signature, cut anywhere',
  async () => {
    const part = fc.record({
      starts: fc.uniqueArray(fc.constantFrom(...beginnings), { minLength: 1, maxLength: 3 }),
      size: fc.oneof(fc.integer({ min: 0, max: 2048 }), fc.integer({ min: 0, max: 300 * 1024 })),
      noise: fc.array(fc.record({ at: fc.integer({ min: 0, max: 1024 }), bytes: fc.uint8Array({ maxLength: 64 }) }), {
        maxLength: 6,
      }),
      tail: fc.option(fc.constantFrom('conectix', '')),
    })
    const seen = new Set<string>()
    const property = fc.asyncProperty(part, async ({ starts, size, noise, tail }) => {
      const data = Buffer.alloc(size)
      for (const { at, bytes } of noise) if (at < size) data.set(bytes.subarray(0, size - at), at)
      for (const [at, text] of starts) if (at < size) data.write(text, at, 'latin1')
      if (tail !== null && size >= 512) data.write(tail, size - 512, 'latin1')
      const findings = [
        ...(await inspectSource(MemoryStore.from(data))),
        ...(await inspectStart(data.subarray(0, 131072))),
      ]
      for (const { format, virtualSize } of findings) {
        seen.add(format)
        if (virtualSize !== undefined) expect(Number.isSafeInteger(virtualSize) && virtualSize >= 0).toBe(true)
      }
    })
    await fc.assert(property, {
      seed: seed('inspection'),
      numRuns: 1_000_000,
      interruptAfterTimeLimit: budget(3000),
      markInterruptAsFailure: false,
    })
    expect([...seen].toSorted()).toEqual(['gpt', 'iso', 'luks', 'qcow2', 'qed', 'vdi', 'vhd', 'vhdx', 'vmdk'])
  },
  timeFor(3000),
)
