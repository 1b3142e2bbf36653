/** What is bounded for each project. */

/** By the names that Glance registers at Keystone. Sizes are MiB there. */
export const resources = [
  'image_size_total',
  'image_stage_total',
  'image_count_total',
  'image_count_uploading',
] as const
export type Resource = (typeof resources)[number]

/** Bounds by resource, in their units; what is not there is not bounded. */
export type Limits = Partial<Record<Resource, number>>
