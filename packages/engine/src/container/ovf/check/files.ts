/** Rules of the files: their order in the archive, their digests, their signature. Facts: DSP0243 2.1, sections 5 and 6. */
import { type ByteSource, type DigestName, isMoraineError, type Signing } from '../../../core/index.ts'
import { plainMemberName } from '../../container.ts'
import { hashSource } from '../hash.ts'
import type { Manifest } from '../manifest.ts'
import { chunkName, type OvfPackage } from '../open-package.ts'
import { packageName } from '../references.ts'
import { type Findings, quoted, repeated } from './finding.ts'

/** What is needed to check files. */
export interface FileCheck {
  signing: Signing
  /** Told of bytes that were hashed. */
  onBytes?: ((bytes: number) => void) | undefined
  signal?: AbortSignal | undefined
  /** Milliseconds since 1970, for certificates. */
  now: number
}

/** The names under which a package's references are stored, in their order, and what they lack. */
function storedNames({ envelope, source }: OvfPackage, findings: Findings, has: (name: string) => boolean): string[] {
  return envelope.files.flatMap((file) => {
    let name: string
    try {
      name = packageName(file.href, source.name)
    } catch {
      return []
    }
    if (file.chunkSize === undefined || has(name)) return [name]
    if (file.size === undefined) {
      findings.warning('chunks', `the file ${quoted(name)} is in chunks and its size is not said`, { line: file.line })
      return []
    }
    return Array.from({ length: Math.min(100_000, Math.ceil(file.size / file.chunkSize)) }, (_, index) =>
      chunkName(name, index),
    )
  })
}

/** Checks the archive: what is in it and in what order. */
export function checkArchive(opened: OvfPackage, findings: Findings): void {
  const { archive, descriptor } = opened.files
  if (archive === undefined) return
  const names: string[] = []
  for (const { name, type, link } of archive.members) {
    const plain = plainMemberName(name)
    names.push(plain)
    const place = { file: plain }
    if (type === 'folder') findings.error('member-type', `the folder ${quoted(name)} is in it`, place)
    else if (type !== 'file')
      findings.error(
        'member-type',
        `the member ${quoted(name)} is a ${type}${link === '' ? '' : ` to ${quoted(link)}`}`,
        place,
      )
    if (/(?:^|[/\\])\.\.(?:[/\\]|$)|^[/\\]|\\/.test(name))
      findings.error('member-name', `the member ${quoted(name)} leads out of the package`, place)
    else if (plain.includes('/')) findings.error('member-name', `the member ${quoted(name)} lies in a folder`, place)
    else if (plain !== name && type === 'file')
      findings.warning('member-name', `the member ${quoted(name)} is not called by its plain name`, place)
  }
  if (archive.end.zeroBlocks < 2) findings.warning('archive-end', 'the archive does not end with two blocks of zeros')
  checkOrder(opened, names, findings)
  const [base] = splitName(descriptor)
  for (const name of names.filter((each) => /\.(?:mf|cert)$/i.test(each))) {
    if (splitName(name)[0] !== base)
      findings.warning('base-name', `${quoted(name)} is not called as the descriptor ${quoted(descriptor)}`, {
        file: name,
      })
  }
}

function splitName(name: string): [base: string, extension: string] {
  const at = name.lastIndexOf('.')
  return [name.slice(0, at), name.slice(at + 1).toLowerCase()]
}

function checkOrder(opened: OvfPackage, names: readonly string[], findings: Findings): void {
  const { descriptor } = opened.files
  if (names[0] !== descriptor)
    findings.error('descriptor-first', `the descriptor is not the first member, ${quoted(names[0])} is`, {
      file: descriptor,
    })
  const has = new Set(names)
  const references = storedNames(opened, findings, (name) => has.has(name))
  const kinds = names.map((name) =>
    name === descriptor ? 'ovf' : /^(?:mf|cert)$/.test(splitName(name)[1]) ? splitName(name)[1] : 'file',
  )
  const manifest = kinds.indexOf('mf')
  const certificate = kinds.indexOf('cert')
  if (manifest >= 0) {
    const last = certificate >= 0 ? names.length - 2 : names.length - 1
    if (manifest !== 1 && manifest !== last)
      findings.error('manifest-place', 'the manifest stands neither behind the descriptor nor at the end', {
        file: names[manifest],
      })
  }
  if (certificate >= 0 && certificate !== manifest + 1) {
    findings.error('manifest-place', 'the signature does not stand behind the manifest', { file: names[certificate] })
  }
  const listed = new Set(references)
  const stored = names.filter((name) => listed.has(name))
  const wanted = references.filter((name, index) => has.has(name) && references.indexOf(name) === index)
  if (stored.some((name, index) => name !== wanted[index])) {
    findings.error('file-order', 'the files do not stand in the order of the references')
  }
  for (const [index, name] of names.entries()) {
    if (kinds[index] === 'file' && !listed.has(name))
      findings.warning('unlisted', `the descriptor does not name ${quoted(name)}`, { file: name })
  }
}

/** Checks that the files are there, are as large as is said, and have the digests of the manifest; reads each once. */
export async function checkFiles(opened: OvfPackage, check: FileCheck, findings: Findings): Promise<void> {
  const manifest = await attempt('manifest', opened.manifest(check.signal), findings)
  for (const file of opened.envelope.files) {
    try {
      await (await opened.openStored(file)).close()
    } catch (error) {
      if (!isMoraineError(error) || error.kind === 'io' || error.kind === 'cancelled') throw error
      if (error.kind === 'denied') continue
      const rule = error.kind === 'missing' ? 'missing-file' : 'size'
      const said =
        error.kind === 'missing' || error.value === undefined
          ? error.reason
          : `${error.reason} (${error.value}, and not ${error.rule})`
      findings.error(rule, said, { file: file.href, line: file.line })
    }
  }
  if (manifest === undefined) {
    if (!findings.list.some(({ rule }) => rule === 'manifest'))
      findings.warning('manifest', 'there is no manifest: nobody can tell whether the files are as they were')
  } else await checkManifest(opened, manifest, check, findings)
  await checkSignature(opened, manifest, check, findings)
}

async function attempt<Value>(rule: string, work: Promise<Value>, findings: Findings): Promise<Value | undefined> {
  try {
    return await work
  } catch (error) {
    if (!isMoraineError(error) || error.kind === 'io' || error.kind === 'cancelled') throw error
    findings.error(rule, error.value === undefined ? error.reason : `${error.reason}: ${quoted(String(error.value))}`)
    return undefined
  }
}

async function checkManifest(
  opened: OvfPackage,
  manifest: Manifest,
  check: FileCheck,
  findings: Findings,
): Promise<void> {
  const { entries, name: own } = manifest
  const strange = entries.find(({ strict }) => !strict)
  if (strange !== undefined)
    findings.warning('manifest-spelling', 'the manifest is not spelt as the standard does, and vSphere refuses that', {
      file: own,
      line: strange.line,
    })
  for (const name of repeated(entries.map(({ file, digest }) => `${file} by ${digest}`)))
    findings.warning('manifest-unique', `the manifest has ${quoted(name)} twice`, { file: own })
  if (new Set(entries.map(({ digest }) => digest)).size > 1)
    findings.warning('manifest-digests', 'the manifest has digests of several kinds', { file: own })
  if (entries.some(({ digest }) => digest === 'sha1') && opened.envelope.version === '2.0') {
    findings.warning('manifest-digests', 'the manifest has SHA-1, where OVF 2 wants SHA-256', { file: own })
  }
  const listed = new Set(entries.map(({ file }) => file))
  const wanted = new Set([opened.files.descriptor, ...storedNames(opened, findings, (name) => listed.has(name))])
  for (const { name, kind } of opened.files.listed) {
    if (kind === 'file' && !/\.(?:mf|cert)$/i.test(name)) wanted.add(name)
  }
  for (const name of wanted)
    if (!listed.has(name))
      findings.error('manifest-complete', `the manifest has no digest of ${quoted(name)}`, { file: name })
  const seen = new Set<string>()
  for (const { file } of inStoredOrder(opened, entries)) {
    if (seen.has(file)) continue
    seen.add(file)
    await checkDigests(
      opened,
      file,
      entries.filter((entry) => entry.file === file),
      check,
      findings,
    )
  }
}

/** Entries in the order in which an archive has their files, so that it is read front to back. */
function inStoredOrder({ files }: OvfPackage, entries: Manifest['entries']): Manifest['entries'] {
  const place = new Map(files.listed.map(({ name }, index) => [name, index]))
  return entries.toSorted((a, b) => (place.get(a.file) ?? Infinity) - (place.get(b.file) ?? Infinity) || 0)
}

async function checkDigests(
  opened: OvfPackage,
  file: string,
  entries: Manifest['entries'],
  { signing, signal, onBytes }: FileCheck,
  findings: Findings,
): Promise<void> {
  const [first] = entries
  const place = { file, line: first?.line }
  let source: ByteSource
  try {
    source =
      file === opened.files.descriptor && opened.format === 'ovf'
        ? borrowed(opened.source)
        : await opened.files.open(packageName(file, opened.source.name))
  } catch (error) {
    if (!isMoraineError(error) || error.kind === 'io' || error.kind === 'cancelled') throw error
    findings.error('missing-file', `the manifest names ${quoted(file)}, which is not there`, place)
    return
  }
  try {
    const names = [...new Set(entries.map(({ digest }) => digest))]
    const found = await hashSource(source, signing, names, { signal, onBytes })
    for (const { digest, hex } of entries) {
      if (found.get(digest) !== hex)
        findings.error('digest', `${quoted(file)} has another ${digest} than the manifest says`, place)
    }
  } finally {
    await source.close()
  }
}

function borrowed(source: ByteSource): ByteSource {
  return {
    name: source.name,
    size: source.size,
    read: (offset, into, signal) => source.read(offset, into, signal),
    extents: (offset, length, signal) => source.extents(offset, length, signal),
    close: async () => {},
  }
}

const weak: ReadonlySet<DigestName> = new Set(['sha1'])

async function checkSignature(
  opened: OvfPackage,
  manifest: Manifest | undefined,
  { signing, signal, now }: FileCheck,
  findings: Findings,
): Promise<void> {
  const signature = await attempt('signature', opened.signature(signal), findings)
  if (signature === undefined) return
  const place = { file: signature.name }
  if (manifest === undefined) {
    findings.error('signature', 'there is a signature, and no manifest that it signs', place)
    return
  }
  if (signature.manifest !== manifest.name)
    findings.error(
      'signature',
      `the signature is of ${quoted(signature.manifest)}, not of ${quoted(manifest.name)}`,
      place,
    )
  try {
    const certificates = signing.certificates(signature.pem)
    if (!signing.verify(manifest.bytes, signature.signature, signature.digest, signature.pem)) {
      findings.error('signature', 'the signature of the manifest is wrong', place)
    }
    for (const { subject, notBefore, notAfter } of certificates) {
      if (now < notBefore || now > notAfter)
        findings.warning('certificate', `the certificate of ${quoted(subject)} is not valid at this time`, place)
    }
    const [first] = certificates
    if (first?.selfSigned === true)
      findings.add(
        'note',
        'certificate',
        `the certificate of ${quoted(first.subject)} is signed by itself: who it is, is not known`,
        place,
      )
    if (weak.has(signature.digest))
      findings.warning('signature', `the signature is made with ${signature.digest}`, place)
  } catch (error) {
    if (!isMoraineError(error)) throw error
    findings.error('certificate', error.reason, place)
  }
}
