/** The mirror as other programs read it: gpgv vouches for its files, and a reader in Python, written from the description of simplestreams alone, finds the same files in it. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, run } from '../../engine/test/support/process.ts'
import { openCatalogue } from '../src/open.ts'
import { readSimplestreams } from '../src/simplestreams.ts'
import { type MadeMirror, makeMirror } from './support/mirror.ts'
import { fetchGet } from './support/web.ts'

const folder = temporaryFolder()
const reader = `
import hashlib, json, os, sys
base = sys.argv[1]
index = json.load(open(os.path.join(base, 'streams/v1/index.json')))
for entry in index['index'].values():
    if entry['format'] != 'products:1.0' or entry.get('datatype') != 'image-downloads': continue
    tree = json.load(open(os.path.join(base, entry['path'])))
    for product, p in tree['products'].items():
        for serial, v in p['versions'].items():
            for name, i in v['items'].items():
                if 'path' not in i: continue
                both = {**tree, **p, **v, **i}
                data = open(os.path.join(base, i['path']), 'rb').read()
                assert len(data) == i['size'] and hashlib.sha256(data).hexdigest() == i['sha256']
                print(product, serial, name, both['release'], both['version'], both['arch'], both['label'], i['size'], i['sha256'], i['path'])
`

describeWith(['gpgv', 'gpg', 'python3'], 'the mirror, read by others', () => {
  let made: MadeMirror
  beforeAll(async () => {
    made = await makeMirror(folder.file('mirror'), { only: ['ubuntu'], time: new Date(Date.now() - 60_000) })
    await run('gpg', [
      '--homedir',
      folder.file('.'),
      '--batch',
      '--output',
      folder.file('k.gpg'),
      '--dearmor',
      made.keyring,
    ])
  })

  test('gpgv vouches for every file that is signed', async () => {
    for (const name of ['index', 'com.ubuntu.cloud:released:download']) {
      const file = join(made.folder, 'ubuntu/releases/streams/v1', name)
      for (const args of [[`${file}.sjson`], [`${file}.json.gpg`, `${file}.json`]]) {
        const { code, stderr } = await run('gpgv', ['--keyring', folder.file('k.gpg'), ...args])
        expect([code, stderr]).toEqual([0, expect.stringContaining('Good signature')])
      }
    }
  })

  test('a reader in Python finds the same files', async () => {
    const base = join(made.folder, 'ubuntu/releases')
    writeFileSync(folder.file('reader.py'), reader)
    const { stdout, stderr } = await run('python3', [folder.file('reader.py'), base])
    expect(stderr).toBe('')
    const keyring = { bytes: made.signer.publicKey, name: 'test' }
    const reading = await openCatalogue({ distribution: 'ubuntu', mirror: base, get: fetchGet, keyring })
    const images = await readSimplestreams(reading, { layout: 'simplestreams', path: '' })
    const ours = images.map((image) => {
      const { product, serial, item, release, version, architecture, label, size, digest, path } = image
      return [product, serial, item, release, version, architecture, label, size, digest, path].join(' ')
    })
    expect(ours.toSorted()).toEqual(stdout.trim().split('\n').toSorted())
    expect(ours.length).toBeGreaterThan(60)
  })
})
