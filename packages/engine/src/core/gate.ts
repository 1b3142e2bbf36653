/** The gate: every file that an image names goes through it, so that nothing is opened that was not allowed. */
import { MoraineError } from './error.ts'
import type { ByteSource } from './source.ts'

/** Why an image names another file. */
export type GateRole = 'backing' | 'data-file' | 'extent' | 'parent'

/** One request: the image `from` names the file `name`. */
export interface GateRequest {
  /** Name of the image that asks, as it was opened. */
  from: string
  /** The name exactly as it stands in the image. */
  name: string
  role: GateRole
  mode: 'read' | 'write'
}

/** Decides about, resolves and opens the files that images name. */
export interface Gate {
  /** The name as the host would open it: relative names are relative to the folder of `from`, unless the gate knows another custom for the
   *  role. No file is touched. */
  resolve(request: Pick<GateRequest, 'from' | 'name'> & { role?: GateRole | undefined }): string
  /** Opens the file, a `ByteStore` when `mode` is `write`. For the role `backing` an opened `Disk` may be given instead, which is then what the image stands on,
   *  whatever format the image says it has.
   *  @throws MoraineError `denied` when it is not allowed, `missing` when it is not there. */
  open(request: GateRequest): Promise<ByteSource>
}

/** The gate that opens nothing: the default of the library and the service. */
export const closedGate: Gate = {
  resolve: ({ name }) => name,
  open: (request) =>
    Promise.reject(
      new MoraineError('denied', `the image names another file, '${request.name}', and no file may be opened`, {
        path: request.from,
        field: request.role,
        value: request.name,
        rule: 'a gate that allows it',
      }),
    ),
}
