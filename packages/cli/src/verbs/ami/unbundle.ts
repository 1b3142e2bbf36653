/** `ami unbundle`: the image in a bundle. */
import { existsSync } from 'node:fs'
import { Failure, failureFrom, usageFailure } from '../../failure.ts'
import { defineVerb } from '../../verb.ts'
import { progressMode, quiet, rehearsal, showProgress, wantsJson } from '../common.ts'

export const verb = defineVerb({
  name: 'ami unbundle',
  summary: 'Take the image out of a bundle',
  operands: 'MANIFEST [TARGET]',
  syntax: '',
  about:
    "Writes the image, raw and with holes, to TARGET (under the name in the manifest when not given, which must be new then). The manifest's signature, the digest of each part and that of the whole are " +
    'checked; parts lie beside the manifest. TARGET stands under its name only when all was right.',
  examples: [
    ['moraine ami unbundle bundle/root.manifest.xml root.img --private-key pk.pem', 'signed by the owner of that key'],
  ],
  options: {
    ...rehearsal,
    privateKey: {
      short: 'k',
      long: 'private-key',
      argument: 'FILE',
      help: "The user's private key (PEM), or the cloud's with --as-cloud.",
    },
    cert: {
      short: 'c',
      long: 'cert',
      argument: 'FILE',
      help: 'The certificate (PEM) of whoever signed the manifest. The owner of the private key when not given.',
    },
    cloud: {
      long: 'as-cloud',
      help: 'The private key is that of the cloud for which the bundle was made; --cert is needed then.',
    },
    unsigned: { long: 'unsigned', help: 'Do not look at the signature: anybody may have made the bundle.' },
    percent: showProgress,
    progress: progressMode,
    quiet,
  },
  async run(values, [name, target, ...more], context) {
    if (name === undefined || more.length > 0) throw usageFailure('Expecting MANIFEST and perhaps TARGET')
    if (values.privateKey === undefined) throw usageFailure('--private-key is needed')
    if (values.cloud && values.cert === undefined && !values.unsigned) throw usageFailure('--as-cloud needs --cert')
    const [
      engine,
      node,
      { openManifest, readPem },
      { NewFiles },
      { showProgress: begin },
      { streamCodecs },
      { pathOf },
    ] = await Promise.all([
      import('@moraine/engine'),
      import('@moraine/engine/node'),
      import('../../ami/manifest.ts'),
      import('../../ami/new-files.ts'),
      import('../../output/progress.ts'),
      import('../../wrappers.ts'),
      import('../../open.ts'),
    ])
    const privateKey = readPem(context, values.privateKey)
    const certificate = values.cert === undefined ? privateKey : readPem(context, values.cert)
    const { manifest, path, openPart } = await openManifest(context, name)
    const files = new NewFiles()
    const display = await begin(context, values, {
      operation: 'unbundle',
    })
    try {
      if (!values.unsigned) refuseUnsigned(engine.verifyManifest(manifest, certificate, node.nodeBundleCrypto), path)
      if (target === undefined && existsSync(plainName(manifest.name))) {
        throw new Failure(`'${manifest.name}' is there already`, { hint: 'Name a target to overwrite it.' })
      }
      const place = target === undefined ? plainName(manifest.name) : pathOf(target, context.persona)
      if (values.dryRun) {
        const { planFile, printPlan } = await import('../../dry-run.ts')
        const writes = [`the image of ${manifest.parts.length} part(s), raw and with holes`]
        printPlan(context, planFile('ami unbundle', place, { writes, size: manifest.size }), wantsJson(values.output))
        return 0
      }
      const file = await files.begin(place)
      try {
        await engine.unbundleImage({
          manifest,
          path,
          privateKey,
          recipient: values.cloud ? 'ec2' : 'user',
          openPart,
          target: file.store,
          crypto: node.nodeBundleCrypto,
          codecs: streamCodecs(),
          signal: context.signal,
          onProgress: display.onProgress,
        })
        await file.store.flush()
        await file.store.close()
        await file.publish()
      } catch (error) {
        await file.store.close().catch(() => {})
        await file.abandon()
        throw error
      }
      display.finish()
      return 0
    } catch (error) {
      throw failureFrom(error, context.persona, `Could not unbundle '${name}': `)
    } finally {
      display.end()
      files.end()
    }
  },
})

const reasons = {
  wrong: 'the signature of the manifest is not that of the certificate',
  unsigned: 'the manifest is not signed',
  uncertain: 'the manifest is written so that what is signed cannot be told for certain',
}

function refuseUnsigned(verdict: 'verified' | keyof typeof reasons, path: string): void {
  if (verdict === 'verified') return
  throw new Failure(`${path}: ${reasons[verdict]}`, { hint: 'With --unsigned the image is taken out all the same.' })
}

/** A stranger gave the name. */
function plainName(name: string): string {
  if (/^[\w][\w.+ -]*$/.test(name)) return name
  throw new Failure(`the name of the image in the manifest, ${JSON.stringify(name)}, is none for a file`, {
    hint: 'Name a target.',
  })
}
