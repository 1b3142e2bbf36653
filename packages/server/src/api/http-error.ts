/** Answers that are errors: one class, and a body in the shape that the client asked for. */

const titles: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  409: 'Conflict',
  410: 'Gone',
  412: 'Precondition Failed',
  413: 'Request Entity Too Large',
  414: 'URI Too Long',
  415: 'Unsupported Media Type',
  416: 'Request Range Not Satisfiable',
  423: 'Locked',
  429: 'Too Many Requests',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  503: 'Service Unavailable',
}

/** What is said when an error brings no words of its own. */
const explanations: Readonly<Record<number, string>> = {
  401: 'This server could not verify that you are authorized to access the document you requested.',
  403: 'Access was denied to this resource.',
  404: 'The resource could not be found.',
  409: 'There was a conflict when trying to complete your request.',
  416: 'The Range requested is not available.',
  500: 'The server has either erred or is incapable of performing the requested operation.',
}

/** An error with an HTTP status. `message` is shown to the client. */
export class HttpError extends Error {
  readonly status: number
  /** A second line, below the explanation. */
  readonly detail: string
  readonly headers: Readonly<Record<string, string>>

  constructor(status: number, message?: string, more: { detail?: string; headers?: Record<string, string> } = {}) {
    super(message ?? explanations[status] ?? titles[status] ?? 'Error')
    this.name = 'HttpError'
    this.status = status
    this.detail = more.detail ?? ''
    this.headers = more.headers ?? {}
  }
}

/** A rendered body with its media type. */
export interface ErrorBody {
  type: string
  body: string
}

/** The body of an error by the client's Accept header: a page for browsers and for `*\/*`, JSON, or text when nothing was asked for. The shapes are those of
 *  Glance (WebOb), which `openstack` and `glance` take apart. */
export function renderError(error: HttpError, accept: string | undefined): ErrorBody {
  const title = titles[error.status] ?? 'Error'
  const status = `${error.status} ${title}`
  // WebOb has templates of their own for these two.
  const end = error.status === 405 ? ' ' : error.status === 415 ? '\n' : undefined
  const compose = (safe: (text: string) => string) =>
    `${safe(error.message)}${end ?? ''}<br /><br />\n${safe(error.detail)}${end === undefined ? '\n\n' : ''}`
  switch (preferred(accept)) {
    case 'html': {
      const page = `<html>\n <head>\n  <title>${status}</title>\n </head>\n <body>\n  <h1>${status}</h1>\n  ${compose(escapeHtml)}\n </body>\n</html>`
      return { type: 'text/html; charset=UTF-8', body: page }
    }
    case 'json': {
      const body = { message: compose((text) => text), code: status, title }
      return { type: 'application/json', body: JSON.stringify(body) }
    }
    case 'text': {
      const plain = compose((text) => text)
        .replaceAll('\n', ' ')
        .replaceAll('<br />', '\n')
      return { type: 'text/plain; charset=UTF-8', body: `${status}\n\n${plain}` }
    }
  }
}

function preferred(accept: string | undefined): 'html' | 'json' | 'text' {
  if (accept === undefined) return 'text'
  const html = quality(accept, 'text', 'html')
  const json = quality(accept, 'application', 'json')
  if (html === 0 && json === 0) return 'text'
  return json > html ? 'json' : 'html'
}

/** The weight of a media type in an Accept header: the most specific range that matches counts. */
function quality(accept: string, type: string, subtype: string): number {
  let best = { specific: -1, weight: 0 }
  for (const part of accept.toLowerCase().split(',')) {
    const [range = '', ...parameters] = part.split(';').map((piece) => piece.trim())
    const specific = [`*/*`, `${type}/*`, `${type}/${subtype}`].indexOf(range)
    if (specific < 0 || specific < best.specific) continue
    const weight = Number(parameters.find((parameter) => parameter.startsWith('q='))?.slice(2) ?? 1)
    best = { specific, weight: Number.isFinite(weight) ? weight : 0 }
  }
  return best.weight
}

function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#x27;')
}
