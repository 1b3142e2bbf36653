/** How a user says which cloud is meant and who is calling: the options that every `moraine image` command takes. Each is also read from the environment, under the name that
 *  the stock clients use (`--os-auth-url` is OS_AUTH_URL), and from clouds.yaml. */
import type { OptionSpec } from '../verb.ts'

function text(long: string, argument: string, help: string): OptionSpec & { argument: string } {
  return { long, argument, help, shared: true }
}

/** By the names of clouds.yaml, where they stand under `auth` or beside it. */
export const accessOptions = {
  cloud: text(
    'os-cloud',
    'NAME',
    'The cloud of clouds.yaml that is meant. Without it (and OS_CLOUD) the other options and variables say it all.',
  ),
  auth_type: text(
    'os-auth-type',
    'TYPE',
    'How to say who is calling: password (or v3password), token (v3token), v3applicationcredential, admin_token, none. Found out from what is given when absent.',
  ),
  auth_url: text('os-auth-url', 'URL', 'Where Keystone is.'),
  endpoint: text('os-endpoint', 'URL', 'Where the image service is, for the types none and admin_token.'),
  username: text('os-username', 'NAME', 'The user, by name.'),
  user_id: text('os-user-id', 'ID', 'The user, by id.'),
  password: text(
    'os-password',
    'TEXT',
    "The user's password. Others on this machine may see a command line: OS_PASSWORD or secure.yaml keep it.",
  ),
  user_domain_name: text('os-user-domain-name', 'NAME', "The user's domain, by name."),
  user_domain_id: text('os-user-domain-id', 'ID', "The user's domain, by id."),
  project_name: text('os-project-name', 'NAME', 'The project to work in, by name.'),
  project_id: text('os-project-id', 'ID', 'The project to work in, by id.'),
  project_domain_name: text('os-project-domain-name', 'NAME', "The project's domain, by name."),
  project_domain_id: text('os-project-domain-id', 'ID', "The project's domain, by id."),
  default_domain: text(
    'os-default-domain',
    'ID',
    'The domain, by id, of a user or project that is given by name alone.',
  ),
  domain_name: text('os-domain-name', 'NAME', 'Work in a domain rather than a project, by name.'),
  domain_id: text('os-domain-id', 'ID', 'Work in a domain rather than a project, by id.'),
  system_scope: text('os-system-scope', 'all', 'Work on the whole system rather than in a project.'),
  trust_id: text('os-trust-id', 'ID', 'Work by a trust.'),
  token: text('os-token', 'TEXT', 'A token that was had before.'),
  application_credential_id: text('os-application-credential-id', 'ID', 'An application credential, by id.'),
  application_credential_name: text(
    'os-application-credential-name',
    'NAME',
    "An application credential, by name; needs the user's too.",
  ),
  application_credential_secret: text(
    'os-application-credential-secret',
    'TEXT',
    "An application credential's secret.",
  ),
  region_name: text('os-region-name', 'NAME', 'The region whose image service is meant.'),
  interface: text('os-interface', 'NAME', 'The interface of its endpoint: public (the default), internal or admin.'),
  image_endpoint_override: text(
    'os-image-endpoint-override',
    'URL',
    'Where the image service is, whatever the catalog of Keystone says.',
  ),
  cacert: text('os-cacert', 'FILE', 'Certificates (PEM) of those who may vouch for the servers.'),
  cert: text('os-cert', 'FILE', "The client's own certificate (PEM)."),
  key: text('os-key', 'FILE', "The client certificate's key (PEM)."),
  insecure: {
    long: 'insecure',
    help: 'Believe any certificate. Whoever is in between can read and change everything.',
    shared: true,
  },
} as const satisfies Record<string, OptionSpec>

/** What was given of them on the command line. */
export type AccessValues = { readonly [Name in keyof typeof accessOptions]?: string | boolean | undefined }
