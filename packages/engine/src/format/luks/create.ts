/** Creating a LUKS container of version 1. The layout is that of `qemu-img create` 7.2: the header, the material of the first key slot, nothing where the others will have theirs, the payload. */
import { randomBytes } from '#platform'
import type { Preallocation } from '../../core/index.ts'
import { placesFor } from '../../crypt/luks-header.ts'
import type { CreatePlan, CreateTarget, Measure, MeasureRequest } from '../format.ts'
import { secretOf } from '../key-secret.ts'
import { makeLuks, planLuks } from './cipher-options.ts'

/** Writes a new container into the target's store.
 *  @throws MoraineError `invalid` and `unsupported` for the options, `denied` and `missing` for the password. */
export async function createLuks(target: CreateTarget, plan: CreatePlan): Promise<void> {
  const { store } = target
  const place = { path: store.name, format: 'luks' }
  const { header, area } = await makeLuks(target, plan.options, '', place, randomBytes)
  const payload = header.payloadSector * 512
  if (store.kind === 'device') await store.zero(0, payload, 'allocate')
  else {
    if (store.size > 0) await store.resize(0)
    await store.resize(payload + plan.size, (plan.options.preallocation as Preallocation | undefined) ?? 'off')
  }
  // The material before the header: cut short, there is no container yet.
  await store.write(4096, area.subarray(4096))
  await store.flush()
  await store.write(0, area.subarray(0, 4096))
  await store.flush()
}

/** Bytes of a container: every sector is stored. */
export async function measureLuks(request: MeasureRequest): Promise<Measure> {
  const plan = planLuks(request.options, '')
  secretOf(request.secrets, request.options['key-secret'] as string | undefined, 'key-secret', { format: 'luks' })
  const size = placesFor(plan.keyBytes).payloadSector * 512 + (request.source?.size ?? request.size)
  return { required: size, fullyAllocated: size }
}
