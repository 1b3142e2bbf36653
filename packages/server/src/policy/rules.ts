/** Who may do what, when the operator says nothing else: the rules that Glance has had since its secure defaults (2023.1), by Glance's names.
 *  A reader looks, a member of the owning project also changes, an admin may do everything. Every one of them is asked; what Glance's table names
 *  and no request asks (any more) stands among the base rules. */

const own = 'project_id:%(project_id)s'
const invited = 'project_id:%(member_id)s'
const open = "'community':%(visibility)s or 'public':%(visibility)s or 'shared':%(visibility)s"

const admin = 'role:admin'
const ownReader = `${admin} or (role:reader and ${own})`
const ownMember = `${admin} or (role:member and ${own})`
const namespaceReader = `${admin} or (role:reader and (${own} or 'public':%(visibility)s))`
const service = `${admin} or role:service`

/** Rules by name. Names inside `%(…)s`: `project_id` and `owner` are the owner's project, `member_id` is the caller's project when the image is shared with it,
 *  `visibility` and the other attributes and properties are the image's. */
export const defaultRules = {
  // Images.
  add_image: `${admin} or (role:member and ${own} and project_id:%(owner)s)`,
  get_images: ownReader,
  get_image: `${admin} or (role:reader and (${own} or ${invited} or ${open}))`,
  modify_image: ownMember,
  delete_image: ownMember,
  publicize_image: admin,
  communitize_image: ownMember,
  deactivate: ownMember,
  reactivate: ownMember,

  // Image data.
  upload_image: ownMember,
  download_image: `${admin} or (role:member and (${own} or ${invited} or ${open}))`,
  export_image: 'rule:download_image',
  download_from_store: admin,
  copy_image: admin,

  // Locations.
  get_image_location: ownReader,
  set_image_location: ownMember,
  delete_image_location: admin,
  add_image_location: `${service} or (role:member and ${own})`,
  fetch_image_location: 'role:service',

  // Members.
  add_member: ownMember,
  get_member: `${admin} or (role:reader and (${own} or ${invited}))`,
  get_members: `${admin} or (role:reader and (${own} or ${invited}))`,
  modify_member: `${admin} or (role:member and ${invited})`,
  delete_member: ownMember,

  // Tasks, stores, cache.
  tasks_api_access: admin,
  stores_info_detail: service,
  cache_image: admin,
  cache_list: admin,
  list_cached_nodes: admin,
  cache_delete: admin,
  cache_clean: admin,
  cache_prune: admin,

  // Metadata definitions.
  get_metadef_namespaces: ownReader,
  get_metadef_namespace: namespaceReader,
  get_metadef_object: namespaceReader,
  get_metadef_objects: namespaceReader,
  get_metadef_property: namespaceReader,
  get_metadef_properties: namespaceReader,
  get_metadef_tag: namespaceReader,
  get_metadef_tags: namespaceReader,
  list_metadef_resource_types: namespaceReader,
  get_metadef_resource_type: namespaceReader,
  metadef_admin: admin,
  add_metadef_namespace: 'rule:metadef_admin',
  modify_metadef_namespace: 'rule:metadef_admin',
  delete_metadef_namespace: 'rule:metadef_admin',
  add_metadef_object: 'rule:metadef_admin',
  modify_metadef_object: 'rule:metadef_admin',
  delete_metadef_object: 'rule:metadef_admin',
  add_metadef_property: 'rule:metadef_admin',
  modify_metadef_property: 'rule:metadef_admin',
  remove_metadef_property: 'rule:metadef_admin',
  add_metadef_tag: 'rule:metadef_admin',
  add_metadef_tags: 'rule:metadef_admin',
  modify_metadef_tag: 'rule:metadef_admin',
  delete_metadef_tag: 'rule:metadef_admin',
  delete_metadef_tags: 'rule:metadef_admin',
  add_metadef_resource_type_association: 'rule:metadef_admin',
  remove_metadef_resource_type_association: 'rule:metadef_admin',
} as const

/** Rules of Glance that are there for others to name, in a file that an operator brings or its sample generator wrote. `context_is_admin` says who is an administrator, for `is_admin:True` and
 *  wherever no rule decides, as in lists. No request asks the others by themselves. Source: glance/policies of 25.1 (base, metadef, cache, tasks). */
export const baseRules = {
  default: '',
  context_is_admin: admin,
  metadef_default: '',
  manage_image_cache: admin,
  get_task: 'rule:default',
  get_tasks: 'rule:default',
  add_task: 'rule:default',
  modify_task: 'rule:default',
} as const

/** Rules that have taken the place of one: a file that only knows the old name still says who may. Source: glance/policies/cache.py, `deprecated_rule`. */
export const replacedRules = {
  manage_image_cache: ['cache_image', 'cache_list', 'cache_delete'],
} as const satisfies Partial<Record<keyof typeof baseRules, readonly Action[]>>

/** What may be allowed or not. */
export type Action = keyof typeof defaultRules
