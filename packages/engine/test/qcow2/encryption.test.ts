/** Encryption inside qcow2 and qcow beside qemu-img: the same content both ways, and nothing of it in clear. */
import { writeFileSync } from 'node:fs'
import { planConversion, qcow2 } from '@moraine/engine'
import { nodeCrypto } from '@moraine/engine/node'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { closing, formatOf } from '../support/disk.ts'
import {
  bytesOf,
  createEncrypted,
  imageOptions,
  openEncrypted,
  type opening,
  qemu,
  save,
  secrets,
  tryQemu,
  writeEncrypted,
} from '../support/encrypted.ts'
import { temporaryFolder } from '../support/folder.ts'
import { DiskModel } from '../support/model.ts'
import { describeWith } from '../support/process.ts'
import { budget, Random, seed, timeFor } from '../support/random.ts'
import { allSteps, contentSteps } from './steps.ts'

const folder = temporaryFolder()
const luks = 'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10'
const kinds: [format: string, options: string][] = [
  ['qcow2', luks],
  ['qcow2', `${luks},cluster_size=4k,refcount_bits=64`],
  ['qcow2', `${luks},cluster_size=512`],
  ['qcow2', `${luks},cluster_size=16k,extended_l2=on`],
  ['qcow2', `${luks},compat=0.10,encrypt.cipher-mode=cbc,encrypt.ivgen-alg=essiv`],
  ['qcow2', `${luks},encrypt.cipher-alg=aes-128,encrypt.cipher-mode=ctr,lazy_refcounts=on`],
  ['qcow2', 'encrypt.format=aes,encrypt.key-secret=s'],
  ['qcow2', 'encryption=on,encrypt.key-secret=s,cluster_size=8k'],
  ['qcow', 'encrypt.format=aes,encrypt.key-secret=s'],
  ['qcow', 'encryption=on,encrypt.key-secret=s'],
]
const size = 2 << 20
const marker = new TextEncoder().encode('this must never stand in a file as it is')

describeWith(['qemu-img'], 'encrypted images beside qemu-img', () => {
  it(
    'hold after any steps what they should, and QEMU sees it so',
    async () => {
      const random = new Random(seed('encrypted model'))
      const end = Date.now() + budget(4000)
      for (const [turn, [format, options]] of random.shuffle(kinds).entries()) {
        if (turn > 1 && Date.now() > end) break
        const store = await createEncrypted(format, options, size)
        const open = () => writeEncrypted(store, format)
        const model = new DiskModel(await open(), new Uint8Array(size), open)
        const steps = format === 'qcow' ? contentSteps : allSteps
        for (const step of fc.sample(steps, { numRuns: 5, seed: random.int(0, 1e9) }).flat()) await model.step(step)
        if (model.bytes.length < 2000) await model.step({ do: 'resize', clusters: 3, tail: 0 })
        await model.disk.write(1001, marker)
        model.bytes.set(marker, 1001)
        await model.compare()
        await model.compareSnapshots()
        await model.disk.close()
        expect(Buffer.from(await bytesOf(store)).includes(Buffer.from(marker)), options).toBe(false)
        const path = await save(store, folder.file(`model.${format}`))
        const raw = folder.file('model.raw')
        writeFileSync(raw, model.bytes)
        await qemu('compare', '--image-opts', `driver=raw,file.filename=${raw}`, imageOptions(path, format))
        if (format === 'qcow2') await qemu('check', '--image-opts', imageOptions(path, format))
      }
    },
    timeFor(4000),
  )

  it(
    'are read as QEMU writes them',
    async () => {
      const random = new Random(seed('encrypted theirs'))
      const end = Date.now() + budget(2000)
      for (const [turn, [format, options]] of random.shuffle(kinds).entries()) {
        if (turn > 1 && Date.now() > end) break
        const content = random.bytes(size)
        content.fill(0, 400_000, 900_000)
        const raw = folder.file('theirs.raw')
        writeFileSync(raw, content)
        const path = folder.file(`theirs.${format}`)
        await qemu('convert', '-f', 'raw', '-O', format, '-o', options, raw, path)
        await closing(await openEncrypted(path, format), async (disk) => {
          expect(Buffer.compare(await bytesOf(disk), content), options).toBe(0)
        })
        await expect(openEncrypted(path, format, { encryption: undefined })).rejects.toThrow(
          /Parameter 'encrypt.key-secret' is required for cipher/,
        )
      }
    },
    timeFor(2000),
  )

  it('lie where QEMU puts them', async () => {
    for (const options of [
      luks,
      `${luks},preallocation=metadata`,
      `${luks},cluster_size=512`,
      `${luks},preallocation=full`,
    ]) {
      const path = folder.file('layout.qcow2')
      await qemu('create', '-f', 'qcow2', '-o', options, path, '1M')
      const ours = await createEncrypted('qcow2', options, 1 << 20)
      await closing(await openEncrypted(path, 'qcow2'), async (theirs) => {
        expect(ours.size, options).toBe(theirs.file.size)
        const [a, b] = [await bytesOf(ours), await bytesOf(theirs.file)].map((bytes) => Buffer.from(bytes)) as [
          Buffer,
          Buffer,
        ]
        const at = Number(a.readBigUInt64BE(0x78))
        for (const image of [a, b]) {
          image.fill(0, at + 112, at + 208)
          image.fill(0, at + 212, at + 248)
          image.fill(0, at + 4096, at + 4096 + 64 * 4000)
        }
        expect(Buffer.compare(a, b), options).toBe(0)
      })
    }
  })

  it('take other passwords, and give them up', async () => {
    const path = await save(await createEncrypted('qcow2', luks, 1 << 20), folder.file('keys.qcow2'))
    const amend = (keySecret: string, ...change: Parameters<NonNullable<typeof qcow2.amendKeys>>) =>
      qcow2.amendKeys?.(change[0], change[1], { crypto: nodeCrypto, secrets }) ?? Promise.reject(new Error(keySecret))
    await closing(await writeEncrypted(path, 'qcow2'), async (disk) => {
      await disk.write(0, marker)
      await amend('s', disk, { state: 'active', newSecret: 'n', iterTime: 10 }, {})
      await amend('s', disk, { state: 'inactive', keyslot: 0 }, {})
      await expect(amend('s', disk, { state: 'inactive', keyslot: 1 }, {})).rejects.toThrow(/only active keyslot 1/)
    })
    const convert = (secret: string) =>
      tryQemu('convert', '--image-opts', imageOptions(path, 'qcow2', secret), '-O', 'raw', folder.file('keys.raw'))
    expect((await convert('s')).stderr).toMatch(/Invalid password, cannot unlock any keyslot/)
    expect((await convert('n')).code).toBe(0)
    await qemu('check', '--image-opts', imageOptions(path, 'qcow2', 'n'))
  })

  it('measure what they take', async () => {
    for (const options of [luks, `${luks},cluster_size=4k`, 'encrypt.format=aes,encrypt.key-secret=s']) {
      const text = await qemu('measure', '--output=json', '-O', 'qcow2', '-o', options, '--size', '1G')
      const { readOptions, splitOptions } = await import('@moraine/engine')
      const values = readOptions(qcow2.options, splitOptions(options))
      const found = await qcow2.measure?.({ size: 1 << 30, options: values, secrets })
      expect({ required: found?.required, 'fully-allocated': found?.fullyAllocated }, options).toEqual(JSON.parse(text))
    }
  })
})

describe('encrypted images', () => {
  it('pack nothing, and are not streamed in clear', async () => {
    const source = await closing(
      await writeEncrypted(await createEncrypted('qcow2', luks, 1 << 20), 'qcow2'),
      async (disk) => {
        expect([disk.packedUnit, disk.packedCodec, disk.noise]).toEqual([undefined, undefined, 'preallocated'])
        await expect(disk.writePacked?.(0, new Uint8Array(10))).rejects.toThrow(/Compression and encryption/)
        return disk
      },
    )
    for (const [format, options] of [
      ['qcow2', { 'encrypt.format': 'luks', 'encrypt.key-secret': 's' }],
      ['qcow2', { encryption: true, 'encrypt.key-secret': 's' }],
      ['qcow', { 'encrypt.format': 'aes', 'encrypt.key-secret': 's' }],
    ] as const) {
      const plan = await planConversion(source, { format: formatOf(format), options })
      await expect(plan.stream()).rejects.toMatchObject({ kind: 'unsupported' })
      await expect(planConversion(source, { format: formatOf(format), options, compress: true })).rejects.toThrow(
        /Compression and encryption not supported at the same time/,
      )
    }
  })

  it('say where header and caller disagree', async () => {
    const image = await createEncrypted('qcow2', luks, 1 << 20)
    const plain = await createEncrypted('qcow2', '', 1 << 20)
    const old = await createEncrypted('qcow', 'encryption=on,encrypt.key-secret=s', 1 << 20)
    const open = (store: typeof image, format: string, encryption: typeof opening.encryption) =>
      writeEncrypted(store, format, { encryption })
    await expect(open(image, 'qcow2', { keySecret: 's', format: 'aes' })).rejects.toThrow(
      /Header reported 'luks' encryption format but options specify 'aes'/,
    )
    await expect(open(plain, 'qcow2', { keySecret: 's', format: 'luks' })).rejects.toThrow(
      /No encryption in image header, but options specified format 'luks'/,
    )
    await expect(open(old, 'qcow', { keySecret: 's', format: 'luks' })).rejects.toThrow(
      /Header reported 'aes' encryption format but options specify 'luks'/,
    )
    await expect(writeEncrypted(image, 'qcow2', { crypto: undefined })).rejects.toMatchObject({
      kind: 'unsupported',
      field: 'crypto',
    })
  })
})
