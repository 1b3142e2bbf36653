/** How the requests are written that a real Glance and ours are both asked. */

/** One request. */
export interface Step {
  /** As in `GET /v2/images`. */
  line: string
  headers?: Record<string, string>
  body?: string | Uint8Array
  /** The name under which later lines have the id of what is answered: `{name}`. */
  keeps?: string
  /** Why ours answers otherwise. */
  differs?: string
}

export const json = { 'content-type': 'application/json' }
export const octets = { 'content-type': 'application/octet-stream' }
export const newPatch = 'application/openstack-images-v2.1-json-patch'
export const oldPatch = 'application/openstack-images-v2.0-json-patch'

export const a = 'aaaaaaaa-0000-4000-8000-000000000001'
export const b = 'bbbbbbbb-0000-4000-8000-000000000002'
export const c = 'cccccccc-0000-4000-8000-000000000003'
export const d = 'dddddddd-0000-4000-8000-000000000004'
export const e = 'eeeeeeee-0000-4000-8000-000000000005'
export const nowhere = '00000000-0000-4000-8000-000000000000'

export const get = (path: string, headers?: Record<string, string>): Step => ({
  line: `GET ${path}`,
  ...(headers === undefined ? {} : { headers }),
})
export const send = (line: string, body: string | Uint8Array, headers: Record<string, string> = json): Step => ({
  line,
  body,
  headers,
})
export const create = (body: unknown): Step => send('POST /v2/images', JSON.stringify(body))
export const patch = (id: string, changes: unknown, type = newPatch): Step =>
  send(`PATCH /v2/images/${id}`, JSON.stringify(changes), { 'content-type': type })
export const put = (id: string, body: string | Uint8Array, headers: Record<string, string> = octets): Step =>
  send(`PUT /v2/images/${id}/file`, body, headers)

export const but = (differs: string, step: Step): Step => ({ ...step, differs })
