/** The keys that are shipped are those that they are said to be; gpg has the last word. */
import { writeFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, run } from '../../engine/test/support/process.ts'
import { catalogues, shippedKeyring } from '../src/catalogues.ts'
import { readKeyring } from '../src/signature.ts'

const folder = temporaryFolder()

/** Fingerprints as the publishers tell them. */
const known: Record<string, readonly string[]> = {
  ubuntu: ['D2EB44626FDDC30B513D5BB71A5D6C4C7DB87C81'],
  debian: [
    '10460DAD76165AD81FBC0CE9988021A964E6EA7D',
    'DF9B9C49EAA9298432589D76DA87E80D6294BE9B',
    'F41D30342F3546695F65C66942468F4009EA8AC3',
  ],
  fedora: [
    '36F612DCF27F7D1A48A835E4DBFCF71C6D9F90A6',
    '466CF2D8B60BC3057AA9453ED0622462E99D6AD1',
    '4F50A6114CD5C6976A7F1179655A4B02F577861E',
    'B0F4950458F69E1150C6C5EDC8AC4916105EF944',
    'B2E766FA50CA6FA2D5ED06FC09D879E09488FB64',
    'C6E7F081CF80E13146676E88829B606631645531',
    'D924B10D3E810DABDD8B56B596E7E91491211FCE',
  ],
  rocky: [
    '21CB256AE16FC54C6E652949702D426D350D275D',
    '7051C470A929F454CEBE37B715AF5DAC6D745A60',
    'FC226859C0860BF0DDB95B085B106C736FEDFC85',
  ],
}

test('the library reads each keyring that is shipped, and finds the keys of its publisher alone', async () => {
  const found: Record<string, string[]> = {}
  for (const definition of catalogues) {
    const text = await shippedKeyring(definition)
    if (text === undefined) continue
    const { keys } = await readKeyring(text, definition.name)
    found[definition.name] = keys.map((key) => key.getFingerprint().toUpperCase()).toSorted()
    // A key that cannot sign would make every signature a bad one.
    for (const key of keys) await expect(key.getSigningKey()).resolves.toBeDefined()
  }
  expect(found).toEqual(known)
})

describeWith(['gpg'], 'keyrings, as gpg reads them', () => {
  test('gpg finds the same keys in them', async () => {
    const found: Record<string, string[]> = {}
    for (const definition of catalogues) {
      const text = await shippedKeyring(definition)
      if (text === undefined) continue
      const file = folder.file(`${definition.name}.asc`)
      writeFileSync(file, text)
      const { stdout } = await run('gpg', ['--homedir', folder.file('.'), '--with-colons', '--show-keys', file])
      const lines = stdout.split('\n')
      const isPrimary = (at: number) => lines[at - 1]?.startsWith('pub:') === true
      found[definition.name] = lines
        .flatMap((line, at) => (line.startsWith('fpr:') && isPrimary(at) ? [line.split(':')[9] ?? ''] : []))
        .toSorted()
    }
    expect(found).toEqual(known)
  })
})
