/** Damaged and hostile LUKS headers: refused in QEMU's words where it has them, within bounds of time and memory. */
import { luks, MemoryStore, MoraineError, type OpenOptions, openDisk } from '@moraine/engine'
import { nodeCrypto } from '@moraine/engine/node'
import { beforeAll, describe, expect, it } from 'vitest'
import { bytesOf, createEncrypted, opening, writeEncrypted } from '../support/encrypted.ts'
import { budget, Random, seed, timeFor } from '../support/random.ts'

let image: Buffer
beforeAll(async () => {
  image = Buffer.from(await bytesOf(await createEncrypted('luks', 'key-secret=s,iter-time=10', 8192)))
})

async function open(bytes: Uint8Array, more: Partial<OpenOptions> = {}, format = 'luks') {
  const store = new MemoryStore({ name: 'bad.luks' })
  await store.write(0, bytes)
  return openDisk(store, { ...opening, format, ...more })
}

const u32 = (at: number, value: number) => (bytes: Buffer) => void bytes.writeUInt32BE(value >>> 0, at)
const text = (at: number, value: string) => (bytes: Buffer) => void bytes.fill(0, at, at + 32).write(value, at)
const long = (at: number) => (bytes: Buffer) => void bytes.fill(0x61, at, at + 32)
const slot = (index: number, field: number, value: number) => u32(208 + 48 * index + field, value)

/** Words of QEMU 7.2, measured. */
const table: [name: string, damage: (bytes: Buffer) => void, words: string][] = [
  ['another version', (bytes) => void bytes.writeUInt16BE(3, 6), 'LUKS version 3 is not supported'],
  ['a cipher nobody has', text(8, 'foo'), "Algorithm 'foo' with key size 32 bytes not supported"],
  ['a cipher of 32 letters', long(8), 'LUKS header cipher name is not NUL terminated'],
  ['a mode of 32 letters', long(40), 'LUKS header cipher mode is not NUL terminated'],
  ['a hash of 32 letters', long(72), 'LUKS header hash spec is not NUL terminated'],
  ['a mode without IVs', text(40, 'xts'), "Unexpected cipher mode string format 'xts'"],
  ['a mode nobody has', text(40, 'foo-plain64'), "Cipher mode 'foo' not supported"],
  ['IVs nobody has', text(40, 'xts-foo'), "IV generator 'foo' not supported"],
  ['a hash for IVs nobody has', text(40, 'xts-essiv:foo'), "Hash algorithm 'foo' not supported"],
  ['essiv without a hash', text(40, 'xts-essiv'), 'Missing IV generator hash specification'],
  ['essiv with a hash too long', text(40, 'xts-essiv:sha512'), 'No AES cipher with key size 64 available'],
  ['a hash nobody has', text(72, 'foo'), "Hash algorithm 'foo' not supported"],
  ['a name of an object', text(72, 'toString'), "Hash algorithm 'toString' not supported"],
  ['a cipher of an object', text(8, 'constructor'), "Algorithm 'constructor' with key size 32 bytes not supported"],
  ['a payload over the header', u32(104, 5), 'LUKS payload is overlapping with the header'],
  ['a payload past the file', u32(104, 0xffff_ffff), 'Could not refresh total sector count: Input/output error'],
  ['an odd key', u32(108, 62), "Algorithm 'aes' with key size 31 bytes not supported"],
  ['a key of nothing', u32(108, 0), "Algorithm 'aes' with key size 0 bytes not supported"],
  ['a key of 2 GiB', u32(108, 0x7fff_ffff), 'Keyslot 0 is overlapping with the encrypted payload'],
  ['a shorter key', u32(108, 48), 'Invalid password, cannot unlock any keyslot'],
  ['no rounds', u32(164, 0), 'LUKS key iteration count is zero'],
  ['a state of no kind', slot(0, 0, 1), 'Keyslot 0 state (active/disable) is corrupted'],
  ['no rounds of a slot', slot(0, 4, 0), 'Keyslot 0 iteration count is zero'],
  ['material over the header', slot(0, 40, 1), 'Keyslot 0 is overlapping with the LUKS header'],
  ['material over the payload', slot(0, 40, 5000), 'Keyslot 0 is overlapping with the encrypted payload'],
  ['other stripes', slot(0, 44, 4001), 'Keyslot 0 is corrupted (stripes 4001 != 4000)'],
  ['material over material', slot(1, 40, 9), 'Keyslots 0 and 1 are overlapping in the header'],
  ['no slot at all', slot(0, 0, 0xdead), 'Invalid password, cannot unlock any keyslot'],
  ['rounds for an hour', slot(0, 4, 0xffff_ffff), 'its key derivation would take too long'],
  ['rounds of the digest for an hour', u32(164, 0xffff_ffff), 'its key derivation would take too long'],
]

describe('damaged LUKS headers', () => {
  it.each(table)('%s', async (_name, damage, words) => {
    const bytes = Buffer.from(image)
    damage(bytes)
    const started = performance.now()
    await expect(open(bytes)).rejects.toMatchObject({ name: 'MoraineError', path: 'bad.luks', reason: words })
    expect(performance.now() - started).toBeLessThan(20_000)
  })

  it('a file that ends anywhere', async () => {
    for (const length of [0, 7, 8, 591, 592, 4096, 5000, 100_000, 2_068_479]) {
      await expect(open(image.subarray(0, length)), `${length} bytes`).rejects.toBeInstanceOf(MoraineError)
    }
    const empty = await open(image.subarray(0, 2_068_480))
    expect(empty.size).toBe(0)
  })

  it(
    'any bytes changed: an error of ours, or a disk',
    async () => {
      const random = new Random(seed('luks mutation'))
      const end = Date.now() + budget(1500)
      // Bounds as a service would have them.
      const limits = { keyRounds: 100_000 }
      for (let turn = 0; turn < 5 || Date.now() < end; turn++) {
        const bytes = Buffer.from(image)
        for (let i = random.int(1, 4); i > 0; i--) bytes[random.int(0, 592)] = random.int(0, 255)
        try {
          const disk = await open(bytes, { limits })
          await disk.read(0, new Uint8Array(Math.min(512, disk.size)))
        } catch (error) {
          if (!(error instanceof MoraineError)) throw error
        }
      }
    },
    timeFor(1500),
  )
})

describe('damaged LUKS2 headers', () => {
  const slotOf = (more: object) => ({
    type: 'luks2',
    key_size: 64,
    af: { type: 'luks1', stripes: 4000, hash: 'sha256' },
    area: { type: 'raw', offset: '32768', size: '258048', encryption: 'aes-xts-plain64', key_size: 64 },
    kdf: { type: 'pbkdf2', hash: 'sha256', iterations: 1000, salt: 'c2FsdA==' },
    ...more,
  })
  const kdf = (more: object) => ({ type: 'argon2id', time: 4, memory: 4096, cpus: 1, salt: 'c2FsdHNhbHQ=', ...more })
  const whole = (more: object = {}, keyslot: object = {}) => ({
    keyslots: { '0': slotOf(keyslot) },
    segments: {
      '0': {
        type: 'crypt',
        offset: '1048576',
        size: 'dynamic',
        iv_tweak: '0',
        encryption: 'aes-xts-plain64',
        sector_size: 512,
      },
    },
    digests: {
      '0': {
        type: 'pbkdf2',
        keyslots: ['0'],
        segments: ['0'],
        hash: 'sha256',
        iterations: 1000,
        salt: 'c2FsdA==',
        digest: 'AAAA',
      },
    },
    config: {},
    ...more,
  })

  function second(json: unknown): Buffer {
    const bytes = Buffer.alloc(2 << 20)
    bytes.write('LUKS\xba\xbe', 'latin1')
    bytes.writeUInt16BE(2, 6)
    bytes.writeBigUInt64BE(16_384n, 8)
    bytes.write(typeof json === 'string' ? json : JSON.stringify(json), 4096)
    return bytes
  }

  const segment = (more: object) => ({ segments: { '0': { ...whole().segments['0'], ...more } } })
  it.each([
    ['the wrong password', whole(), 'denied', /Invalid password/],
    ['no digest', whole({ digests: {} }), 'denied', /Invalid password/],
    [
      'needs nobody knows',
      whole({ config: { requirements: { mandatory: ['online-reencrypt'] } } }),
      'unsupported',
      /features/,
    ],
    [
      'two segments',
      whole({ segments: { '0': whole().segments['0'], '1': whole().segments['0'] } }),
      'unsupported',
      /segment/,
    ],
    ['integrity', whole(segment({ integrity: { type: 'hmac(sha256)' } })), 'unsupported', /checksums/],
    ['sectors of 1 MiB', whole(segment({ sector_size: 1 << 20 })), 'invalid', /sectors have/],
    [
      'rounds for an hour',
      whole({}, { kdf: { type: 'pbkdf2', hash: 'sha256', iterations: 4e9, salt: 'c2FsdA==' } }),
      'limit',
      /too long/,
    ],
    ['a gigabyte too much', whole({}, { kdf: kdf({ memory: 4_194_305 }) }), 'limit', /too much memory/],
    ['a million passes', whole({}, { kdf: kdf({ time: 1_000_000, memory: 1_000_000 }) }), 'limit', /too much memory/],
    ['a thousand lanes', whole({}, { kdf: kdf({ cpus: 1000 }) }), 'invalid', /impossible parameters/],
    ['less memory than lanes', whole({}, { kdf: kdf({ cpus: 4, memory: 16 }) }), 'invalid', /impossible parameters/],
    ['no memory', whole({}, { kdf: kdf({ memory: 0 }) }), 'invalid', /lacks a number/],
    ['a kdf nobody has', whole({}, { kdf: { type: 'scrypt' } }), 'unsupported', /stretched/],
    ['a salt that is none', whole({}, { kdf: kdf({ salt: '%%%' }) }), 'invalid', /base64/],
    [
      'four thousand million stripes',
      whole({}, { af: { type: 'luks1', stripes: 4e9, hash: 'sha256' } }),
      'invalid',
      /impossible size/,
    ],
    [
      'a slot past the file',
      whole({}, { area: { ...slotOf({}).area, offset: '9007199254740991' } }),
      'invalid',
      /outside its area/,
    ],
    ['an area too small', whole({}, { area: { ...slotOf({}).area, size: '512' } }), 'invalid', /outside its area/],
    [
      'a cipher nobody has',
      whole({}, { area: { ...slotOf({}).area, encryption: 'capi:aes' } }),
      'unsupported',
      /string format|not supported/,
    ],
    ['a payload at -1', whole(segment({ offset: '-1' })), 'invalid', /nothing of a payload/],
    ['JSON that is none', '{"segments": [', 'invalid', /nothing of a payload/],
    ['JSON a thousand deep', `${'['.repeat(12_000)}`, 'invalid', /nothing of a payload/],
    ['JSON of keys of objects', '{"__proto__":{"segments":{"0":{"offset":"1"}}}}', 'invalid', /nothing of a payload/],
  ] as const)('%s', async (_name, json, kind, reason) => {
    const started = performance.now()
    await expect(open(second(json), {}, 'luks2')).rejects.toMatchObject({ kind, reason: expect.stringMatching(reason) })
    expect(performance.now() - started).toBeLessThan(20_000)
  })

  it('without Argon2, say so', async () => {
    const { argon2: _argon2, ...crypto } = nodeCrypto
    await expect(open(second(whole({}, { kdf: kdf({}) })), { crypto }, 'luks2')).rejects.toThrow(
      /argon2id, which is not at hand/,
    )
  })
})

describe('LUKS under power cuts', () => {
  /** Keeps every write. */
  class Recorded extends MemoryStore {
    readonly log: { offset: number; data: Uint8Array }[] = []

    override async write(offset: number, from: Uint8Array): Promise<void> {
      this.log.push({ offset, data: Uint8Array.from(from) })
      await super.write(offset, from)
    }
  }

  it.each([
    ['is added', { state: 'active', newSecret: 'n', iterTime: 10 }],
    ['is erased', { state: 'inactive', keyslot: 1 }],
  ] as const)(
    'keeps the other password when one %s and that is cut short, at any write',
    async (_name, change) => {
      const store = new Recorded({ name: 'cut.luks' })
      await store.write(0, image)
      const disk = await writeEncrypted(store, 'luks')
      await luks.amendKeys?.(disk, { state: 'active', newSecret: 'w', iterTime: 10 }, opening)
      const before = Buffer.from(await bytesOf(store))
      store.log.length = 0
      await luks.amendKeys?.(disk, change, opening)
      expect(store.log.length).toBeGreaterThan(1)
      for (let kept = 0; kept <= store.log.length; kept += kept < 3 || kept > store.log.length - 4 ? 1 : 9) {
        const bytes = Buffer.from(before)
        for (const { offset, data } of store.log.slice(0, kept)) bytes.set(data, offset)
        // Of the next write half the sectors reached the disk.
        const torn = store.log[kept]
        if (torn !== undefined) bytes.set(torn.data.subarray(0, Math.ceil(torn.data.length / 1024) * 512), torn.offset)
        await expect(open(bytes), `${kept} writes`).resolves.toBeDefined()
      }
    },
    60_000,
  )
})
