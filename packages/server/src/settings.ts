/** The settings of the service, declared once: options of `serve`, environment variables, the file of settings, checks and the reference in the docs come from this table. */

/** One setting. */
export interface Setting<Value> {
  /** A `secret` is a text that cannot be given on the command line, where every user of the machine could read it. */
  readonly kind: 'text' | 'secret' | 'number' | 'size' | 'flag' | 'choice'
  readonly initial: Value
  readonly help: string
  /** For `choice`. */
  readonly choices?: readonly string[]
  /** For `number` and `size`. */
  readonly least?: number
  readonly most?: number
}

const text = (initial: string, help: string): Setting<string> => ({ kind: 'text', initial, help })
const secret = (help: string): Setting<string> => ({ kind: 'secret', initial: '', help })
const flag = (initial: boolean, help: string): Setting<boolean> => ({ kind: 'flag', initial, help })
const size = (initial: number, help: string): Setting<number> => ({ kind: 'size', initial, help, least: 0 })
const number = (initial: number, help: string, least = 0, most = 2 ** 31 - 1): Setting<number> => ({
  kind: 'number',
  initial,
  help,
  least,
  most,
})

const KiB = 1024
const MiB = 1024 * KiB
const TiB = 1024 * 1024 * MiB

/** Every setting. The environment variable of `imageSizeCap` is `MORAINE_IMAGE_SIZE_CAP`, and so on. */
export const settings = {
  config: text('', 'file of settings in YAML, by these names; the command line and the environment come before it'),
  host: text('127.0.0.1', 'address to listen on'),
  port: number(9292, 'TCP port to listen on; 0 takes a free one', 0, 65535),
  data: text('', 'folder of catalog and image data; empty: moraine in $XDG_STATE_HOME, or in ~/.local/state'),
  allowRemote: flag(false, 'listen on an address other than loopback, although nobody has to say who they are'),
  auth: {
    kind: 'choice',
    initial: 'none',
    choices: ['none', 'local', 'keystone'],
    help: 'who says who is calling: nobody, accounts of this service, or a Keystone',
  } as Setting<'none' | 'local' | 'keystone'>,
  allowPlainHttp: flag(
    false,
    'with accounts, listen on an address other than loopback, although passwords pass there in clear',
  ),
  adminPassword: secret(
    'password of the account admin, when it is first made; empty: one is made up and written to the data folder',
  ),
  adminPasswordFile: text('', 'file whose first line is adminPassword'),
  tokenSeconds: number(3600, 'seconds for which a token of an account is good', 60, 30 * 24 * 3600),
  loginAttempts: number(
    10,
    'wrong passwords for one account from one address, after which it is locked there; an account or an address as a whole is after ten times as many; 0: no bound',
  ),
  loginLockSeconds: number(300, 'seconds after the last wrong password for which it stays locked', 1, 24 * 3600),
  region: text('RegionOne', 'region in which the service stands in the catalog of its accounts'),
  keystoneUrl: text('', 'URL of Keystone, as in https://keystone.example:5000/v3'),
  keystoneUser: text('', 'user as whom the service checks tokens at Keystone, or the id of an application credential'),
  keystonePassword: secret('password of keystoneUser, or the secret of the application credential'),
  keystonePasswordFile: text('', 'file whose first line is keystonePassword'),
  keystoneMethod: {
    kind: 'choice',
    initial: 'password',
    choices: ['password', 'application_credential'],
    help: 'how the service itself logs in at Keystone',
  } as Setting<'password' | 'application_credential'>,
  keystoneProject: text('service', 'project of keystoneUser'),
  keystoneUserDomain: text('Default', 'name of the domain of keystoneUser'),
  keystoneProjectDomain: text('Default', 'name of the domain of keystoneProject'),
  keystoneCa: text('', 'file of certificates (PEM) that may vouch for Keystone, instead of those that Node knows'),
  keystoneCacheSeconds: number(60, 'seconds for which an answer of Keystone about a token is believed', 0, 300),
  keystoneTimeoutSeconds: number(10, 'seconds that Keystone has to answer', 1, 300),
  logLevel: {
    kind: 'choice',
    initial: 'info',
    choices: ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'],
    help: 'least severe log line that is written, to standard error, as JSON',
  } as Setting<string>,
  publicUrl: text('', 'URL under which clients reach the service, when it is not the one that they send in Host'),
  stores: text(
    '',
    'where image data lies, as in `fast=folder:/srv/fast, default; web=http`; empty: a folder in the data folder',
  ),
  importMethods: text('glance-direct,web-download,copy-image', 'ways of importing that are offered, comma-separated'),
  importSchemes: text('http,https', 'schemes of addresses that are imported from'),
  importPorts: text('80,443', 'their ports; *: any'),
  importAllowedHosts: text(
    '',
    'hosts that are imported from, as names, *.names, addresses and networks; these may be private; empty: any on the internet',
  ),
  importDeniedHosts: text('', 'hosts that are never imported from'),
  importRedirects: number(5, 'redirects that are followed'),
  importConnectSeconds: number(30, 'seconds that a connection may take', 1),
  importIdleSeconds: number(60, 'seconds without a byte after which a connection is given up', 1),
  importSeconds: number(24 * 60 * 60, 'seconds that a whole download may take', 1),
  importRetries: number(5, 'times in a row that a download is tried again without a byte in between'),
  importConvert: text('', 'format that imported images are converted to; empty: they stay as they are'),
  importDecompress: flag(false, 'unpack imported images that are gzip, xz, bzip2, zstd, LZ4 or zip'),
  importInject: text('', 'properties that imported images get, as in `origin=imported,os_type=linux`'),
  importInjectIgnoreRoles: text('admin', 'roles whose imports get none'),
  importRegions: text(
    '',
    'image services that glance-download fetches from, as in `RegionTwo=https://images.example.org`',
  ),
  catalogueFile: text(
    '',
    'file in YAML with catalogues of cloud images whose images are kept here, as docs/cloud-images.md describes it; empty: none',
  ),
  catalogueHours: number(
    24,
    'hours between two looks at a catalogue that does not say otherwise; 0: only moraine serve sync looks',
    0,
    24 * 365,
  ),
  taskLimit: number(4, 'tasks that run at once in one process', 1),
  taskHours: number(48, 'hours after which a task that is over is forgotten', 1),
  trustedProxies: text(
    '',
    'addresses and networks of proxies whose X-Forwarded-For, -Host and -Proto are believed, as in 10.0.0.0/8, ::1',
  ),
  tlsCertificate: text(
    '',
    'file with the certificate and its chain (PEM) for HTTPS; read again on SIGHUP, with tlsKey',
  ),
  tlsKey: text('', 'file with the key of tlsCertificate (PEM)'),
  metricsFrom: text('127.0.0.0/8, ::1', 'addresses and networks that may read /metrics'),
  auditFile: text(
    '',
    'file to which the audit log is added, a line of JSON for each change; empty: it is part of the log',
  ),
  showDirectUrl: flag(false, 'tell clients where image data lies: direct_url'),
  showLocations: flag(false, 'tell clients where all copies lie, and let them change that: locations'),
  locationQuota: number(10, 'most locations of one image'),
  secureHash: flag(true, 'compute the digests of data that was added by its address'),
  imageSizeCap: size(TiB, 'largest image data that is taken, in bytes'),
  storageQuota: size(0, 'most bytes that all image data together may take; 0: no bound but the disk'),
  projectSizeQuota: size(0, 'most bytes of image data of one project; 0: no bound'),
  projectStageQuota: size(0, 'most bytes of data of one project that waits to be imported; 0: no bound'),
  projectImageQuota: number(0, 'most images of one project; 0: no bound'),
  projectUploadQuota: number(0, 'most images of one project whose data may be on its way at once; 0: no bound'),
  keystoneLimits: flag(
    false,
    'take what each project may use from the unified limits of Keystone; keystoneUser needs a role on the whole system then',
  ),
  tagQuota: number(128, 'most tags of one image'),
  propertyQuota: number(128, 'most additional properties of one image'),
  memberQuota: number(128, 'most projects that one image is shared with'),
  policyFile: text(
    '',
    "file with rules of who may do what, in YAML as Glance's policy.yaml; they take the place of those built in",
  ),
  exportCacheSize: size(
    0,
    'bytes of disk that converted images may take, so that they are made once; 0: each export is made anew',
  ),
  imageCacheSize: size(
    0,
    'bytes of disk for copies of images that lie elsewhere, or that an operator asks for; 0: no such cache',
  ),
  propertyProtectionFile: text(
    '',
    "file that says who may create, read, update and delete which additional properties, as Glance's; empty: everybody all",
  ),
  propertyProtectionFormat: {
    kind: 'choice',
    initial: 'roles',
    choices: ['roles', 'policies'],
    help: 'what propertyProtectionFile names: roles, or rules of the policy',
  } as Setting<'roles' | 'policies'>,
  diskFormats: text(
    'ami, ari, aki, vhd, vhdx, vmdk, raw, qcow2, vdi, iso, ploop',
    'values that disk_format may have; gpt can be added',
  ),
  containerFormats: text('ami, ari, aki, bare, ovf, ova, docker, compressed', 'values that container_format may have'),
  requireFormatAgreement: flag(
    true,
    'ami, ari and aki must be both disk_format and container_format of an image, or neither',
  ),
  requireBootImages: flag(
    true,
    'kernel_id and ramdisk_id of an image of disk_format ami must name images that the caller sees, of disk_format aki and ari',
  ),
  listLimit: number(25, 'images on a page when the client names no limit', 1),
  listLimitMax: number(1000, 'most images on a page', 1),
  requireFormatMatch: flag(true, 'refuse image data that is not what disk_format says'),
  verifySignatures: flag(
    true,
    'refuse image data that is not what the properties img_signature… say that somebody signed, or whose certificate is not found',
  ),
  signatureCertificates: text(
    '',
    'folder with the certificates of signatures, in files called by img_signature_certificate_uuid (PEM or DER; .pem, .crt, .cer and .der may follow)',
  ),
  drainBytes: size(64 * MiB, 'bytes of a refused upload that are still read, so that the client sees the answer'),
  resumeHours: number(48, 'hours after which an upload that may go on later and does not is given up', 1, 24 * 365),
  storeSeconds: number(
    120,
    'seconds that a store may take for one step, as a write or a flush; then the request fails',
    1,
  ),
  downloadIdleSeconds: number(
    600,
    'seconds in which a client takes no byte of a download, after which it is cut off',
    1,
  ),
  uploadIdleSeconds: number(600, 'seconds without a byte after which an upload is given up', 1),
  requestRate: number(
    0,
    'requests a second that a project, or an address from which nobody has logged in, may send to one process of the service; 0: no bound',
  ),
  requestBurst: number(100, 'requests beyond requestRate that it may send within ten seconds'),
  requestSeconds: number(60, 'seconds that a request may take to arrive, image data aside', 1),
  shutdownSeconds: number(10, 'seconds that running requests get to finish when the service stops'),
} as const
