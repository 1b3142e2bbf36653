/** The JSON schemas of the API, declared once: requests are checked against them, and clients fetch them from `/v2/schemas`. */
import { type TSchema, Type } from '@fastify/type-provider-typebox'

const idPattern = '^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$'

type Facts = { description?: string; readOnly?: true; maxLength?: number; pattern?: string }

const maybeText = (facts: Facts) => Type.Unsafe<string | null>({ type: ['null', 'string'], ...facts })
const maybeInteger = (facts: Facts) => Type.Unsafe<number | null>({ type: ['null', 'integer'], ...facts })
const maybeOneOf = <Value extends string>(values: readonly Value[], facts: Facts) =>
  Type.Unsafe<Value | null>({ type: ['null', 'string'], ...facts, enum: [null, ...values] })
const oneOf = <Value extends string>(values: readonly Value[], facts: Facts) =>
  Type.Unsafe<Value>({ type: 'string', ...facts, enum: values })

const link = (rel: string, href: string) => ({ rel, href })

/** Values that `disk_format` and `container_format` may have. */
export interface Formats {
  diskFormats: readonly string[]
  containerFormats: readonly string[]
}

/** Only listed where clients log in. The `glance` client makes an option of every name in a schema that it finds in its folder, and stops working when it meets its own
 *  `--stores`; it finds none when it has logged in, as it looks elsewhere than it keeps them then. */
const stores = Type.String({
  readOnly: true,
  description:
    'Store in which image data resides.  Only present when the operator has enabled multiple stores.  May be a comma-separated list of store identifiers.',
})

/** What every image has. `readOnly` is what only the service sets. */
function imageProperties({ diskFormats, containerFormats }: Formats, hasLogins: boolean) {
  return {
    id: Type.String({ description: 'An identifier for the image', pattern: idPattern }),
    name: maybeText({ description: 'Descriptive name for the image', maxLength: 255 }),
    status: oneOf(
      ['queued', 'saving', 'active', 'killed', 'deleted', 'uploading', 'importing', 'pending_delete', 'deactivated'],
      { readOnly: true, description: 'Status of the image' },
    ),
    visibility: oneOf(['community', 'public', 'private', 'shared'], { description: 'Scope of image accessibility' }),
    protected: Type.Boolean({ description: 'If true, image will not be deletable.' }),
    os_hidden: Type.Boolean({ description: 'If true, image will not appear in default image list response.' }),
    checksum: maybeText({ readOnly: true, description: 'md5 hash of image contents.', maxLength: 32 }),
    os_hash_algo: maybeText({ readOnly: true, description: 'Algorithm to calculate the os_hash_value', maxLength: 64 }),
    os_hash_value: maybeText({
      readOnly: true,
      description: 'Hexdigest of the image contents using the algorithm specified by the os_hash_algo',
      maxLength: 128,
    }),
    owner: maybeText({ description: 'Owner of the image', maxLength: 255 }),
    size: maybeInteger({ readOnly: true, description: 'Size of image file in bytes' }),
    virtual_size: maybeInteger({ readOnly: true, description: 'Virtual size of image in bytes' }),
    container_format: maybeOneOf(containerFormats, { description: 'Format of the container' }),
    disk_format: maybeOneOf(diskFormats, { description: 'Format of the disk' }),
    created_at: Type.String({ readOnly: true, description: 'Date and time of image registration' }),
    updated_at: Type.String({ readOnly: true, description: 'Date and time of the last image modification' }),
    tags: Type.Array(Type.String({ maxLength: 255 }), { description: 'List of strings related to the image' }),
    direct_url: Type.String({
      readOnly: true,
      description: 'URL to access the image file kept in external store',
    }),
    min_ram: Type.Integer({ description: 'Amount of ram (in MB) required to boot image.' }),
    min_disk: Type.Integer({ description: 'Amount of disk space (in GB) required to boot image.' }),
    self: Type.String({ readOnly: true, description: 'An image self url' }),
    file: Type.String({ readOnly: true, description: 'An image file url' }),
    ...(hasLogins ? { stores } : {}),
    schema: Type.String({ readOnly: true, description: 'An image schema url' }),
    locations: Type.Array(
      Type.Object({
        url: Type.String({ maxLength: 255 }),
        metadata: Type.Unsafe<Record<string, unknown>>({ type: 'object' }),
        validation_data: Type.Optional(
          Type.Object(
            {
              checksum: Type.Optional(Type.String({ minLength: 32, maxLength: 32 })),
              os_hash_algo: Type.String({ maxLength: 64 }),
              os_hash_value: Type.String({ maxLength: 128 }),
            },
            {
              description:
                "Values to be used to populate the corresponding image properties. If the image status is not 'queued', values must exactly match those already contained in the image properties.",
              writeOnly: true,
              additionalProperties: false,
            },
          ),
        ),
      }),
      { description: 'A set of URLs to access the image file kept in external store' },
    ),
  }
}

const memberDocument = {
  name: 'member',
  properties: {
    member_id: Type.String({ description: 'An identifier for the image member (tenantId)' }),
    image_id: Type.String({ description: 'An identifier for the image', pattern: idPattern }),
    created_at: Type.String({ description: 'Date and time of image member creation' }),
    updated_at: Type.String({ description: 'Date and time of last modification of image member' }),
    status: oneOf(['pending', 'accepted', 'rejected'], { description: 'The status of this image member' }),
    schema: Type.String({ readOnly: true }),
  },
}

const maybeObject = (description: string) =>
  Type.Unsafe<Record<string, unknown> | null>({ description, type: ['null', 'object'] })

const briefTask = {
  id: Type.String({ description: 'An identifier for the task', pattern: idPattern }),
  type: oneOf(['import', 'api_image_import'], { description: 'The type of task represented by this content' }),
  status: oneOf(['pending', 'processing', 'success', 'failure'], { description: 'The current status of this task' }),
  owner: Type.String({ description: 'An identifier for the owner of this task' }),
  image_id: Type.String({ description: 'Image associated with the task' }),
  request_id: Type.String({ description: 'Human-readable informative request-id' }),
  user_id: Type.String({ description: 'User associated with the task' }),
  expires_at: maybeText({ description: 'Datetime when this resource would be subject to removal' }),
  created_at: Type.String({ description: 'Datetime when this resource was created' }),
  updated_at: Type.String({ description: 'Datetime when this resource was updated' }),
  self: Type.String({ readOnly: true }),
  schema: Type.String({ readOnly: true }),
}

const taskDocument = {
  name: 'task',
  properties: {
    ...briefTask,
    input: maybeObject('The parameters required by task, JSON blob'),
    result: maybeObject('The result of current task, JSON blob'),
    message: Type.String({
      description: 'Human-readable informative message only included when appropriate (usually on failure)',
    }),
  },
}

function collection(name: string, item: object, paged: boolean): object {
  const pages = paged ? { first: { type: 'string' }, next: { type: 'string' } } : {}
  return {
    name,
    properties: { [name]: { type: 'array', items: item }, ...pages, schema: { type: 'string' } },
    links: [...(paged ? [link('first', '{first}'), link('next', '{next}')] : []), link('describedby', '{schema}')],
  }
}

/** The documents under `/v2/schemas`, by name, and the rules for images in requests: every attribute may be left out, and additional properties are strings.
 *  @param hasLogins Whether clients say who they are. */
export function imageSchemas(
  formats: Formats,
  hasLogins: boolean,
): { documents: Readonly<Record<string, object>>; request: TSchema } {
  const properties = imageProperties(formats, hasLogins)
  const image = {
    name: 'image',
    properties,
    additionalProperties: { type: 'string' },
    links: [link('self', '{self}'), link('enclosure', '{file}'), link('describedby', '{schema}')],
  }
  const optional = Object.entries(properties).map(([name, schema]) => [name, Type.Optional(schema as TSchema)])
  return {
    documents: {
      image,
      images: collection('images', image, true),
      member: memberDocument,
      members: collection('members', memberDocument, false),
      task: taskDocument,
      tasks: collection('tasks', { name: 'task', properties: briefTask }, false),
    },
    request: Type.Object(Object.fromEntries(optional), { additionalProperties: Type.String() }),
  }
}
