/** Network block devices: exports of any NBD server as stores, and disks as exports. */
export {
  isNbdName,
  type NbdAddress,
  type NbdNameTls,
  type NbdServerAddress,
  parseNbdName,
  serverText,
} from './address.ts'
export { listNbd, type NbdListed } from './client/list.ts'
export type { Agreement } from './client/negotiate.ts'
export { type NbdOptions, nameOf, openNbd } from './client/open.ts'
export { type NbdStatus, NbdStore } from './client/store.ts'
export { type NbdServer, type ServeNbdOptions, serveNbd } from './server/serve.ts'
export { type NbdServerTls, readServerCertificates } from './server/tls.ts'
export { connectTo, type Link } from './transport/connect.ts'
export type { Receiver } from './transport/receiver.ts'
export { type NbdTls, readClientCertificates } from './transport/tls.ts'
