/** `ami info`: what is in a bundle. */
import { plainText } from '../../image/error-text.ts'
import { toPrettyJson } from '../../output/json.ts'
import { sizeText } from '../../output/size.ts'
import { defineVerb } from '../../verb.ts'
import { oneImage, outputFormat, wantsJson } from '../common.ts'

export const verb = defineVerb({
  name: 'ami info',
  summary: 'Show what a bundle holds',
  operands: 'MANIFEST',
  syntax: '',
  about:
    'Shows the manifest, and looks whether the parts are there. No key is needed; with --cert the signature is verified, and the exit code is 1 when it is not right.',
  examples: [['moraine ami info --cert cert.pem bundle/root.manifest.xml', 'and who signed it']],
  options: {
    output: outputFormat,
    cert: { short: 'c', long: 'cert', argument: 'FILE', help: 'The certificate (PEM) of whoever should have signed.' },
  },
  async run(values, operands, context) {
    const name = oneImage(operands)
    const json = wantsJson(values.output)
    const [engine, node, { openManifest, readPem }] = await Promise.all([
      import('@moraine/engine'),
      import('@moraine/engine/node'),
      import('../../ami/manifest.ts'),
    ])
    const certificate = values.cert === undefined ? undefined : readPem(context, values.cert)
    const { manifest, openPart } = await openManifest(context, name)
    const signature =
      certificate === undefined
        ? manifest.signature === undefined
          ? 'unsigned'
          : 'not verified'
        : engine.verifyManifest(manifest, certificate, node.nodeBundleCrypto)
    const parts: { filename: string; digest: string; size: number | undefined }[] = []
    for (const { filename, digest } of manifest.parts) {
      const source = await openPart({ filename, digest }).catch(() => undefined)
      parts.push({ filename, digest, size: source?.size })
      await source?.close()
    }
    const facts = {
      name: manifest.name,
      type: manifest.type,
      size: manifest.size,
      'bundled-size': manifest.bundledSize,
      architecture: manifest.architecture,
      user: manifest.user,
      'kernel-id': manifest.kernelId,
      'ramdisk-id': manifest.ramdiskId,
      bundler: [manifest.bundler.name, manifest.bundler.version].filter((text) => text !== '').join(' '),
      signature,
      digest: manifest.digest,
    }
    if (json) {
      const mappings = manifest.blockDevices.map(({ virtual, device }) => ({ virtual, device }))
      context.out.write(
        `${toPrettyJson({ ...facts, 'block-devices': mappings, 'product-codes': manifest.productCodes, parts })}\n`,
      )
    } else {
      const lines = Object.entries(facts).flatMap(([fact, value]) => {
        if (value === undefined || value === '') return []
        const text = typeof value === 'number' ? `${sizeText(value)} (${value} bytes)` : value
        return [`${fact.replaceAll('-', ' ')}: ${text}`]
      })
      for (const { virtual, device } of manifest.blockDevices) lines.push(`block device: ${virtual} = ${device}`)
      const absent = parts.filter(({ size }) => size === undefined)
      lines.push(
        `parts: ${parts.length}${absent.length === 0 ? '' : `, of which ${absent.length} are missing, as ${absent[0]?.filename}`}`,
      )
      context.out.write(`${lines.map(plainText).join('\n')}\n`)
    }
    return certificate === undefined || signature === 'verified' ? 0 : 1
  },
})
