/** How large a qcow file gets. */
import { roundUp } from '../../bytes/integers.ts'
import type { Measure, MeasureRequest } from '../format.ts'
import { measureByStream } from '../measure-stream.ts'
import { endOfL1, planHeader } from './create.ts'
import { geometryOf } from './layout.ts'
import { streamQcow } from './stream.ts'

/** Bytes of a file with the data of a source, and of a full one. Encrypted clusters are as long as others.
 *  @throws MoraineError as `measureByStream` and `streamQcow`. */
export async function measureQcow(request: MeasureRequest): Promise<Measure> {
  const { backing_file } = request.options
  const options = backing_file === undefined ? {} : { backing_file }
  const measure = await measureByStream(streamQcow, { ...request, options }, 'qcow')
  const header = planHeader(request.source?.size ?? request.size, 0, 'qcow')
  const end = endOfL1(header)
  // Without a cluster behind it nothing fills the last one of the L1 table.
  const isEmpty = measure.required === roundUp(end, geometryOf(header).clusterSize)
  return isEmpty ? { ...measure, required: end } : measure
}
