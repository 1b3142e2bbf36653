/** The OpenAPI document: sound, and about all that there is and nothing else. */
import { Validator } from '@seriousme/openapi-schema-validator'
import { expect, it } from 'vitest'
import { described } from '../src/api/openapi-routes.ts'
import { ask, services } from './support/service.ts'

const start = services()

interface Document {
  openapi: string
  servers: { url: string }[]
  security?: object[]
  paths: Record<
    string,
    Record<string, { summary: string; operationId: string; parameters?: { name: string; in: string }[] }>
  >
  components: { schemas: Record<string, { properties?: Record<string, unknown> }> }
}

it('is sound, and describes every route', async () => {
  const { url } = await start({ diskFormats: 'raw, qcow2' })
  const document = (await ask(`${url}/openapi.json`)).json<Document>()
  const { valid, errors } = await new Validator().validate({ ...document })
  expect(errors).toBeUndefined()
  expect(valid).toBe(true)
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ name: `${method.toUpperCase()} ${path}`, ...operation })),
  )
  expect(operations.filter(({ summary }) => summary === '').map(({ name }) => name)).toEqual([])
  const known = operations.map(({ name }) => name.replace(/\{(\w+)\}/g, ':$1'))
  expect(Object.keys(described).filter((name) => !known.includes(name))).toEqual([])
  expect(new Set(operations.map(({ operationId }) => operationId)).size).toBe(operations.length)
  expect(document.servers).toEqual([{ url }])
  expect(document.security).toBeUndefined()
  // The schemas are those that requests are checked by.
  expect(document.components.schemas.image?.properties?.disk_format).toMatchObject({ enum: [null, 'raw', 'qcow2'] })
  const references = [...JSON.stringify(document).matchAll(/"#\/components\/schemas\/(\w+)"/g)].map(([, name]) => name)
  expect(references.length).toBeGreaterThan(30)
  expect(references.filter((name) => document.components.schemas[name ?? ''] === undefined)).toEqual([])
})

it('says where a token is needed', async () => {
  const { url } = await start({ auth: 'local', adminPassword: 'a-long-password' })
  const document = (await ask(`${url}/openapi.json`)).json<Document>()
  expect(document.security).toEqual([{ token: [] }])
})
