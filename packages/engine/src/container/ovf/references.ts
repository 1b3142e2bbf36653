/** The files and disks that a descriptor names. Facts: DSP0243 2.1, sections 7.1 (References) and 9.1 (DiskSection). */
import { childrenOf, type XmlElement } from '../../codec/xml/document.ts'
import { MoraineError } from '../../core/index.ts'
import { ovfAttribute } from './xml.ts'

/** One file of the package. */
export interface OvfFile {
  id: string
  /** As it stands in the descriptor; `packageName` says whether it may be used. */
  href: string
  /** Bytes as they are stored. */
  size: number | undefined
  /** `identity`, `gzip`, or what else is written. */
  compression: string
  /** Bytes of each chunk but the last, where the file is cut in chunks. */
  chunkSize: number | undefined
  line: number
}

/** One disk of the package. */
export interface OvfDisk {
  id: string
  /** The file that holds it; an empty disk has none. */
  fileRef: string | undefined
  /** As written: a number, or `${property}`. */
  capacity: string | undefined
  /** As written; bytes where nothing is. */
  capacityUnits: string | undefined
  /** The URI of its format. */
  format: string | undefined
  /** Bytes that are in use. */
  populatedSize: number | undefined
  /** The disk that this one stands over. */
  parentRef: string | undefined
  line: number
}

function wholeNumber(element: XmlElement, name: string, path: string): number | undefined {
  const text = ovfAttribute(element, name)
  if (text === undefined || text.trim() === '') return undefined
  const value = /^\s*[0-9]{1,16}\s*$/.test(text) ? Number(text) : Number.NaN
  if (Number.isSafeInteger(value)) return value
  throw new MoraineError('invalid', `a ${element.local} has no usable ${name} at line ${element.line}`, {
    path,
    field: name,
    value: text.slice(0, 80),
    rule: 'a whole number below 2^53',
  })
}

/** The files of `References`, in order.
 *  @throws MoraineError `invalid` for numbers that are none. */
export function readFiles(envelope: XmlElement, path: string): OvfFile[] {
  return childrenOf(envelope, 'References').flatMap((references) =>
    childrenOf(references, 'File').map((file) => ({
      id: ovfAttribute(file, 'id') ?? '',
      href: ovfAttribute(file, 'href') ?? '',
      size: wholeNumber(file, 'size', path),
      compression: (ovfAttribute(file, 'compression') || 'identity').trim().toLowerCase(),
      chunkSize: wholeNumber(file, 'chunkSize', path) || undefined,
      line: file.line,
    })),
  )
}

/** The disks of all disk sections, in order. In OVF 0.9 these are sections of that type.
 *  @throws MoraineError `invalid` for numbers that are none. */
export function readDisks(sections: readonly XmlElement[], path: string): OvfDisk[] {
  return sections.flatMap((section) =>
    childrenOf(section, 'Disk').map((disk) => ({
      id: ovfAttribute(disk, 'diskId') ?? '',
      fileRef: ovfAttribute(disk, 'fileRef') || undefined,
      capacity: ovfAttribute(disk, 'capacity'),
      capacityUnits: ovfAttribute(disk, 'capacityAllocationUnits'),
      format: ovfAttribute(disk, 'format'),
      populatedSize: wholeNumber(disk, 'populatedSize', path),
      parentRef: ovfAttribute(disk, 'parentRef') || undefined,
      line: disk.line,
    })),
  )
}

/** The name of a file within its package. References may be URIs by the standard; ours stay in the package.
 *  @throws MoraineError `denied` for names that lead elsewhere. */
export function packageName(href: string, path: string): string {
  const refuse = (rule: string) =>
    new MoraineError('denied', 'the descriptor names a file outside the package', {
      path,
      field: 'href',
      value: href.slice(0, 200),
      rule,
    })
  if (/^[a-z][a-z0-9+.-]*:/i.test(href)) throw refuse('no scheme')
  if (href.startsWith('/') || href.includes('\\') || href.includes('\0'))
    throw refuse('a relative name with / between folders')
  const parts = href.replace(/^(?:\.\/)+/, '').split('/')
  if (parts.some((part) => part === '..' || part === '')) throw refuse('no ".." and no empty part')
  return parts.join('/')
}
