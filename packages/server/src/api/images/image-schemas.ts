/** The schemas of one service: its settings say which formats there are. */
import { Compile } from 'typebox/compile'
import type { Config } from '../../config.ts'
import { HttpError } from '../http-error.ts'
import { imageSchemas } from './documents.ts'
import { checkMatch } from './match.ts'

/** Formats that Amazon's images have for the disk and for what it is in at once. */
const amazon: readonly (string | null)[] = ['ami', 'ari', 'aki']

export class ImageSchemas {
  /** Those under `/v2/schemas`, by name. */
  readonly documents: Readonly<Record<string, object>>
  readonly #validator: Parameters<typeof checkMatch>[0]
  readonly #mustAgree: boolean

  constructor({ auth, diskFormats, containerFormats, requireFormatAgreement }: Config) {
    const list = (text: string) => text.split(/[\s,]+/).filter((word) => word !== '')
    const formats = { diskFormats: list(diskFormats), containerFormats: list(containerFormats) }
    const { documents, request } = imageSchemas(formats, auth !== 'none')
    this.documents = documents
    this.#validator = Compile(request)
    this.#mustAgree = requireFormatAgreement
  }

  /** Checks a whole image of a request, or a part of one. @throws HttpError 400, with the place and the rule. */
  check(part: object): void {
    checkMatch(this.#validator, 'image', part)
  }

  /** @throws HttpError 400 for formats that do not go together. */
  checkAgreement({
    diskFormat = null,
    containerFormat = null,
  }: {
    diskFormat?: string | null
    containerFormat?: string | null
  }): void {
    if (!this.#mustAgree || diskFormat === null || containerFormat === null || diskFormat === containerFormat) return
    const odd = [diskFormat, containerFormat].find((format) => amazon.includes(format))
    if (odd === undefined) return
    throw new HttpError(
      400,
      `Invalid mix of disk and container formats: disk_format is ${diskFormat} and container_format ${containerFormat}; where one is ${odd}, both must be.`,
    )
  }
}
