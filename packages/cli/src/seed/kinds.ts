/** What goes onto a seed: the words of the person who makes it, before they become files. */

/** Where cloud-init looks for it: NoCloud's `cidata`, or OpenStack's config drive. */
export const seedKinds = ['nocloud', 'config-drive'] as const
export type SeedKind = (typeof seedKinds)[number]

/** The file system of a seed. */
export const seedFileSystems = ['iso', 'fat'] as const
export type SeedFileSystem = (typeof seedFileSystems)[number]

/** A file that was given, and what it is called in messages. */
export interface GivenFile {
  name: string
  bytes: Uint8Array
}

/** What was asked for. */
export interface SeedRequest {
  kind: SeedKind
  userData?: GivenFile | undefined
  metaData?: GivenFile | undefined
  networkConfig?: GivenFile | undefined
  vendorData?: GivenFile | undefined
  /** Lines of authorized_keys. */
  sshKeys: readonly string[]
  /** As crypt(3) writes it; never the password itself. */
  passwordHash?: string | undefined
  hostname?: string | undefined
  /** What tells cloud-init that this is another machine than before; made of the content when not given. */
  instanceId?: string | undefined
}
